"""Reads a compiled program's text: its loops, its collectives, its estimated cycles.

The text is what `jax.stages.Compiled.as_text()` gives, XLA's HLO after all passes. A loop
is a `while`; those over time are among them, and so are loops over updates. How often one
turns is read off its condition, a counter compared with a constant.
"""

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

COLLECTIVES = {
    *("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "ragged-all-to-all"),
    *("collective-permute", "collective-broadcast"),
}
PRODUCTS = {"dot", "convolution"}

_COMPUTATION = re.compile(r"^(ENTRY )?%?(?P<name>[\w.\-]+) \(.*\{$")
_INSTRUCTION = re.compile(
    r"^  (?P<root>ROOT )?%?(?P<name>[\w.\-]+)"
    r" = (?P<shape>\(.*?\)|\S+) (?P<op>[a-z][\w\-]*)\("
)
_CALLED = re.compile(
    r"\b(calls|to_apply|body|condition|branch_computations|true_computation"
    r"|false_computation|called_computations)=(\{[^}]*\}|%?[\w.\-]+)"
)
_CYCLES = re.compile(r'"estimated_cycles":"(\d+)"')
_PLACE = re.compile(r'op_name="([^"]*)"')
_OPERANDS = re.compile(r"%([\w.\-]+)")


class Instruction(NamedTuple):
    name: str
    op: str
    shape: str
    line: str
    root: bool

    @property
    def called(self) -> dict[str, list[str]]:
        """The computations that it names, by what they are to it."""
        return {
            role: re.findall(r"[\w.\-]+", names)
            for role, names in _CALLED.findall(self.line)
        }

    @property
    def collective(self) -> str | None:
        """Its kind, None of all else; one begun and ended apart counts where it begins."""
        kind = self.op.removesuffix("-start")
        return kind if kind in COLLECTIVES else None

    @property
    def place(self) -> str:
        """Where in the traced program it is from."""
        found = _PLACE.search(self.line)
        return found[1] if found else "no name"

    @property
    def cycles(self) -> int:
        """What the compiler estimates, 0 where it does not."""
        return sum(map(int, _CYCLES.findall(self.line)))


class Loop(NamedTuple):
    place: str
    turns: int | None  # None where the condition does not tell


class Collective(NamedTuple):
    kind: str
    name: str
    shape: str
    place: str
    loop: Loop | None  # the innermost one around it


class Cycles(NamedTuple):
    """Estimated ones, a loop's as often as it turns."""

    all: int = 0
    loops: int = 0  # of those in loops
    products: int = 0  # of those in loops, in fusions that hold a matrix product

    def plus(self, other: "Cycles") -> "Cycles":
        return Cycles(*map(sum, zip(self, other, strict=True)))

    def times(self, turns: int) -> "Cycles":
        return Cycles(*(turns * count for count in self))


@dataclass(frozen=True)
class Module:
    computations: dict[str, list[Instruction]]
    entry: str

    @classmethod
    def parse(cls, text: str) -> "Module":
        """Raises ValueError for a text without an entry."""
        computations: dict[str, list[Instruction]] = {}
        entry, inside = None, None
        for line in text.splitlines():
            if head := _COMPUTATION.match(line):
                inside = computations.setdefault(head["name"], [])
                entry = head["name"] if head[1] else entry
            elif inside is not None and (found := _INSTRUCTION.match(line)):
                parts = found["name"], found["op"], found["shape"], line
                inside.append(Instruction(*parts, root=bool(found["root"])))
        if entry is None:
            raise ValueError("the text has no ENTRY computation: it is no HLO module")
        return cls(computations, entry)

    @cached_property
    def loops(self) -> list[Loop]:
        """In the order in which they are met, inner ones after the one around them."""
        return [self._loop(found) for found, _ in self._walk() if found.op == "while"]

    @cached_property
    def collectives(self) -> list[Collective]:
        return [
            Collective(found.collective, found.name, found.shape, found.place, loop)
            for found, loop in self._walk()
            if found.collective
        ]

    @cached_property
    def cycles(self) -> Cycles:
        return self._cycles(self.entry, inside=False)

    def _walk(
        self, name: str | None = None, loop: Loop | None = None
    ) -> Iterator[tuple[Instruction, Loop | None]]:
        """(instruction, the innermost loop around it) of all that the entry reaches."""
        for found in self.computations[name or self.entry]:
            yield found, loop
            around = self._loop(found) if found.op == "while" else loop
            for names in found.called.values():
                for other in names:
                    yield from self._walk(other, around)

    def _loop(self, found: Instruction) -> Loop:
        return Loop(found.place, self._turns(found.called["condition"][0]))

    def _turns(self, condition: str) -> int | None:
        """The constant that the counter is compared with; JAX's loops begin at 0."""
        constants = {}
        for found in self.computations[condition]:
            if value := re.search(r" constant\((\d+)\)", found.line):
                constants[found.name] = int(value[1])
            if found.root and found.op == "compare" and "direction=LT" in found.line:
                operands = _OPERANDS.findall(found.line.partition(" compare(")[2])
                return constants.get(operands[1])
        return None

    def _cycles(self, name: str, inside: bool) -> Cycles:
        total = Cycles()
        for found in self.computations[name]:
            called = found.called
            if found.op == "while":
                turns = self._turns(called["condition"][0]) or 1
                body = self._cycles(called["body"][0], inside=True)
                total = total.plus(body.times(turns))
            elif found.op == "conditional":
                branches = [name for names in called.values() for name in names]
                total = total.plus(max(self._cycles(name, inside) for name in branches))
            elif found.op == "call":
                total = total.plus(self._cycles(called["to_apply"][0], inside))
            else:
                own = found.cycles
                product = own * self._multiplies(found)
                total = total.plus(Cycles(own, own * inside, product * inside))
        return total

    def _multiplies(self, found: Instruction) -> bool:
        if found.op in PRODUCTS:
            return True
        called = found.called.get("calls", ()) if found.op == "fusion" else ()
        return any(
            self._multiplies(inner) for name in called for inner in self.computations[name]
        )


def in_loops(collectives: list[Collective]) -> list[Collective]:
    return [found for found in collectives if found.loop is not None]


def counted(collectives: list[Collective]) -> dict[str, int]:
    """How many there are of each kind."""
    return dict(Counter(found.kind for found in collectives))
