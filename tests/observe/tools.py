"""Programs that pip cannot bring."""

from __future__ import annotations

import os
import shutil

import pytest

#: Debian's package `prometheus` has both.
MISSING = [name for name in ("prometheus", "promtool") if shutil.which(name) is None]

#: Skips on a laptop without Prometheus; where CI is set it has to be there.
needs_prometheus = pytest.mark.skipif(
    bool(MISSING) and not os.environ.get("CI"),  # noqa: TID251 - tests read it as pytest does
    reason="needs Prometheus: apt install prometheus",
)
