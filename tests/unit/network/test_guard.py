from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence

import pytest

from gateway.domain.destinations import parse_allowed
from gateway.network.guard import DestinationRefusedError, Guard
from tests.support.receiver import Names

PUBLIC_4, PUBLIC_6 = "93.184.215.14", "2606:4700::1111"


def guard_of(*allow: str, **answers: Sequence[str]) -> Guard:
    """Return a guard for which each of these names (with _ for .) has one answer."""
    table = {name.replace("_", "."): [found] for name, found in answers.items()}
    return Guard([parse_allowed(text) for text in allow], lookup=Names(table))


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://hooks.example/a?b=c#d", ("hooks.example", 443)),
        ("https://Hooks.Example.:8443/", ("hooks.example.", 8443)),
        (f"https://{PUBLIC_4}/", (PUBLIC_4, 443)),
        (f"https://[{PUBLIC_6}]:444/", (PUBLIC_6, 444)),
        ("https://пример.example/", ("xn--e1afmkfd.example", 443)),
    ],
)
def test_public_hosts_pass(url: str, expected: tuple[str, int]) -> None:
    """Host and port are returned as they will be asked for."""
    assert expected == guard_of().check_url(url)


@pytest.mark.parametrize(
    "url",
    [
        *("", "hooks.example", "//hooks.example/", "/path", "mailto:a@b", "https://", "https:///a"),
        *("ftp://hooks.example/", "file:///etc/passwd", "gopher://hooks.example/"),
        *("http://hooks.example/", "HTTP://hooks.example/", "https://hooks.example:x/"),
        *(
            "https://hooks.example:65536/",
            "https://hooks.example:0/",
            "https://user@hooks.example/",
            "https://u:p@hooks.ex/",
        ),
        *("https://hooks.example\\@127.0.0.1/", "https://hooks.example /", "https://a\tb.example/"),
        *("https://hooks.example/\n", "https://[::1/", "https://[hooks.example]/"),
        *("https://a%2eexample/", "https://127.0.0.%31/", "https://-a.example/", "https://a..b/"),
        *("https://%31%32%37.0.0.1/", "https://hooks.example%00.internal/"),
        *("https://hooks.example/a b", "https://hooks.example/a\\b", "https://hooks.example/\r\na"),
    ],
)
def test_other_schemes_credentials_and_unclear_urls_are_refused(url: str) -> None:
    """What is no https URL, or what two readers might read differently, is refused unresolved."""
    with pytest.raises(DestinationRefusedError):
        guard_of().check_url(url)


@pytest.mark.parametrize(
    "host",
    [
        *("127.0.0.1", "127.0.0.1.", "10.0.0.1", "172.16.0.1", "192.168.1.1", "169.254.169.254"),
        *("100.64.0.1", "0.0.0.0", "0", "224.0.0.1", "255.255.255.255", "127.1", "127.0.1"),
        *("2130706433", "017700000001", "0x7f000001", "0x7F.1", "0177.0.0.1", "0x7f.0x0.0x0.0x1"),
        *("127.0.0.01", "0x", "1.1.1.1.1", "256.1.1.1", "08.08.08.08", "127。0。0。1", "①②⑦.0.0.1"),
        *("[::1]", "[::]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[::ffff:8.8.8.8]"),
        *("[::127.0.0.1]", "[64:ff9b::7f00:1]", "[64:ff9b::8.8.8.8]", "[2002:7f00:1::]"),
        *("[2001:0:4136:e378:8000:63bf:3fff:fdd2]", "[fe80::1]", "[fc00::1]", "[ff02::1]"),
        *("[0:0:0:0:0:0:0:1]", "[0000::1]"),
    ],
)
def test_every_way_to_write_a_forbidden_address_is_refused(host: str) -> None:
    """Dotted, short, decimal, octal, hexadecimal, full-width, mapped and translated forms."""
    with pytest.raises(DestinationRefusedError):
        guard_of().check_url(f"https://{host}/")


@pytest.mark.parametrize(
    "found",
    [
        ["127.0.0.1"],
        ["::1"],
        ["::ffff:127.0.0.1"],
        ["64:ff9b::5db8:d70e"],
        ["fe80::1%eth0"],
        [PUBLIC_4, "10.0.0.1"],
        ["10.0.0.1", PUBLIC_6],
    ],
)
async def test_a_name_with_one_forbidden_address_is_refused(found: list[str]) -> None:
    """Public addresses beside a forbidden one do not save the name."""
    with pytest.raises(DestinationRefusedError, match="not on the public Internet"):
        await guard_of(hooks_example=found).resolve("hooks.example", 443)


async def test_a_public_name_is_resolved_once_to_all_of_its_addresses() -> None:
    """The answer that was checked is the answer that is returned, in its order."""
    names = Names({"hooks.example": [[PUBLIC_6, PUBLIC_4], ["127.0.0.1"]]})

    assert (PUBLIC_6, PUBLIC_4) == await Guard(lookup=names).resolve("Hooks.Example.", 443)
    assert ["hooks.example"] == names.asked


async def test_an_address_is_not_looked_up() -> None:
    """A literal address is its own answer, or refused."""
    assert (PUBLIC_4,) == await guard_of().resolve(PUBLIC_4, 443)
    with pytest.raises(DestinationRefusedError):
        await guard_of().resolve("127.0.0.1", 443)
    with pytest.raises(DestinationRefusedError):
        await guard_of().resolve("2130706433", 443)


async def test_an_allowed_name_may_have_any_address() -> None:
    """An operator's own name may be private; on its port only, and nothing below it."""
    guard = guard_of("hooks.internal:9000", hooks_internal=["10.0.0.7"], a_hooks_internal=["::1"])

    assert ("10.0.0.7",) == await guard.resolve("hooks.internal", 9000)
    with pytest.raises(DestinationRefusedError):
        await guard.resolve("hooks.internal", 9001)
    with pytest.raises(DestinationRefusedError):
        await guard.resolve("a.hooks.internal", 9000)


async def test_a_name_that_leads_to_an_allowed_address_passes() -> None:
    """An allowed network takes whatever resolves into it."""
    guard = guard_of("10.1.0.0/16", one_example=["10.1.0.1"], two_example=["10.1.0.1", "10.2.0.1"])

    assert ("10.1.0.1",) == await guard.resolve("one.example", 443)
    with pytest.raises(DestinationRefusedError):
        await guard.resolve("two.example", 443)


def test_only_allowed_hosts_may_do_without_tls() -> None:
    """An allowed name, or an address written out, may be http; a name that may lead there not."""
    guard = guard_of("hooks.internal", "127.0.0.1:9000", "10.1.0.0/16")

    assert ("hooks.internal", 80) == guard.check_url("http://hooks.internal/")
    assert ("127.0.0.1", 9000) == guard.check_url("http://127.0.0.1:9000/")
    assert ("10.1.2.3", 80) == guard.check_url("http://10.1.2.3/")
    for url in ("http://hooks.example:9000/", "http://127.0.0.1:9001/", f"http://{PUBLIC_4}/"):
        with pytest.raises(DestinationRefusedError):
            guard.check_url(url)


def test_a_guard_for_pictures_takes_http_too() -> None:
    """The schemes are the builder's choice; other ones stay refused."""
    guard = Guard(schemes=frozenset({"http", "https"}), lookup=Names({}))

    assert ("files.example", 80) == guard.check_url("http://files.example/")
    with pytest.raises(DestinationRefusedError, match="http:// or https://"):
        guard.check_url("ftp://files.example/")


async def test_no_address_is_an_error_and_no_refusal() -> None:
    """A name that nobody knows, or that has no address, cannot be reached for the moment."""
    for guard in (guard_of(), guard_of(hooks_example=[])):
        with pytest.raises(OSError) as caught:  # noqa: PT011 - any but a refusal
            await guard.resolve("hooks.example", 443)
        assert not isinstance(caught.value, DestinationRefusedError)


async def test_a_lookup_that_hangs_is_ended() -> None:
    """A name server that never answers costs its limit and no more."""

    async def hang(_: str) -> Sequence[str]:
        await asyncio.Event().wait()
        raise AssertionError

    with pytest.raises(socket.gaierror, match="too long"):
        await Guard(lookup=hang, lookup_timeout_s=0.01).resolve("hooks.example", 443)


async def test_the_system_knows_localhost_and_it_is_refused() -> None:
    """The resolver of the system is asked by default, and what it says is checked."""
    with pytest.raises(DestinationRefusedError):
        await Guard().resolve("localhost", 443)
    assert set(await Guard([parse_allowed("localhost")]).resolve("localhost", 443)) <= {
        "127.0.0.1",
        "::1",
    }


def test_a_refusal_holds_no_address() -> None:
    """What a client reads about its host tells nothing about the network inside."""
    with pytest.raises(DestinationRefusedError) as caught:
        guard_of().check_url("https://10.1.2.3/secret")

    assert "10.1" not in str(caught.value)
    assert "secret" not in str(caught.value)
