import pytest

from gateway.simulator.multipart import Part, read_form
from gateway.simulator.query_faults import FileRefusedError

KIND = "multipart/form-data; boundary=xyz"


def form(*parts: bytes) -> bytes:
    """Return a form of parts, as a browser writes it."""
    return b"".join(b"--xyz\r\n" + part + b"\r\n" for part in parts) + b"--xyz--\r\n"


def test_fields_and_files() -> None:
    """Names, file names and contents come back byte for byte."""
    content = form(
        b'Content-Disposition: form-data; name="upload_path"\r\n\r\nphotos',
        b"Content-Type: image/png\r\n"
        b'content-disposition: form-data; name="file"; filename="a b.png"\r\n\r\n'
        b"\r\n\x00--xy\xff\n",
    )

    assert [
        Part("upload_path", None, b"photos"),
        Part("file", "a b.png", b"\r\n\x00--xy\xff\n"),
    ] == read_form(KIND, content)


def test_quoted_boundary_and_preamble() -> None:
    """What comes before the first delimiter does not count."""
    kind = 'multipart/form-data; boundary="xyz"'
    content = b"preamble\r\n" + form(b'Content-Disposition: form-data; name="a"\r\n\r\n1')

    assert [Part("a", None, b"1")] == read_form(kind, content)


def test_empty_form() -> None:
    """A form may have no parts."""
    assert [] == read_form(KIND, b"--xyz--\r\n")


@pytest.mark.parametrize(
    ("kind", "content"),
    [
        ("", form()),
        ("application/json", form()),
        ("multipart/form-data", form()),
        (KIND, b""),
        (KIND, b"--xyz\r\n"),
        (KIND, form(b"no head")),
        (KIND, form(b"Content-Type: image/png\r\n\r\n1")),
        (KIND, form(b'Content-Disposition: form-data; filename="x"\r\n\r\n1')),
    ],
)
def test_no_forms(kind: str, content: bytes) -> None:
    """What is no whole form is 400."""
    with pytest.raises(FileRefusedError) as refused:
        read_form(kind, content)

    assert 400 == refused.value.problem.code
