from __future__ import annotations

import pytest

from gateway.config.store_address import (
    Endpoint,
    Login,
    StoreAddress,
    Tls,
    Topology,
    parse_store_address,
)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis://store", StoreAddress(Topology.ALONE, (Endpoint("store", 6379),))),
        (
            "redis://me:p%40ss%2Fword@store:6380/2",
            StoreAddress(
                Topology.ALONE, (Endpoint("store", 6380),), Login("me", "p@ss/word"), db=2
            ),
        ),
        (
            "rediss://:a@b@[::1]:6380?db=3&ssl_ca_certs=/etc/ca.pem&ssl_check_hostname=false",
            StoreAddress(
                Topology.ALONE,
                (Endpoint("::1", 6380),),
                Login(password="a@b"),
                db=3,
                tls=Tls({"ssl_ca_certs": "/etc/ca.pem"}, check_hostname=False),
            ),
        ),
        (
            "unix://:secret@/run/val%20key.sock?db=1",
            StoreAddress(
                Topology.ALONE,
                (Endpoint("", path="/run/val key.sock"),),
                Login(password="secret"),
                db=1,
            ),
        ),
        (
            "redis+sentinel://:secret@one,two:26380/books/4?sentinel_password=other",
            StoreAddress(
                Topology.SENTINEL,
                (Endpoint("one", 26379), Endpoint("two", 26380)),
                Login(password="secret"),
                db=4,
                service="books",
                sentinel_login=Login(password="other"),
            ),
        ),
        (
            "rediss+cluster://me:secret@one:7000,[fe80::1]:7001,three/",
            StoreAddress(
                Topology.CLUSTER,
                (Endpoint("one", 7000), Endpoint("fe80::1", 7001), Endpoint("three", 6379)),
                Login("me", "secret"),
                tls=Tls({}),
            ),
        ),
    ],
)
def test_addresses_of_every_kind(url: str, expected: StoreAddress) -> None:
    """One server, servers behind Sentinels, a cluster; each also with TLS."""
    assert expected == parse_store_address(url)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("", 'expected "embedded"'),
        ("store:6379", 'expected "embedded"'),
        ("http://hunter22@store", 'expected "embedded"'),
        ("redis://:hunter22@store 1", 'expected "embedded"'),
        ("redis://:hunter22@store#1", 'expected "embedded"'),
        ("redis://:hunter22@", "expected a host"),
        ("redis://:hunter22@store:port", "expected a host"),
        ("redis://:hunter22@store:0", "expected a host"),
        ("redis://:hunter22@store:65536", "expected a host"),
        ("redis+cluster://:hunter22@one,,two", "expected a host"),
        ("redis://:hunter22@one,two", "expected one host"),
        ("redis://:hunter22@store/zero", "expected a number"),
        ("redis://:hunter22@store/1/2", "expected one number"),
        ("redis://:hunter22@store/1?db=2", "expected one number"),
        ("redis+cluster://:hunter22@one/1", "expected no database"),
        ("redis+cluster://:hunter22@one?db=1", "expected no database"),
        ("redis+sentinel://:hunter22@one", "expected the service's name"),
        ("redis+sentinel://:hunter22@one/books/0/1", "expected one number"),
        ("unix://:hunter22@", "expected the path of a socket"),
        ("unix://:hunter22@run/valkey.sock", "expected the path of a socket"),
        ("redis://:hunter22@store?retry_on_timeout=true", "expected no other options than db"),
        ("redis://:hunter22@store?hunter22", "expected no other options"),
        ("redis://store?sentinel_password=hunter22", "expected no other options"),
        ("redis://store?ssl_ca_certs=hunter22", "expected no other options"),
        ("rediss://:hunter22@store?ssl_check_hostname=hunter22", "expected ssl_check_hostname"),
    ],
)
def test_other_addresses_are_refused_without_repeating_the_password(url: str, message: str) -> None:
    """What is refused may hold a password; options that would undo a promise are refused."""
    with pytest.raises(ValueError, match=message) as refusal:
        parse_store_address(url)

    assert "hunter22" not in str(refusal.value)
    assert None is refusal.value.__context__


def test_an_address_can_be_shown() -> None:
    """Its representation has no passwords, and an endpoint reads as people write it."""
    shown = repr(parse_store_address("redis+sentinel://u:hunter22@h/s?sentinel_password=hunter22"))

    assert "hunter22" not in shown
    assert ["h:1", "[::1]:2", "/run/s"] == [
        str(Endpoint("h", 1)),
        str(Endpoint("::1", 2)),
        str(Endpoint("", path="/run/s")),
    ]
