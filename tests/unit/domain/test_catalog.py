from gateway.domain.catalog import Catalog
from gateway.domain.images import Operation
from tests.support.factories import a_model, an_offer


def test_offers_for_one_operation() -> None:
    """Only offers of the operation are returned, in the order of the catalogue."""
    first, second = an_offer(provider="first"), an_offer(provider="second")
    edit = an_offer(provider="third", operation=Operation.EDIT)
    model = a_model(offers=(second, edit, first))

    assert (second, first) == model.offers_for(Operation.GENERATION)
    assert (edit,) == model.offers_for(Operation.EDIT)


def test_get_by_exact_name() -> None:
    """A model is found under its name and under nothing else."""
    model = a_model()
    catalog = Catalog({model.name: model})

    assert model is catalog.get("gpt-image-1.5")
    assert catalog.get("gpt-image-1") is None
