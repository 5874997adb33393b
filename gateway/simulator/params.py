"""Rules for the parameters that only some models have (protocols/evolink.md §2.7)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol


class ParamRule(Protocol):
    """Judge one parameter."""

    def refusal(self, value: Any) -> str:
        """Return what is wrong with a value that is not null, or nothing."""


@dataclass(frozen=True, slots=True)
class Flag:
    """Take true and false."""

    def refusal(self, value: Any) -> str:
        """Refuse what is no boolean."""
        return "" if isinstance(value, bool) else "must be true or false"


@dataclass(frozen=True, slots=True)
class Number:
    """Take whole numbers; both ends are inclusive."""

    least: int
    most: int

    def refusal(self, value: Any) -> str:
        """Refuse what is no whole number between the ends."""
        whole = isinstance(value, int) and not isinstance(value, bool)
        fits = whole and self.least <= value <= self.most
        return "" if fits else f"must be an integer from {self.least} to {self.most}"


@dataclass(frozen=True, slots=True)
class Text:
    """Take texts of some characters."""

    most: int

    def refusal(self, value: Any) -> str:
        """Refuse what is no text, or too long."""
        fits = isinstance(value, str) and len(value) <= self.most
        return "" if fits else f"must be a text of at most {self.most} characters"


@dataclass(frozen=True, slots=True)
class Choice:
    """Take one of some texts."""

    values: tuple[str, ...]

    def refusal(self, value: Any) -> str:
        """Refuse everything else."""
        fits = isinstance(value, str) and value in self.values
        return "" if fits else f"must be one of {', '.join(self.values)}"


@dataclass(frozen=True, slots=True)
class Tools:
    """Take a list of tools of one kind."""

    kind: str

    def refusal(self, value: Any) -> str:
        """Refuse other lists and other things."""
        fits = isinstance(value, list) and all(tool == {"type": self.kind} for tool in value)
        return "" if fits else f"must be a list of {self.kind} tools"


def find(body: Mapping[str, Any], name: str) -> Any:
    """Return the value of a parameter, of ``model_params`` when its name has a dot, or ``None``."""
    outer, _, inner = name.partition(".")
    value = body.get(outer)
    if not inner:
        return value
    return value.get(inner) if isinstance(value, dict) else None
