"""Lua scripts as files: read once, put together from fragments, called by digest.

A script may begin its lines with ``-- include: <package path>``: the named file is put there. So
the ledger's verbs live with the ledger and are part of whichever script needs them atomically.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files

_INCLUDE = re.compile(r"^-- include: (\S+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Script:
    """One atomic verb: its full text, and the SHA-1 by which a server knows it."""

    name: str
    body: str
    #: The hex digest that EVALSHA wants.
    digest: str = field(init=False)

    def __post_init__(self) -> None:
        digest = hashlib.sha1(self.body.encode(), usedforsecurity=False).hexdigest()
        object.__setattr__(self, "digest", digest)


@cache
def load_script(path: str) -> Script:
    """Read a packaged script such as ``tasks/lua/admit.lua`` with its fragments in place."""
    return Script(name=path.rsplit("/", 1)[-1].removesuffix(".lua"), body=_assemble(path))


def _assemble(path: str) -> str:
    text = files("gateway").joinpath(path).read_text(encoding="utf-8")
    return _INCLUDE.sub(lambda match: _assemble(match[1]), text)
