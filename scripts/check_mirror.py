"""Fail when a module has no test of its name, or a test mirrors no module.

gateway/x/y.py is mirrored by tests/unit/x/test_y.py (nothing started) or by
tests/integration/x/test_y.py (real servers, sockets, files); what only means something in the
running product is mirrored under tests/e2e, where other tests are named after a promise instead.
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
STOREYS = ("unit", "integration", "e2e")

#: Modules without a test of their own, and why. The list may only shrink.
UNMIRRORED = {
    "__main__.py": "one line that calls cli/main.py",
    "access/interface.py": "only a protocol",
    "assets/interface.py": "only protocols and values",
    "ledger/interface.py": "only protocols and values",
    "providers/interface.py": "only a protocol and values",
    "tasks/interface.py": "only a protocol and values",
    **dict.fromkeys(
        (
            *("assembly/build.py", "assembly/from_settings.py", "assembly/front.py"),
            *("assembly/gateway.py", "assembly/gauges.py", "assembly/house.py"),
            *("assembly/traces.py", "assembly/ways_out.py"),
        ),
        "every test under tests/e2e runs what it wires",
    ),
}

#: Tests that mirror no module but hold a promise that several keep together.
OF_THEIR_OWN = {
    "integration/ledger/test_organization_machine.py": "its purse against a plain model",
    "integration/providers/test_evolink_variants.py": "every variant on record, row by row",
    "integration/tasks/test_contention.py": "the money test: many reservers, one budget",
    "integration/tasks/test_books_machine.py": "any history of the books against a plain model",
    "integration/tasks/test_failover.py": "what an asynchronous failover loses, under load",
    "integration/tasks/test_joins.py": "which task a call is a retry of, in the one script for it",
    "integration/tasks/test_widening.py": "what a budget holds that comes while pictures are made",
    "unit/test_leaks.py": "the suite's own watch over secrets",
    "integration/tasks/test_limits.py": "every limit of a call, in the one script that takes them",
}


def main() -> int:
    """Print every gap in the mirror; return an exit code."""
    modules = {
        path.relative_to(ROOT / "gateway").as_posix()
        for path in (ROOT / "gateway").glob("**/*.py")
        if path.name != "__init__.py"
    }
    tests = {
        path.relative_to(ROOT / "tests").as_posix()
        for storey in STOREYS
        for path in (ROOT / "tests" / storey).glob("**/test_*.py")
    }
    mirrored = {test: _module_of(test) for test in tests}
    problems = [
        f"gateway/{module}: no tests/unit or tests/integration mirror"
        for module in sorted(modules - set(mirrored.values()) - UNMIRRORED.keys())
    ]
    problems += [
        f"gateway/{module}: has a mirror or is gone; take it off the list"
        for module in sorted(UNMIRRORED)
        if module in mirrored.values() or module not in modules
    ]
    problems += [
        f"tests/{test}: there is no gateway/{module}"
        for test, module in sorted(mirrored.items())
        if module not in modules and test not in OF_THEIR_OWN and not test.startswith("e2e/")
    ]
    print("\n".join(problems) or "mirror: ok")
    return 1 if problems else 0


def _module_of(test: str) -> str:
    """Return the module that `unit/x/test_y.py` mirrors: `x/y.py`."""
    path = Path(*Path(test).parts[1:])
    return (path.parent / path.name.removeprefix("test_")).as_posix()


if __name__ == "__main__":
    sys.exit(main())
