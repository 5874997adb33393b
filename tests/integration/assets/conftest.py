"""Places for pictures, the real S3 among them."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.assets.place import AssetPlace
from tests.support.seaweed import Seaweed


@pytest.fixture
def folder(tmp_path: Path) -> AssetPlace:
    """Return a place in a folder."""
    return AssetPlace(f"file:{tmp_path / 'assets'}")


@pytest.fixture(params=["file", "memory", "s3"])
def place(request: pytest.FixtureRequest) -> AssetPlace:
    """Return an empty place of each kind."""
    match request.param:
        case "file":
            made: AssetPlace = request.getfixturevalue("folder")
            return made
        case "memory":
            return AssetPlace("memory:")
        case _:
            server: Seaweed = request.getfixturevalue("seaweed")
            return server.place()
