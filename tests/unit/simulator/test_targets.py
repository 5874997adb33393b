import pytest

from gateway.simulator.errors import RefusedError
from gateway.simulator.targets import read_target


@pytest.mark.parametrize("value", [None, ""])
def test_no_target(value: object) -> None:
    """Absent and empty are none."""
    assert "" == read_target(value, strict=True)


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:8080/hook",
        "http://localhost/hook",
        "https://10.1.2.3/hook",
        "http://[::1]/hook",
    ],
)
def test_private_targets_are_for_local_tools(url: str) -> None:
    """EvoLink's rule is a switch."""
    assert url == read_target(url, strict=False)
    with pytest.raises(RefusedError):
        read_target(url, strict=True)


@pytest.mark.parametrize(
    "url",
    [
        "https://127.0.0.1/hook",
        "https://172.16.0.1/hook",
        "https://192.168.1.1/hook",
        "https://[fc00::1]/hook",
        "https://localhost/hook",
        "https://api.localhost/hook",
        "http://hooks.example/hook",
    ],
)
def test_strict_refusals(url: str) -> None:
    """TLS is needed, and no inner network."""
    with pytest.raises(RefusedError) as refused:
        read_target(url, strict=True)

    assert "callback_url" == refused.value.problem.param


@pytest.mark.parametrize("url", ["https://hooks.example/hook?sig=1", "https://8.8.8.8/hook"])
def test_public_targets(url: str) -> None:
    """Names and public addresses pass."""
    assert url == read_target(url, strict=True)


@pytest.mark.parametrize(
    "value",
    [
        7,
        ["https://a.test"],
        "hook",
        "ftp://a.test/hook",
        "https://",
        "https://[x/",
        "https://a.test/" + "x" * 2048,
    ],
)
def test_no_links(value: object) -> None:
    """What is no link is refused either way."""
    with pytest.raises(RefusedError):
        read_target(value, strict=False)
