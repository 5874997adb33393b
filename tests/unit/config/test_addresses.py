from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import SecretStr, TypeAdapter, ValidationError

from gateway.config.addresses import (
    AssetUrl,
    OptionalPath,
    RequiredPath,
    check_base_url,
    check_optional_url,
    check_origin,
    check_proxy_url,
    check_redis_url,
    check_result_host,
    check_trusted_proxy,
)

FOLDER = {"folder": Path("/etc/gateway")}


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://api.evolink.ai", "https://api.evolink.ai"),
        ("http://127.0.0.1:9100/", "http://127.0.0.1:9100"),
        ("https://relay.example/evolink/", "https://relay.example/evolink"),
    ],
)
def test_base_urls_have_no_slash_at_the_end(url: str, expected: str) -> None:
    """Paths are appended to it, so it ends without a slash."""
    assert expected == check_base_url(url)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "api.evolink.ai",
        "ftp://api.evolink.ai",
        "https://",
        "https://key@api.evolink.ai",
        "https://api.evolink.ai?key=1",
        "https://api.evolink.ai#top",
        "https://api.evolink.ai:99999",
        "https://api evolink.ai",
        "https://[::1",
    ],
)
def test_other_base_urls_are_refused(url: str) -> None:
    """A base address names a host over http or https and nothing that is lost in joining."""
    with pytest.raises(ValueError, match=r"^expected an address"):
        check_base_url(url)


@pytest.mark.parametrize("url", ["", "https://help.example/keys?from=gateway"])
def test_an_optional_url_may_be_empty(url: str) -> None:
    """Nothing, or any http address."""
    assert url == check_optional_url(url)


@pytest.mark.parametrize("url", ["help.example", "javascript:alert(1)", "https://", "http://x:y"])
def test_other_optional_urls_are_refused(url: str) -> None:
    """What a browser would not open as a page is refused."""
    with pytest.raises(ValueError, match="http:// or https://"):
        check_optional_url(url)


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("Files.EvoLink.ai", "files.evolink.ai"),
        ("127.0.0.1:9100", "127.0.0.1:9100"),
        ("[::1]", "[::1]"),
        ("[::1]:9100", "[::1]:9100"),
        ("sim_1:9100", "sim_1:9100"),
    ],
)
def test_result_hosts_are_compared_in_lower_case(host: str, expected: str) -> None:
    """A host, or a host and a port."""
    assert expected == check_result_host(host)


@pytest.mark.parametrize(
    "host",
    ["", "https://files.evolink.ai", "a/b", "*.evolink.ai", "a:", "a:0", "a:65536", "a:x", ":80"],
)
def test_other_result_hosts_are_refused(host: str) -> None:
    """Schemes, paths and wildcards are no hosts."""
    with pytest.raises(ValueError, match="without https://"):
        check_result_host(host)


@pytest.mark.parametrize(
    "url",
    [
        "embedded",
        "redis://host:6379/0",
        "rediss://:pass@host",
        "unix:///run/valkey.sock",
        "redis+sentinel://one:26379,two:26379/books",
        "redis+cluster://one:6379,two:6379",
    ],
)
def test_redis_urls_that_this_release_speaks(url: str) -> None:
    """The embedded server, or one by address."""
    assert url == check_redis_url(SecretStr(url)).get_secret_value()


@pytest.mark.parametrize(
    "url", ["", "localhost:6379", "redis+cluster://:hunter22@host/0", "redis://:hunter22@host:port"]
)
def test_other_redis_urls_are_refused_without_repeating_the_password(url: str) -> None:
    """What is refused may hold a password."""
    with pytest.raises(ValueError, match=r"^expected ") as refusal:
        check_redis_url(SecretStr(url))

    assert "hunter22" not in str(refusal.value)


def test_a_proxy_is_an_http_address_or_nothing() -> None:
    """A proxy's address may hold a password and is not repeated."""
    proxy = SecretStr("http://user:hunter22@proxy:3128")

    assert proxy is check_proxy_url(proxy)
    with pytest.raises(ValueError, match="http://") as refusal:
        check_proxy_url(SecretStr("socks5://user:hunter22@proxy"))

    assert "hunter22" not in str(refusal.value)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("memory:", "memory:"),
        ("memory://", "memory:"),
        ("file:var/assets", "file:/etc/gateway/var/assets"),
        ("file:/srv/assets", "file:/srv/assets"),
        ("file:///srv/assets", "file:/srv/assets"),
        ("s3://pictures/of/teams/", "s3://pictures/of/teams"),
        ("gs://pictures", "gs://pictures"),
        ("az://pictures/a", "az://pictures/a"),
    ],
)
def test_asset_folders_begin_at_the_settings_file(url: str, expected: str) -> None:
    """A relative folder is made absolute; memory has none."""
    assert expected == TypeAdapter(AssetUrl).validate_python(url, context=FOLDER)


@pytest.mark.parametrize(
    "url",
    ["", "file:", "file://host/assets", "s3://", "s3://user:pass@bucket", "s3://B/x", "assets", 7],
)
def test_other_asset_stores_are_refused(url: object) -> None:
    """Stores that are not in this release are refused by name of those that are."""
    with pytest.raises(ValidationError, match="expected "):
        TypeAdapter(AssetUrl).validate_python(url, context=FOLDER)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("secrets/key", Path("/etc/gateway/secrets/key")),
        ("/run/secrets/key", Path("/run/secrets/key")),
        ("", None),
    ],
)
def test_paths_begin_at_the_settings_file(text: str, expected: Path | None) -> None:
    """A relative path is made absolute; empty is none."""
    assert expected == TypeAdapter(OptionalPath).validate_python(text, context=FOLDER)


def test_a_path_stays_as_it_is_without_a_folder() -> None:
    """Settings that no file was read for have no folder to begin at."""
    assert Path("var/x") == TypeAdapter(OptionalPath).validate_python("var/x")


@pytest.mark.parametrize("text", ["", "a\0b", 5])
def test_a_required_path_is_a_path(text: object) -> None:
    """Empty text, text no file system takes, and numbers are refused."""
    with pytest.raises(ValidationError, match="expected a path"):
        TypeAdapter(RequiredPath).validate_python(text, context=FOLDER)


@pytest.mark.parametrize(
    ("origin", "expected"),
    [
        ("*", "*"),
        ("https://app.example.com", "https://app.example.com"),
        ("http://localhost:3000", "http://localhost:3000"),
        ("https://App.Example.com", "https://app.example.com"),
        ("http://[::1]:8080", "http://[::1]:8080"),
        ("chrome-extension://abcdefgh", "chrome-extension://abcdefgh"),
    ],
)
def test_origins(origin: str, expected: str) -> None:
    """An origin is taken as browsers write it: in lower case."""
    assert expected == check_origin(origin)


@pytest.mark.parametrize(
    "origin",
    [
        *("", "app.example.com", "https://", "https://app.example.com/", "https://a.example/x"),
        *("https://user@a.example", "https://a.example?x", "ftp://a.example", "https://a b"),
        *("https://a.example:x", "https://*.example.com/", "null", "file://"),
    ],
)
def test_what_is_no_origin(origin: str) -> None:
    """A path, a slash at its end or another scheme would never match what a browser sends."""
    with pytest.raises(ValueError, match="without a path"):
        check_origin(origin)


@pytest.mark.parametrize(
    ("proxy", "expected"),
    [
        ("10.1.2.3", "10.1.2.3/32"),
        ("10.0.0.0/8", "10.0.0.0/8"),
        ("::1", "::1/128"),
        ("*", "*"),
    ],
)
def test_trusted_proxies_are_addresses_and_networks(proxy: str, expected: str) -> None:
    """An address is a network of one."""
    assert expected == check_trusted_proxy(proxy)


@pytest.mark.parametrize("proxy", ["", "proxy.internal", "10.1.2.3/8", "10.1.2.3:8080", "10.*"])
def test_other_texts_are_no_proxies(proxy: str) -> None:
    """A name is none: who calls is known by address only."""
    with pytest.raises(ValueError, match="expected an address"):
        check_trusted_proxy(proxy)
