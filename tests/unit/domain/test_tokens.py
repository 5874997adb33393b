from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.domain.tokens import Purpose, Signer

SIGNER = Signer((b"new", b"old"))


@given(st.text())
def test_a_token_carries_its_text(payload: str) -> None:
    """Whatever the text, and nothing in it has to be escaped in a URL."""
    token = SIGNER.token(Purpose.CALLBACK, payload)

    assert payload == SIGNER.payload(Purpose.CALLBACK, token)
    assert token.replace(".", "").replace("-", "").replace("_", "").isalnum() or not payload


@pytest.mark.parametrize(
    "token",
    ["", ".", "abc", "abc.", ".abc", "a.b.c", "💥.💥", SIGNER.token(Purpose.ASSET, "x")],
)
def test_what_we_have_not_written_is_no_token(token: str) -> None:
    """Rubbish, and a token for another purpose."""
    assert None is SIGNER.payload(Purpose.CALLBACK, token)


def test_a_changed_token_is_no_token() -> None:
    """Neither the text nor the signature can be changed."""
    head, _, signature = SIGNER.token(Purpose.CALLBACK, "team/task/0").partition(".")
    other = SIGNER.token(Purpose.CALLBACK, "team/task/1").partition(".")[0]

    assert None is SIGNER.payload(Purpose.CALLBACK, f"{other}.{signature}")
    assert None is SIGNER.payload(Purpose.CALLBACK, f"{head}.{signature[::-1]}")


def test_an_old_secret_is_believed_while_it_is_known() -> None:
    """Tokens outlive a rotation, and end with the old secret."""
    old = Signer((b"old",)).token(Purpose.CALLBACK, "x")

    assert "x" == SIGNER.payload(Purpose.CALLBACK, old)
    assert None is Signer((b"new",)).payload(Purpose.CALLBACK, old)
