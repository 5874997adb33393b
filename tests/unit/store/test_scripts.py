import hashlib
from importlib.resources import files

import pytest

from gateway.store.scripts import Script, load_script

FRAGMENT = "ledger/lua/budgets.lua"
INCLUDE = f"-- include: {FRAGMENT}\n"


def _read(path: str) -> str:
    return files("gateway").joinpath(path).read_text(encoding="utf-8")


VERBS = sorted(
    f"tasks/lua/{file.name}"
    for file in files("gateway").joinpath("tasks/lua").iterdir()
    if file.name.endswith(".lua")
)


def _whole(path: str) -> str:
    marker = "-- include: "
    return "\n".join(
        _whole(line.removeprefix(marker)) if line.startswith(marker) else line
        for line in _read(path).split("\n")
    )


@pytest.mark.parametrize("path", VERBS)
def test_scripts_come_whole(path: str) -> None:
    """Every packaged script is its file with the named fragments in place, and nothing else."""
    assert _whole(path) == load_script(path).body
    assert "-- include:" not in load_script(path).body


@pytest.mark.parametrize(
    "path",
    [
        f"tasks/lua/{name}.lua"
        for name in ("admit", "readmit", "restore", "raise", "conclude", "give_up")
    ],
)
def test_money_moves_by_the_ledgers_verbs(path: str) -> None:
    """The scripts that move money carry the ledger's own fragment, not a copy of it."""
    body = _read(path)
    if path.endswith("admit.lua"):
        assert "-- include: tasks/lua/admission.lua\n" in body
        body = _read("tasks/lua/admission.lua")
    assert INCLUDE in body
    assert _read(FRAGMENT) in load_script(path).body


def test_name() -> None:
    """A script is named after its file."""
    assert load_script("tasks/lua/admit.lua").name == "admit"


@pytest.mark.parametrize(
    ("body", "digest"),
    [
        ("return 1", "e0e1f9fabfc9d4800c877a703b823ac0578ff8db"),
        ("-- ä", hashlib.sha1("-- ä".encode(), usedforsecurity=False).hexdigest()),
    ],
)
def test_digest_is_what_evalsha_wants(body: str, digest: str) -> None:
    """The digest is the SHA-1 of the text in UTF-8, as servers compute it."""
    assert digest == Script(name="x", body=body).digest


def test_a_script_that_is_not_packaged() -> None:
    """A path that is not in the package is a mistake of ours and says so."""
    with pytest.raises(FileNotFoundError):
        load_script("tasks/lua/nope.lua")
