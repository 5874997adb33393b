"""Records of former releases, brought to the schemas of this one while gateways go on.

Every record says its schema (design rule 23). A *step* makes one of schema n one of n + 1; several
follow each other. A record is written back only as long as it is what was read, so a gateway that
changes it meanwhile wins, and the step is made anew from what it has written.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field

from gateway.store.client import Store
from gateway.store.replies import fields_of
from gateway.store.scripts import load_script

#: A hash as it stands in the store.
Record = Mapping[str, str]
Step = Callable[[Record], Record]


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of records, this release's schema of it, and the steps from former ones, by theirs.

    `schemas_of` reads the schemas of a record, of each part that has one; KeyError or ValueError
    when it says none. A step takes the parts of its own schema on and leaves the others alone.
    """

    name: str
    schema: int
    schemas_of: Callable[[Record], Collection[int]]
    steps: Mapping[int, Step] = field(default_factory=dict)

    @property
    def oldest(self) -> int:
        """The first schema that steps lead from without a gap."""
        schema = self.schema
        while schema - 1 in self.steps:
            schema -= 1
        return schema

    def current(self, record: Record) -> Record:
        """Return a record in this release's form. KeyError when no step leads there."""
        for schema in range(min(self.schemas_of(record), default=self.schema), self.schema):
            record = self.steps[schema](record)
        return record


async def read_record(store: Store, key: str) -> Record:
    """Return a record, empty when there is none. Raises StoreUnavailable."""
    return fields_of(await store.command("HGETALL", key))


async def migrate(store: Store, kind: Kind, key: str) -> bool:
    """Bring one record to this release's schema; False when it is there already, or gone.

    Raises StoreUnavailable; doing it again does no harm then.
    """
    script = load_script("store/lua/rewrite.lua")
    while record := await read_record(store, key):
        after = kind.current(record)
        if after == record:
            return False
        gone = [name for name in record if name not in after]
        read = [word for pair in record.items() for word in pair]
        wanted = [
            word
            for name, value in after.items()
            if record.get(name) != value
            for word in (name, value)
        ]
        if await store.run(script, [key], [len(read), *read, len(gone), *gone, *wanted]) == 1:
            return True
    return False
