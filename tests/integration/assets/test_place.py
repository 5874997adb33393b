import stat
from pathlib import Path

import pytest

from gateway.assets.interface import AssetUnavailableError
from gateway.assets.object_store import ObjectAssetStore
from gateway.assets.place import AssetPlace, open_place
from tests.support.seaweed import Seaweed

SECRET = "S3CR3T-that-nobody-may-see"


def test_the_folder_is_made_for_its_owner_only(tmp_path: Path) -> None:
    """Pictures of several teams are nobody else's business on this machine."""
    open_place(AssetPlace(f"file:{tmp_path / 'var' / 'assets'}"))

    assert stat.S_IMODE((tmp_path / "var" / "assets").stat().st_mode) == 0o700


@pytest.mark.parametrize("url", ["", "file:", "file:var/assets", "ftp://bucket", "memory:x", "/v"])
def test_other_urls_are_refused(url: str) -> None:
    """Only absolute folders, memory and three kinds of buckets are stores."""
    with pytest.raises(ValueError, match="expected file:"):
        open_place(AssetPlace(url))


def test_a_folder_that_cannot_be_made_is_unavailable(tmp_path: Path) -> None:
    """A file in the way is told at start-up."""
    (tmp_path / "file").write_bytes(b"")

    with pytest.raises(AssetUnavailableError, match="assets cannot be used: Not a directory"):
        open_place(AssetPlace(f"file:{tmp_path / 'file' / 'assets'}"))


@pytest.mark.parametrize(
    ("place", "reason"),
    [
        (AssetPlace("s3://pictures", access_key="a"), "Missing SecretAccessKey"),
        (AssetPlace("gs://pictures", secret_key=SECRET), "service account"),
        (AssetPlace("az://pictures"), "Account must be specified"),
        (AssetPlace("az://pictures", access_key="a", secret_key=SECRET), "Invalid Access Key"),
    ],
)
def test_what_is_missing_is_told_at_the_start(place: AssetPlace, reason: str) -> None:
    """A store that can never be opened ends the start, in words that hold no secret."""
    with pytest.raises(AssetUnavailableError, match=reason) as caught:
        open_place(place)

    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    "place",
    [
        AssetPlace("gs://pictures/a"),
        AssetPlace("az://pictures/a", access_key="account", secret_key="c2VjcmV0"),
        AssetPlace("az://pictures", "http://127.0.0.1:9", access_key="a", secret_key="c2VjcmV0"),
        AssetPlace("s3://pictures/a", region="eu-west-1"),
    ],
)
def test_a_store_far_away_is_not_asked_at_the_start(place: AssetPlace) -> None:
    """A gateway starts before its store does; readiness says what is missing."""
    open_place(place)


async def test_a_wrong_key_is_unavailable_and_not_shown(seaweed: Seaweed) -> None:
    """S3 refuses the signature; what is told names neither key nor place."""
    store = ObjectAssetStore.open(seaweed.place(secret_key=SECRET))

    with pytest.raises(AssetUnavailableError) as caught:
        await store.ping()

    assert str(caught.value) == "cannot write: PermissionDeniedError"
