"""Fail when a source file is longer than 400 lines and is not listed here with its reason."""

from __future__ import annotations

import sys
from pathlib import Path

LIMIT_LINES = 400
ROOT = Path(__file__).resolve().parent.parent

#: Files that may be longer, and why. The list may only shrink: an entry that is no longer needed
#: fails the check too.
LONGER: dict[str, str] = {}


def main() -> int:
    """Print every file that is too long, and every exception that is none; return an exit code."""
    problems = []
    for path in sorted(ROOT.glob("gateway/**/*")) + sorted(ROOT.glob("scripts/*")):
        if path.suffix not in {".py", ".lua"}:
            continue
        name = path.relative_to(ROOT).as_posix()
        lines = len(path.read_text(encoding="utf-8").splitlines())
        if lines > LIMIT_LINES and name not in LONGER:
            problems.append(f"{name}: {lines} lines, more than {LIMIT_LINES}")
        if lines <= LIMIT_LINES and name in LONGER:
            problems.append(f"{name}: {lines} lines, take it off the list of longer files")
    print("\n".join(problems) or "lengths: ok")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
