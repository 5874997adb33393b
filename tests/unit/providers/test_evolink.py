import httpx
import pytest

from gateway.background import SystemClock
from gateway.domain.images import Operation, Picture, Size
from gateway.domain.task import SubmitOrder
from gateway.providers.evolink import EvolinkProvider, EvolinkSettings
from tests.support.factories import an_offer

SETTINGS = EvolinkSettings(
    name="evolink", base_url="https://api.evolink.ai", api_key="sk-evo-1", min_poll_interval_s=2.5
)
SIZE = Size(1024, 1536)
OFFER = an_offer(sizes=(SIZE,), qualities=("medium",))


def provider(settings: EvolinkSettings = SETTINGS) -> EvolinkProvider:
    """Return a provider that nothing is asked of over the network."""
    return EvolinkProvider(
        settings,
        submit_client=httpx.AsyncClient(),
        poll_client=httpx.AsyncClient(),
        clock=SystemClock(),
    )


def test_what_is_sent_leaves_nothing_to_upstream_defaults() -> None:
    """Model, prompt, size and quality are always explicit; `n` is never sent (§2.1, §14)."""
    order = provider().compose(OFFER, Picture(Operation.GENERATION, "a fox", SIZE, "medium"))

    assert order == SubmitOrder(
        provider="evolink",
        account="evolink:01a1e4399839",
        body={
            "model": "gpt-image-1.5",
            "prompt": "a fox",
            "size": "1024x1536",
            "quality": "medium",
        },
    )


def test_the_provider_answers_to_its_configured_name_and_pace() -> None:
    """Name and poll floor come from the settings."""
    assert (provider().name, provider().min_poll_interval_s) == ("evolink", 2.5)


def test_the_key_is_not_shown() -> None:
    """Printing the settings does not print the key, nor does the account's name."""
    assert "sk-evo-1" not in f"{SETTINGS!r} {SETTINGS.account}"


def test_another_key_is_another_account() -> None:
    """Two keys under one name can be told apart."""
    other = EvolinkSettings(name="evolink", base_url=SETTINGS.base_url, api_key="sk-evo-2")

    assert other.account != SETTINGS.account


@pytest.mark.parametrize("api_key", ["", " ", "key\n", "schlüssel"])
def test_a_key_that_cannot_be_sent_is_refused(api_key: str) -> None:
    """A key that is no header value is a mistake at start-up; the message does not repeat it."""
    with pytest.raises(ValueError, match=r"^the API key must be printable ASCII and not empty$"):
        EvolinkSettings(name="evolink", base_url=SETTINGS.base_url, api_key=api_key)


@pytest.mark.parametrize(
    "base_url",
    ["", "api.evolink.ai", "ftp://host", "https://", "https://u:p@host", "https://h/?q=1", "\t"],
)
def test_a_base_url_that_cannot_be_asked_is_refused(base_url: str) -> None:
    """Only http and https URLs of a host are taken."""
    with pytest.raises(ValueError, match="base_url"):
        EvolinkSettings(name="evolink", base_url=base_url, api_key="k")
