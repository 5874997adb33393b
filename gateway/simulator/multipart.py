"""Read ``multipart/form-data`` that is in memory already (RFC 7578)."""

import re
from dataclasses import dataclass
from email.message import Message

from gateway.simulator.query_faults import invalid_file

_DISPOSITION = re.compile(rb"(?im)^content-disposition:[ \t]*(.*)$")


@dataclass(frozen=True, slots=True)
class Part:
    """Hold one part of a form."""

    name: str
    file_name: str | None
    content: bytes


def read_form(content_type: str, content: bytes) -> list[Part]:
    """Return the parts of a form; raise ``FileRefusedError`` (400) for anything else."""
    kind = Message()
    kind["content-type"] = content_type
    boundary = kind.get_param("boundary")
    if kind.get_content_type() != "multipart/form-data" or not isinstance(boundary, str):
        raise invalid_file("the body is not multipart/form-data")
    # A delimiter starts with the line break before it; the first one may lack that.
    pieces = (b"\r\n" + content).split(b"\r\n--" + boundary.encode("latin-1", "replace"))
    if len(pieces) < len(("before", "after")) or not pieces[-1].startswith(b"--"):
        raise invalid_file("the form is not complete")
    return [_part(piece) for piece in pieces[1:-1]]


def _part(piece: bytes) -> Part:
    head, found, content = piece.removeprefix(b"\r\n").partition(b"\r\n\r\n")
    disposition = _DISPOSITION.search(head)
    if not found or disposition is None:
        raise invalid_file("a part of the form has no name")
    header = Message()
    header["content-disposition"] = disposition[1].strip().decode("utf-8", "replace")
    name = header.get_param("name", header="content-disposition")
    file_name = header.get_filename()
    if not isinstance(name, str):
        raise invalid_file("a part of the form has no name")
    return Part(name, file_name, content)
