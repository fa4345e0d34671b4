"""Which strategy runs a call on which platform, and why."""

from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from jaxrnn.strategies.associative import Associative
from jaxrnn.strategies.call import Call
from jaxrnn.strategies.chunkwise import Chunkwise
from jaxrnn.strategies.fused import Fused
from jaxrnn.strategies.resident import Resident
from jaxrnn.strategies.scan import Carries, Scan
from jaxrnn.strategies.strategy import Strategy

Named = Literal["auto", "fused", "chunkwise", "associative", "scan", "resident"]

PLATFORMS = ("cpu", "gpu", "tpu")

# In the order of preference of "auto".
STRATEGIES: dict[Named, Strategy] = {
    "fused": Fused(),
    "chunkwise": Chunkwise(),
    "associative": Associative(),
    "scan": Scan(),
}

# Those that "auto" does not take; their `drawback` says why.
ON_REQUEST: dict[Named, Strategy] = {"resident": Resident()}

NAMED = STRATEGIES | ON_REQUEST


class Choice(NamedTuple):
    strategy: Strategy
    why: str


def as_strategy(given: Any) -> Strategy | None:
    """A strategy, or None for "auto". Raises ValueError for what is neither a name of one
    nor one that hashes."""
    if isinstance(given, str):
        if given == "auto":
            return None
        if given in NAMED:
            return NAMED[given]
    elif isinstance(given, Strategy):
        try:
            hash(given)
        except TypeError:
            raise ValueError(
                f"a strategy hashes by value, as a frozen dataclass does, got {given!r}"
            ) from None
        return given
    raise ValueError(
        f"unknown strategy {given!r}; known: auto, {', '.join(NAMED)}, and instances "
        "of jaxrnn.strategies.Strategy"
    )


def as_keeping(asked: Strategy | None) -> Strategy:
    """What keeps the carry of every step. Raises ValueError where asked for another."""
    if asked is None or asked == Scan():
        return Carries()
    raise ValueError(f"strategy {_shown(asked)} keeps no carries: take 'scan' or 'auto'")


def choose(call: Call, asked: Strategy | None) -> dict[str, Choice]:
    """By platform; one where the asked strategy does not serve the call is left out.

    Raises ValueError if that leaves none.
    """
    if asked is None:
        return {platform: _auto(call, platform) for platform in PLATFORMS}
    why_not = refusals(call, asked)
    if len(why_not) == len(PLATFORMS):
        raise ValueError(cannot_serve(call, asked, why_not))
    choice = Choice(asked, "it was asked for")
    return {platform: choice for platform in PLATFORMS if platform not in why_not}


def refusals(call: Call, strategy: Strategy) -> dict[str, str]:
    """Why the strategy cannot serve the call, by the platforms where it cannot."""
    answers = {platform: strategy.refusal(call, platform) for platform in PLATFORMS}
    return {platform: why for platform, why in answers.items() if why is not None}


def cannot_serve(call: Call, strategy: Strategy, why_not: dict[str, str]) -> str:
    """The sentence about `refusals`."""
    reasons = "; ".join(dict.fromkeys(why_not.values()))
    where = "" if len(why_not) == len(PLATFORMS) else f" on {' and '.join(why_not)}"
    cell = type(call.cell).__name__
    return f"strategy {_shown(strategy)} cannot serve {cell}{where}: {reasons}"


def _auto(call: Call, platform: str) -> Choice:
    """The first strategy that serves the call, unless something speaks against it."""
    others = []
    for name, strategy in STRATEGIES.items():
        refusal = strategy.refusal(call, platform)
        if refusal is not None:
            others.append(f"{name} cannot serve it ({refusal})")
            continue
        drawback = strategy.drawback(call, platform)
        if drawback is None:
            return Choice(strategy, "; ".join([strategy.why, *others]))
        others.append(f"{name} would serve it too ({drawback})")
    raise AssertionError("scan serves every cell")


@dataclass(frozen=True, eq=False)
class Told(Strategy):
    """Stands in for what was asked for, and tells what that would take."""

    asked: Strategy | None
    lines: list[str] = field(default_factory=list)

    why = "it was asked for"

    def refusal(self, call: Call, platform: str) -> str | None:
        # Asked of the whole call, before any segment of it runs, once for each platform.
        if platform == PLATFORMS[0]:
            self.lines.extend(_told(call, self.asked))
        return None

    def over_time(self, call: Call) -> tuple[Any, Any]:
        return Scan().over_time(call)


def _told(call: Call, asked: Strategy | None) -> list[str]:
    """A line for each choice, with the platforms it is for unless it is for all."""
    said: dict[str, list[str]] = {}
    choices = choose(call, asked)
    for platform in PLATFORMS:
        if platform in choices:
            strategy, why = choices[platform]
            text = f"{_name(strategy) or strategy}, because {why}"
        else:
            assert asked is not None
            text = f"refused, because {asked.refusal(call, platform)}"
        said.setdefault(text, []).append(platform)
    lines = []
    for text, where in said.items():
        on = "" if len(said) == 1 else f" on {' and '.join(where)}"
        others = [] if asked else [_on_request(call, platform) for platform in where]
        lines.append("".join([f"{type(call.cell).__name__}{on}: {text}", *others]))
    return lines


def _on_request(call: Call, platform: str) -> str:
    """What else could be asked for there."""
    return "".join(
        f"; on {platform} {name} would serve it if asked for "
        f"({strategy.drawback(call, platform)})"
        for name, strategy in ON_REQUEST.items()
        if strategy.refusal(call, platform) is None
    )


def _name(strategy: Strategy) -> str | None:
    """The name by which `unroll` knows it."""
    names = (name for name, known in NAMED.items() if known == strategy)
    return next(names, None)


def _shown(strategy: Strategy) -> str:
    name = _name(strategy)
    return repr(strategy if name is None else name)
