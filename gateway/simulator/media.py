"""File types by their first bytes."""

_PNG = b"\x89PNG\r\n\x1a\n"


def media_type(content: bytes) -> str:
    """Return the type of a picture that EvoLink's file service takes, or nothing (§7)."""
    if content.startswith(_PNG):
        return "image/png"
    if content.startswith(b"\xff\xd8\xff"):
        return "image/jpeg"
    if content.startswith((b"GIF87a", b"GIF89a")):
        return "image/gif"
    if content.startswith(b"RIFF") and content[8:12] == b"WEBP":
        return "image/webp"
    return ""
