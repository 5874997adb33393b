"""How long renders take: a lognormal, alone, with a second hump, or drifting."""

import math
from dataclasses import dataclass
from enum import StrEnum
from random import Random


class Form(StrEnum):
    """What is done with a lognormal draw."""

    LOGNORMAL = "lognormal"
    """Nothing."""
    BIMODAL = "bimodal"
    """Some renders take a multiple of it."""
    DRIFT = "drift"
    """All renders grow slower with time, up to a multiple of it."""


@dataclass(frozen=True, slots=True)
class Profile:
    """Describe a distribution of render times; made by ``read_profile``."""

    form: Form = Form.LOGNORMAL
    share: float = 0.1
    """Part of the renders on the slow hump, 0 to 1; only for ``bimodal``."""
    ramp_s: float = 600.0
    """Seconds until the drift has reached its factor; only for ``drift``."""
    factor: float = 1.0
    """How many times slower the slow hump, or the end of the drift, is."""

    def latency_s(
        self, median_s: float, sigma: float, *, elapsed_s: float, random: Random
    ) -> float:
        """Draw one render time, ``elapsed_s`` after the account's start; a median of 0 gives 0."""
        if median_s == 0:
            return 0.0
        drawn_s = random.lognormvariate(math.log(median_s), sigma)
        if self.form is Form.BIMODAL:
            return drawn_s * (self.factor if random.random() < self.share else 1.0)
        if self.form is Form.DRIFT:
            done = min(1.0, elapsed_s / self.ramp_s)
            return drawn_s * (1.0 + (self.factor - 1.0) * done)
        return drawn_s


_DEFAULTS = {Form.LOGNORMAL: (), Form.BIMODAL: (0.1, 6.0), Form.DRIFT: (600.0, 3.0)}


def read_profile(text: str) -> Profile:
    """Return the profile of a text; raise ``ValueError`` for one that means nothing.

    It is ``lognormal``, ``bimodal[:SHARE[:FACTOR]]`` or ``drift[:SECONDS[:FACTOR]]``.
    """
    name, *given = text.casefold().split(":")
    if name not in set(Form):
        raise ValueError(f"a latency profile is one of {', '.join(Form)}")
    form = Form(name)
    defaults = _DEFAULTS[form]
    if len(given) > len(defaults):
        raise ValueError(f"the latency profile {form} takes at most {len(defaults)} numbers")
    numbers = [float(number) for number in given] + list(defaults[len(given) :])
    if not all(0 < number < math.inf for number in numbers):
        raise ValueError("the numbers of a latency profile must be positive")
    if form is Form.BIMODAL:
        if numbers[0] > 1:
            raise ValueError("the share of a bimodal profile is at most 1")
        return Profile(form, share=numbers[0], factor=numbers[1])
    if form is Form.DRIFT:
        return Profile(form, ramp_s=numbers[0], factor=numbers[1])
    return Profile(form)
