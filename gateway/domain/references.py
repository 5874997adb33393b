"""References of an edit: how many, how large, where they are kept, how a record tells of them."""

from __future__ import annotations

from gateway.domain.ids import TeamId
from gateway.domain.images import (
    KeptReference,
    LinkedReference,
    PictureFormat,
    Reference,
    References,
)

#: What OpenAI and EvoLink take (protocols/openai_images.md §3.1, evolink.md §2.3).
MAX_REFERENCES = 16
MAX_REFERENCE_BYTES = 50_000_000


def reference_key(team: TeamId, reference: KeptReference) -> str:
    """Name a reference in the asset store: each call has a copy of its own, to be rid of it."""
    place = f"{reference.place}/" if reference.place else ""
    return f"{team}/references/{place}{reference.digest}"


def is_reference(key: str) -> bool:
    """Tell whether a key of the asset store is a reference's, and no picture's."""
    return key.split("/")[1:2] == ["references"]


def references_said(references: References) -> dict[str, object]:
    """Return references as JSON, for the record of a task."""
    said: dict[str, object] = {"pictures": [_said(each) for each in references.pictures]}
    if references.mask is not None:
        said["mask"] = _said(references.mask)
    return said


def parse_references(said: dict[str, object]) -> References:
    """Read what `references_said` returned, nothing for none.

    Raises TypeError or ValueError for anything else.
    """
    pictures, mask = said.get("pictures", []), said.get("mask")
    if not isinstance(pictures, list):
        raise TypeError("pictures must be a list")
    return References(
        tuple(_parsed(each) for each in pictures), None if mask is None else _parsed(mask)
    )


def _said(reference: Reference) -> dict[str, object]:
    if isinstance(reference, LinkedReference):
        return {"url": reference.url}
    return {
        "digest": reference.digest,
        "format": reference.format.value,
        "size_bytes": reference.size_bytes,
        "place": reference.place,
    }


def _parsed(said: object) -> Reference:
    match said:
        case {"url": str(url)}:
            return LinkedReference(url)
        case {"digest": str(digest), "format": str(kind), "size_bytes": int(size_bytes), **rest}:
            place = str(rest.get("place", ""))
            return KeptReference(digest, PictureFormat(kind), size_bytes, place=place)
    raise ValueError("not a reference")
