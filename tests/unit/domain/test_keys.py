from __future__ import annotations

import pytest

from gateway.domain.errors import InvalidRequest, NotFound
from gateway.domain.keys import shown, without_keys

KEY = f"gw-design-2_x-{'AbC4' + 'x' * 39}"


def test_little_of_a_key_is_shown() -> None:
    """Four characters of its random part may be seen."""
    assert "gw-design-2_x-AbC4…" == shown(KEY)
    with pytest.raises(ValueError, match="made here"):
        shown("sk-something-else")


def test_texts_tell_no_key() -> None:
    """Of a key in a text its beginning stays; other texts stay as they are."""
    assert f"no key '{shown(KEY)}', and {shown(KEY)}" == without_keys(f"no key '{KEY}', and {KEY}")
    assert "no key 'gw-design'" == without_keys("no key 'gw-design'")


def test_no_error_repeats_a_key_that_was_put_in_the_wrong_place() -> None:
    """A path or the name of a field may hold one."""
    missing = NotFound(f"There is no task '{KEY}'.")
    unknown = InvalidRequest(f"Unknown parameter: '{KEY}'.", param=KEY, code="unknown_parameter")

    for told in (missing.message, str(missing), unknown.message, str(unknown.param)):
        assert KEY not in told
        assert shown(KEY) in told
