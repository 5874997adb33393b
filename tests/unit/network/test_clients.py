import ssl
from pathlib import Path

import certifi
import pytest

from gateway.network.clients import build_submit_client, tls_context


def test_a_ca_file_takes_the_place_of_the_packaged_list(tmp_path: Path) -> None:
    """With a CA file only its certificates are trusted."""
    end = "-----END CERTIFICATE-----\n"
    first = Path(certifi.where()).read_text(encoding="utf-8").split(end)[0] + end
    bundle = tmp_path / "ca.pem"
    bundle.write_text(first, encoding="utf-8")

    assert len(tls_context(str(bundle)).get_ca_certs()) == 1
    assert len(tls_context("").get_ca_certs()) > 100


def test_the_packaged_list_is_read_once() -> None:
    """However many clients there are: reading it is a good part of what a start costs."""
    assert tls_context("") is tls_context("")


def test_only_http_1_is_offered() -> None:
    """The handshake names the one protocol that the transport speaks."""
    outgoing = ssl.MemoryBIO()
    handshake = tls_context("").wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname="api.example")

    with pytest.raises(ssl.SSLWantReadError):
        handshake.do_handshake()

    # A list of nine bytes: one length and eight letters.
    assert b"\x00\x09\x08http/1.1" in outgoing.read()


@pytest.mark.parametrize("content", [None, "", "not a certificate"])
def test_a_ca_file_that_cannot_be_read_is_named(tmp_path: Path, content: str | None) -> None:
    """A missing or broken CA file is a mistake that names the file."""
    bundle = tmp_path / "ca.pem"
    if content is not None:
        bundle.write_text(content, encoding="utf-8")

    with pytest.raises(ValueError, match=r"cannot read certificates from .*ca\.pem"):
        build_submit_client(ca_file=str(bundle))
