"""What can be played for one request, as values; ``markers.py`` reads them from a prompt."""

from dataclasses import dataclass
from enum import Enum, StrEnum, auto

from gateway.simulator.latency import Profile
from gateway.simulator.replies import Reply
from gateway.simulator.settings import Envelope, Idempotency, References, RetryAfter, Shape


class Ending(Enum):
    """What becomes of an accepted task when it is due."""

    PICTURES = auto()
    NO_RESULTS = auto()
    """Completed and charged, with an empty ``results``."""
    FAILED = auto()
    FAILED_SILENTLY = auto()
    """Failed without an ``error`` object."""
    CANCELLED = auto()
    CANCELED = auto()


class ErrorForm(StrEnum):
    """Form of the ``error`` of a failed task (protocols/evolink.md §4.6)."""

    OBJECT = "object"
    TEXT = "text"
    """A string; some clients tolerate it."""
    INTEGER = "integer"
    """An object whose code is a number."""
    SUGGESTION = "suggestion"
    """An object with ``suggestion``, and ``progress`` 100."""
    NULL = "null"


class Outlook(StrEnum):
    """What an unfinished task shows."""

    USUAL = "usual"
    UNKNOWN = "unknown"
    """A status outside the documents until the task is due."""
    PENDING = "pending"
    """``pending`` for ever: the task never ends."""
    PROCESSING = "processing"
    """``processing`` for ever: the task never ends."""


class Progress(StrEnum):
    """What ``progress`` does; its granularity is unknown (§18.12)."""

    RISING = "rising"
    FALLING = "falling"
    ABSENT = "absent"


class ResultFile(StrEnum):
    """What the result link serves."""

    PICTURE = "picture"
    NOT_AN_IMAGE = "not-image"
    """A page, under the type of a picture."""
    CORRUPT = "corrupt"
    """A picture's head with noise behind it."""
    OTHER_SIZE = "other-size"
    """A picture a little larger than asked (§2.3, §18.15)."""
    OTHER_FORMAT = "other-format"
    """A picture of another file type than its name and media type say."""
    OPAQUE = "opaque"
    """A picture with a ground, though a transparent one was asked (§18.15)."""
    UNTYPED = "untyped"
    """The picture, as ``application/octet-stream``."""


class Leaning(StrEnum):
    """Other rules for a request than the documented strict ones (§14, §18.2 to §18.4)."""

    OTHER = "other"
    """The model's other documented rules, where two documents differ (§14)."""
    DATA_URLS = "data-urls"
    """``image_urls`` may hold data URLs."""
    EMPTY_REFERENCES = "empty-references"
    """``image_urls: []`` counts as absent."""
    NO_UNKNOWN = "no-unknown"
    """Unknown parameters are 400."""
    LENIENT = "lenient"
    """Values outside an enum and wrong types count as absent."""


class Moment(Enum):
    """When a callback is sent."""

    SUBMIT = auto()
    HALFWAY = auto()
    END = auto()


class LetterForm(Enum):
    """What a callback says."""

    TASK = auto()
    """What a poll would say at that moment."""
    COMPLETED = auto()
    """What a poll will say when the task is due."""
    TRIMMED = auto()
    """``{id, status, model, results}``, as first-party examples show."""
    FORGED = auto()
    """A completion with a link that is not ours."""
    FOREIGN = auto()
    """The completion of a task that does not exist."""
    GARBAGE = auto()
    """Not JSON."""


@dataclass(frozen=True, slots=True)
class Letter:
    """Plan one callback."""

    moment: Moment = Moment.END
    after_s: float = 0.0
    copies: int = 1
    form: LetterForm = LetterForm.TASK


@dataclass(frozen=True, slots=True)
class Wait:
    """Say what ``Retry-After`` tells, and how."""

    form: RetryAfter
    seconds: int | None = None
    """``None``: as long as the simulator's settings say."""


@dataclass(frozen=True, slots=True)
class Script:
    """Tell how to play one request; the default plays it straight."""

    submit: Reply | None = None
    """Answer to the submit when nothing is created."""
    created: Reply | None = None
    """Answer to the submit when the task exists and is billed."""
    poll: Reply | None = None
    """Answer to the task's polls."""
    result: Reply | None = None
    """Answer to the GETs of the task's result links."""
    other: Reply | None = None
    """Answer of the route that a rule is for, when it is none of the above."""
    envelope: Envelope | None = None
    http_status: int | None = None
    """HTTP status of this request's refusals; ``None``: each one's own."""
    wait: Wait | None = None
    latency_s: float | None = None
    profile: Profile | None = None
    at_once: bool = False
    """Finished in the submit's own answer, which the schema allows (§3)."""
    shape: Shape | None = None
    ending: Ending = Ending.PICTURES
    failure: str = ""
    """Task error code when ``ending`` is ``FAILED``."""
    message: str = ""
    """Text of the task's error; empty: the code's own."""
    error_form: ErrorForm = ErrorForm.OBJECT
    outlook: Outlook = Outlook.USUAL
    progress: Progress = Progress.RISING
    pictures: int | None = None
    """How many pictures there are, whatever was asked; they are what is billed."""
    file: ResultFile = ResultFile.PICTURE
    links: str = ""
    """Base of the result links; empty: ours."""
    expired: int | None = None
    """HTTP status of polls from the moment the task is due."""
    model: str = ""
    """The ``model`` that answers name; empty: the one that was asked."""
    letters: tuple[Letter, ...] = (Letter(),)
    references: References | None = None
    idempotency: Idempotency | None = None
    leanings: frozenset[Leaning] = frozenset()
    label: str = ""
    revised: str = ""
    """The prompt as the model has refined it; no document names the field."""
    """Name of the task in the simulator's own list."""
