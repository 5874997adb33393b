"""Rules that span several settings.

They read the file as it was written, not the typed settings: those exist only when every single
value is right, and all mistakes are to be told at once. What has the wrong shape is passed over
here, because its own type complains about it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from gateway.config.addresses import EMBEDDED
from gateway.config.catalog_rows import CatalogRows
from gateway.config.problems import Place, Problem, did_you_mean, dotted, listed

Table = Mapping[str, Any]


def broken_rules(document: Table, packaged: CatalogRows) -> list[Problem]:
    """Return every rule between settings that this file breaks."""
    return [
        *_server(document),
        *_redis(document),
        *_assets(document),
        *_providers(document),
        *_models(document, packaged),
        *_default_model(document),
        *_organization(document),
        *_teams(document, packaged),
    ]


def _server(document: Table) -> Iterator[Problem]:
    table = document.get("server")
    names = ("tls_cert", "tls_key")
    if isinstance(table, Mapping) and len(_given(table, names)) == 1:
        yield Problem("server", "expected both tls_cert and tls_key, or neither")


def _redis(document: Table) -> Iterator[Problem]:
    table = document.get("redis")
    if isinstance(table, Mapping) and _given(table, ("url", "url_env")) == ["url", "url_env"]:
        yield Problem("redis", "expected url or url_env, not both")
    if isinstance(table, Mapping) and table.get("acknowledge_replicas"):
        given = _given(table, ("url", "url_env"))
        if not given or table.get("url") == EMBEDDED:
            yield Problem("redis.acknowledge_replicas", "the embedded server has no replicas")


def _assets(document: Table) -> Iterator[Problem]:
    table = document.get("assets")
    if not isinstance(table, Mapping):
        return
    scheme = str(table.get("url", "file:")).partition(":")[0]
    for name, schemes in _ASSET_SETTINGS.items():
        if table.get(name) and scheme not in schemes:
            expected = listed([f"{each}://" for each in schemes])
            yield Problem(
                f"assets.{name}", f"means nothing for this url; expected one of {expected}"
            )


#: Settings of the store of pictures that not every kind of it has.
_ASSET_SETTINGS = {
    "endpoint": ("s3", "az"),
    "region": ("s3",),
    "access_key_env": ("s3", "az"),
    "secret_key_env": ("s3", "gs", "az"),
}


def _providers(document: Table) -> Iterator[Problem]:
    for name, table in _tables(document, "providers"):
        yield from _exactly_one(("providers", name), table, ("api_key_env", "api_key_file"))
        server = document.get("server")
        public_url = server.get("public_url") if isinstance(server, Mapping) else None
        if table.get("references") == "links" and not public_url:
            path = dotted(("providers", name, "references"))
            yield Problem(path, "links to this server need its server.public_url")


def _models(document: Table, packaged: CatalogRows) -> Iterator[Problem]:
    providers = document.get("providers")
    known_providers = list(providers) if isinstance(providers, Mapping) else []
    for name, table in _tables(document, "models"):
        if name not in packaged.models and "offers" in table:
            if not table.get("default_size"):
                path = dotted(("models", name, "default_size"))
                yield Problem(path, "a model of your own needs this setting")
        elif name not in packaged.models:
            known = did_you_mean(name, packaged.models)
            yield Problem(dotted(("models", name)), f"no such model in the catalogue; {known}")
        seen: set[str] = set()
        for index, route in enumerate(_texts(table, "routes")):
            path = dotted(("models", name, "routes", index))
            if route not in known_providers:
                yield Problem(path, f"no such provider; {did_you_mean(route, known_providers)}")
            elif route in seen:
                yield Problem(path, "this provider is already in the list")
            seen.add(route)


def _default_model(document: Table) -> Iterator[Problem]:
    server, models = document.get("server"), document.get("models")
    name = server.get("default_model") if isinstance(server, Mapping) else ""
    known = list(models) if isinstance(models, Mapping) else []
    if isinstance(name, str) and name and name not in known:
        # What was written is not repeated: it may be a key in the wrong line.
        offered = listed(known) if known else "a model of this file"
        yield Problem("server.default_model", f"no such model is offered here; expected {offered}")


def _organization(document: Table) -> Iterator[Problem]:
    table = document.get("organization")
    if isinstance(table, Mapping):
        yield from _budgets(("organization",), table, whose="the organization")


def _teams(document: Table, packaged: CatalogRows) -> Iterator[Problem]:
    digests: dict[str, str] = {}
    for name, table in _tables(document, "teams"):
        place: Place = ("teams", name)
        yield from _budgets(place, table)
        yield from _defaults(place, table, packaged)
        yield from _keys(place, table)
        yield from _digests(place, table, digests)


def _budgets(place: Place, table: Table, *, whose: str = "this team") -> Iterator[Problem]:
    seen: set[str] = set()
    for index, budget in _rows(table, "budgets"):
        name = budget.get("name") or budget.get("per")
        if isinstance(name, str) and name in seen:
            path = dotted((*place, "budgets", index, "name"))
            yield Problem(path, f"another budget of {whose} is called so; expected its own name")
        seen.add(str(name))


def _defaults(place: Place, table: Table, packaged: CatalogRows) -> Iterator[Problem]:
    defaults = table.get("defaults")
    if not isinstance(defaults, Mapping):
        return
    for setting, known in (("size", packaged.sizes()), ("quality", packaged.qualities())):
        written = defaults.get(setting)
        if isinstance(written, str) and written and written not in known:
            yield Problem(dotted((*place, "defaults", setting)), f"expected {listed(known)}")


def _keys(place: Place, table: Table) -> Iterator[Problem]:
    seen: set[str] = set()
    for index, key in _rows(table, "keys"):
        yield from _exactly_one((*place, "keys", index), key, ("sha256", "env", "file"))
        name = key.get("name")
        if isinstance(name, str) and name in seen:
            path = dotted((*place, "keys", index, "name"))
            yield Problem(path, "another key of this team is called so; expected its own name")
        seen.add(str(name))


def _digests(place: Place, table: Table, digests: dict[str, str]) -> Iterator[Problem]:
    """Find a digest that stands elsewhere too; `digests` remembers places over all teams."""
    for index, key in _rows(table, "keys"):
        digest = key.get("sha256")
        if not isinstance(digest, str) or not digest:
            continue
        here = dotted((*place, "keys", index))
        first = digests.setdefault(digest.lower(), here)
        if first != here:
            yield Problem(f"{here}.sha256", f"the same key as {first}")


def _exactly_one(place: Place, table: Table, names: tuple[str, ...]) -> Iterator[Problem]:
    given = _given(table, names)
    if len(given) != 1:
        expected = listed(names, last="and")
        yield Problem(dotted(place), f"expected exactly one of {expected}, got {len(given)}")


def _given(table: Table, names: tuple[str, ...]) -> list[str]:
    return [name for name in names if table.get(name, "") != ""]


def _tables(document: Table, section: str) -> Iterator[tuple[str, Table]]:
    tables = document.get(section)
    if isinstance(tables, Mapping):
        yield from (pair for pair in tables.items() if isinstance(pair[1], Mapping))


def _rows(table: Table, name: str) -> Iterator[tuple[int, Table]]:
    rows = table.get(name)
    if isinstance(rows, list):
        yield from (pair for pair in enumerate(rows) if isinstance(pair[1], Mapping))


def _texts(table: Table, name: str) -> Iterator[str]:
    texts = table.get(name)
    if isinstance(texts, list):
        yield from (text for text in texts if isinstance(text, str))
