"""Fail when a page leads to a file, a heading or a source file that is not there."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGES = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]

_CODE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_SOURCE = re.compile(r"[\w/.-]+\.(?:py|lua|yml)\b")

#: Source files that pages speak of and that are not ours.
OTHERS = {"asyncio/cluster.py", "asyncio/sentinel.py"}


def anchors_of(page: Path) -> set[str]:
    """Return what links into a page may name: its headings as GitHub writes them."""
    text = _CODE.sub("", page.read_text(encoding="utf-8"))
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}


def dead_links(page: Path, text: str) -> Iterator[str]:
    """Yield each link into this repository that leads nowhere."""
    for link in _LINK.findall(text):
        if re.match(r"\w+:", link):
            continue
        place, _, anchor = link.partition("#")
        target = page.parent / place if place else page
        if not target.exists():
            yield f"no such file: {link}"
        elif anchor and anchor not in anchors_of(target):
            yield f"no such heading: {link}"


def unknown_sources(text: str, known: set[str]) -> Iterator[str]:
    """Yield each source file that is named and that no file of the repository ends like."""
    for words in re.findall(r"`([^`\n]+)`", text):
        for name in _SOURCE.findall(words):
            if name not in OTHERS and not any(path.endswith(f"/{name}") for path in known):
                yield f"no such source: {name}"


def main() -> int:
    """Print everything that is not there; return an exit code."""
    folders = ("gateway", "tests", "scripts", "deploy")
    known = {
        f"/{path.relative_to(ROOT).as_posix()}"
        for folder in folders
        for path in (ROOT / folder).rglob("*.*")
    }
    problems = []
    for page in sorted(PAGES):
        text = _CODE.sub("", page.read_text(encoding="utf-8"))
        # A test's folder is told once in a row of a table: `…/test_x.py` is beside the one before.
        found = [*dead_links(page, text), *unknown_sources(text.replace("…/", ""), known)]
        problems += [f"{page.relative_to(ROOT)}: {one}" for one in found]
    print("\n".join(problems) or "docs: ok")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
