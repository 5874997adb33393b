from __future__ import annotations

from ipaddress import ip_address, ip_network

import pytest

from gateway.domain.destinations import Allowed, is_name, is_public, parse_allowed


@pytest.mark.parametrize(
    "text",
    [
        *("0.0.0.0", "0.1.2.3", "10.0.0.1", "10.255.255.255", "100.64.0.1", "100.100.100.200"),
        *("127.0.0.1", "127.255.255.254", "168.63.129.16", "169.254.169.254", "172.16.0.1"),
        *("172.31.255.255", "192.0.0.192", "192.0.2.1", "192.88.99.1", "192.168.0.1"),
        *("198.18.0.1", "198.19.255.255", "198.51.100.1", "203.0.113.1", "224.0.0.1"),
        *("239.255.255.255", "240.0.0.1", "255.255.255.255"),
        *("::", "::1", "::127.0.0.1", "::ffff:127.0.0.1", "::ffff:8.8.8.8", "::ffff:0:8.8.8.8"),
        *("64:ff9b::7f00:1", "64:ff9b::808:808", "64:ff9b:1::1", "100::1", "fc00::1"),
        *("fd00:ec2::254", "fe80::1", "fe80::1%eth0", "fec0::1", "ff02::1", "5f00::1"),
        *("2001::1", "2001:10::1", "2001:20::1", "2001:db8::1", "2002:7f00:1::", "3fff::1"),
        *("4000::1",),
    ],
)
def test_special_addresses_are_not_public(text: str) -> None:
    """Private, local, reserved, documentation and translated addresses are all refused."""
    assert not is_public(ip_address(text))


@pytest.mark.parametrize(
    "text",
    [
        *("1.1.1.1", "9.255.255.255", "11.0.0.0", "100.63.255.255", "100.128.0.0", "126.0.0.1"),
        *("128.0.0.0", "168.63.129.15", "169.253.0.1", "172.15.255.255", "172.32.0.0"),
        *("192.0.1.0", "192.167.0.1", "192.169.0.1", "198.17.0.1", "198.20.0.1", "223.255.0.1"),
        *("2606:4700:4700::1111", "2001:200::1", "2001:4860:4860::8888", "2a00:1450::1"),
        *("2003::1", "3ffe::1"),
    ],
)
def test_their_neighbours_are_public(text: str) -> None:
    """What lies just outside of each special range is not refused with it."""
    assert is_public(ip_address(text))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("hooks.internal", Allowed("hooks.internal", None, None)),
        ("Hooks.Internal.:8443", Allowed("hooks.internal", None, 8443)),
        ("localhost", Allowed("localhost", None, None)),
        ("127.0.0.1:9000", Allowed(None, ip_network("127.0.0.1/32"), 9000)),
        ("127.0.0.1", Allowed(None, ip_network("127.0.0.1/32"), None)),
        ("10.1.0.0/16", Allowed(None, ip_network("10.1.0.0/16"), None)),
        ("fd00::/8", Allowed(None, ip_network("fd00::/8"), None)),
        ("::1", Allowed(None, ip_network("::1/128"), None)),
        ("[::1]", Allowed(None, ip_network("::1/128"), None)),
        ("[::1]:9000", Allowed(None, ip_network("::1/128"), 9000)),
    ],
)
def test_what_is_allowed_is_read(text: str, expected: Allowed) -> None:
    """Names, addresses and networks, with or without a port."""
    assert expected == parse_allowed(text)


@pytest.mark.parametrize(
    "text",
    [
        *("", ":", "https://hooks.internal", "hooks.internal/path", "hooks.internal:", "a b"),
        *("hooks.internal:0", "hooks.internal:65536", "hooks.internal:x", "127.0.0.1:٣"),
        *("10.1.0.1/16", "10.0.0.0/8:9000", "2130706433", "0x7f000001", "127.1", "[::1", "*.x"),
    ],
)
def test_anything_else_is_a_mistake(text: str) -> None:
    """Schemes, paths, wild cards, ports out of range and numbers as hosts are refused."""
    with pytest.raises(ValueError, match=r"^expected a host such as"):
        parse_allowed(text)


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        *((name, True) for name in ("a", "hooks.example", "x_y.example", "xn--e1a.example")),
        *((name, True) for name in ("1.example", "0x7f.example", "a" * 63 + ".example")),
        *((name, False) for name in ("", ".", "a..b", "-a.example", "a-.example", "a b")),
        *((name, False) for name in ("1", "127.1", "0x7f.0.0.1", "0x7f000001", "a.0x", "a.1")),
        *((name, False) for name in ("a%31.example", "a" * 64 + ".example", "a." * 127 + "ab")),
    ],
)
def test_numbers_are_no_names(host: str, *, expected: bool) -> None:
    """A host whose last part is a number in any base is an address in disguise."""
    assert expected == is_name(host)


def test_a_network_takes_only_its_addresses() -> None:
    """An allowed network with or without a port takes addresses of it and no name."""
    anywhere, one_port = parse_allowed("10.1.0.0/16"), parse_allowed("10.1.0.1:9000")

    assert anywhere.takes_address(ip_address("10.1.2.3"), 1)
    assert not anywhere.takes_address(ip_address("10.2.0.1"), 1)
    assert not anywhere.takes_address(ip_address("::ffff:10.1.2.3"), 1)
    assert one_port.takes_address(ip_address("10.1.0.1"), 9000)
    assert not one_port.takes_address(ip_address("10.1.0.1"), 9001)
    assert not anywhere.takes_name("10.1.2.3", 1)


def test_a_name_is_taken_exactly() -> None:
    """An allowed name takes itself, on its port; no name below it."""
    named = parse_allowed("hooks.internal:8443")

    assert named.takes_name("hooks.internal", 8443)
    assert not named.takes_name("hooks.internal", 443)
    assert not named.takes_name("a.hooks.internal", 8443)
    assert not named.takes_address(ip_address("10.0.0.1"), 8443)
