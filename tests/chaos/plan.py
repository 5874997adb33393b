"""What is done to the product in one round: drawn from the seed and the round's number alone."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

#: Points of a picture's way where a replica may kill or pause itself (gateway/cli/fault_points.py).
POINTS = (
    "admitted",
    "queued",
    "submitting",
    "posted",
    "submitted",
    "finished",
    "concluded",
    "stored",
)

#: What a call's prompt may tell the simulator to play (docs/simulator.md).
#: Lost or refused submits end by themselves, so that an upstream that proves idempotency can be
#: asked again.
SUBMITS = (
    "[[created:drop*1]]",
    "[[created:html*1]]",
    "[[created:internal_error*1]]",
    "[[created:service_unavailable*1]]",
    "[[created:no-id*1]]",
    "[[created:late:1*1]]",
    "[[created:cut*1]]",
    "[[submit:drop*1]]",
    "[[submit:html*1]]",
    "[[submit:text*1]]",
    "[[submit:upstream_error*1]]",
    "[[submit:rate_limit_exceeded*1]][[retry-after:1]]",
)
CALLBACKS = (
    "[[callback:storm:20]]",
    "[[callback:storm:5]]",
    "[[callback:twice]]",
    "[[callback:early]]",
    "[[callback:forged]]",
    "[[callback:foreign]]",
    "[[callback:garbage]]",
    "[[callback:trimmed]]",
    "[[callback:late:1]]",
    "[[callback:drop]]",
)
POLLS = (
    "[[poll:rate_limit_exceeded*2]][[retry-after:1]]",
    "[[poll:internal_error*2]]",
    "[[poll:html*1]]",
    "[[poll:drop*1]]",
    "[[poll:task_not_found*1]]",
    "[[result:503*2]]",
    "[[result:cut*1]]",
)
#: The two endings without a picture, and what a client is told of each.
BLOCKED, FAILED = "[[fail:content_policy_violation]]", "[[fail:service_error]]"

#: How long a client waits for one answer. The shortest gives up on most pictures.
PATIENCES_S = (2.5, 6.0, 30.0)


class Act(StrEnum):
    """What is done to a process."""

    #: SIGKILL; it is started again a little later.
    KILL = "kill"
    #: An orderly stop; it is started again a little later.
    TERM = "term"
    #: SIGSTOP, and SIGCONT after a while.
    STOP = "stop"
    #: SIGCONT for a replica that may have paused itself, again and again while calls wait.
    CONTINUE = "continue"
    #: SIGSTOP of the store, and SIGCONT after a while.
    STALL = "stall"
    #: SIGKILL of the store that a gateway runs by itself.
    CRASH = "crash"


@dataclass(frozen=True, slots=True)
class Moment:
    """Something that is done `at_s` after the first call; what lasts, lasts `for_s`."""

    at_s: float
    act: Act
    replica: int = 0
    for_s: float = 0.0

    def __str__(self) -> str:
        """Name it for the table."""
        of = "" if self.act in (Act.STALL, Act.CRASH) else f" {self.replica}"
        lasting = f" {self.for_s:g}s" if self.for_s else ""
        return f"{self.act}{of}@{self.at_s:g}s{lasting}"


@dataclass(frozen=True, slots=True)
class Trap:
    """A replica that does something to itself when it arrives at a point."""

    replica: int
    spec: str

    def __str__(self) -> str:
        """Name it for the table."""
        return f"{self.spec} in {self.replica}"


@dataclass(frozen=True, slots=True)
class PlannedCall:
    """Clients' calls that are all alike: `copies` of them at once, each for `pictures`."""

    label: str
    at_s: float
    play: str
    copies: int
    pictures: int
    keyed: bool
    patience_s: float

    @property
    def prompt(self) -> str:
        """The words that are sent."""
        return f"a red fox {self.label} [[label:{self.label}]]{self.play}"


@dataclass(frozen=True, slots=True)
class Plan:
    """One round.

    `embedded` is one replica with a store of its own, otherwise two share one. `proven` says
    whether the upstream honours idempotency keys, and the gateway is told so. `organization` has
    a budget beside the team's. `probe` is where the balancer asks who is ready.
    """

    seed: int
    number: int
    embedded: bool
    proven: bool
    organization: bool
    latency_s: float
    probe: str
    traps: tuple[Trap, ...]
    moments: tuple[Moment, ...]
    calls: tuple[PlannedCall, ...]

    @property
    def replicas(self) -> int:
        """How many there are."""
        return 1 if self.embedded else 2

    @property
    def touches_store(self) -> bool:
        """Tell whether the store is out of reach for a while, for one of the replicas at least."""
        return any(moment.act in (Act.STALL, Act.CRASH) for moment in self.moments)

    def __str__(self) -> str:
        """Name what is done, for the table."""
        kind = "embedded" if self.embedded else "two"
        kind += " org" if self.organization else ""
        idempotency = "proven" if self.proven else "unproven"
        deeds = [moment for moment in self.moments if moment.act is not Act.CONTINUE]
        return f"{kind} {idempotency}: " + ", ".join(map(str, (*self.traps, *deeds)))


#: Each block of as many rounds does each of these once, in an order of its own.
_SPECIAL = ("kill", "kill", "kill embedded", "stop", "stall", "stall embedded", "crash", "crash")
BLOCK = 20


def plan_of(seed: int, number: int) -> Plan:
    """Return what round `number` (from 1) of a seed does."""
    block, place = divmod(number - 1, BLOCK)
    order = list(_deeds(block))
    random.Random(f"{seed}/{block}").shuffle(order)
    deed = order[place]
    draw = random.Random(f"{seed}/{block}/{place}")
    at_point = deed.split(":")[0] in ("kill", "pause") and ":" in deed
    embedded = "embedded" in deed or deed == "crash" or (at_point and draw.random() < 0.25)
    replicas = 1 if embedded else 2
    traps: tuple[Trap, ...] = ()
    moments: list[Moment] = []
    if at_point:
        trapped = draw.randrange(replicas)
        traps = (Trap(trapped, f"{deed}:{draw.choice((1, 1, 2, 3))}"),)
        if deed.startswith("pause"):
            moments.append(Moment(draw.choice((2.0, 4.0, 7.0)), Act.CONTINUE, trapped))
    else:
        moments.append(_moment(draw, Act(deed.split(" ")[0]), replicas))
    if draw.random() < 0.4:
        acts = [Act.STALL, Act.STOP, Act.KILL, *([Act.CRASH] if embedded else [Act.TERM])]
        moments.append(_moment(draw, draw.choice(acts), replicas))
    return Plan(
        seed=seed,
        number=number,
        embedded=embedded,
        proven=(place + block) % 2 == 0,
        organization=number % 4 == 0,
        latency_s=draw.choice((0.2, 0.6, 1.2)),
        probe=draw.choice(("/readyz", "/healthz")),
        traps=traps,
        moments=tuple(moments),
        calls=tuple(_calls(draw, number)),
    )


def _deeds(block: int) -> Iterator[str]:
    yield from (f"kill:{point}" for point in POINTS)
    yield from (f"pause:{POINTS[(4 * block + place) % len(POINTS)]}" for place in range(4))
    yield from _SPECIAL[:-1]
    yield "term" if block % 2 else "crash"


def _moment(draw: random.Random, act: Act, replicas: int) -> Moment:
    lasts = {Act.STOP: (1.0, 7.0), Act.STALL: (0.3, 3.0)}.get(act)
    return Moment(
        at_s=round(draw.uniform(0.0, 4.0), 2),
        act=act,
        replica=0 if act in (Act.STALL, Act.CRASH) else draw.randrange(replicas),
        for_s=round(draw.uniform(*lasts), 2) if lasts else 0.0,
    )


def _calls(draw: random.Random, number: int) -> Iterator[PlannedCall]:
    for index in range(draw.randint(5, 9)):
        kinds = ("", "", draw.choice(SUBMITS), draw.choice(POLLS), BLOCKED, FAILED)
        play = draw.choices(kinds, weights=(30, 10, 35, 15, 5, 5))[0]
        # Callbacks are none of the client's business, so they go with anything.
        play += draw.choice(CALLBACKS) if draw.random() < 0.6 else ""
        copies = draw.choices((1, 2, 3), weights=(80, 15, 5))[0]
        yield PlannedCall(
            label=f"r{number}c{index}",
            at_s=round(draw.uniform(0.0, 2.5), 2),
            play=play,
            copies=copies,
            pictures=draw.choices((1, 2), weights=(85, 15))[0],
            keyed=copies == 1 and draw.random() < 0.2,
            patience_s=draw.choices(PATIENCES_S, weights=(25, 25, 50))[0],
        )
