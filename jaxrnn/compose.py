"""Recurrences made of recurrences, nested in any way."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal

import jax.numpy as jnp
from jax import Array

from jaxrnn.cell import Composition, Recurrence, Run
from jaxrnn.constants import by


@dataclass(frozen=True)
class Stack(Composition):
    """Recurrences on top of one another: the outputs of one are the inputs of the next.

        y = part_n(... part_2(part_1(x)))

    x `[..., input_size of the first]`, y `[..., output_size of the last]`. Params and
    carry are tuples, one entry a part. A Stack of parts that step, steps. Raises
    ValueError if it has no parts or the sizes of neighbours differ.
    """

    cells: tuple[Recurrence, ...]

    def __init__(self, cells: Iterable[Recurrence], *more: Any) -> None:
        if more or not isinstance(cells, Iterable):
            given = ", ".join(map(repr, (cells, *more)))
            raise ValueError(
                f"a Stack takes its recurrences in one list, Stack([a, b]), got {given}"
            )
        object.__setattr__(self, "cells", tuple(cells))
        self.__post_init__()

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.cells:
            raise ValueError("a Stack needs at least one recurrence, got none")
        for below, above in zip(self.cells, self.cells[1:], strict=False):
            if below.output_shape != above.input_shape:
                raise ValueError(
                    f"a Stack needs equal sizes between neighbours: {below} gives "
                    f"{by(below.output_shape)}, {above} takes {by(above.input_shape)}"
                )

    @property
    def parts(self) -> tuple[Recurrence, ...]:
        return self.cells

    @property
    def output_size(self) -> int:
        return self.cells[-1].output_size

    def step(self, params: tuple, carry: tuple, x: Array) -> tuple[tuple, Array]:
        return self._through(lambda part, p, c, x: part.step(p, c, x), params, carry, x)

    def over_time(
        self, run: Run, params: tuple, carry: tuple, xs: Array
    ) -> tuple[tuple, Array]:
        return self._through(run, params, carry, xs)

    def _through(
        self, each: Callable, params: tuple, carry: tuple, x: Array
    ) -> tuple[tuple, Array]:
        carries = []
        for part, p, c in zip(self.cells, params, carry, strict=True):
            c, x = each(part, p, c, x)
            carries.append(c)
        return tuple(carries), x


MERGES: dict[str, Callable[[Array, Array], Array]] = {
    "concat": lambda a, b: jnp.concatenate([a, b], axis=-1),
    "sum": jnp.add,
    "mean": lambda a, b: (a + b) / 2,
    "product": jnp.multiply,
}


@dataclass(frozen=True)
class Bidirectional(Composition):
    """Two recurrences, one in each direction of time (Schuster & Paliwal 1997).

        y_t = merge(forward y_t, backward y_t)

    Params and carry are (forward, backward); the backward part's final carry is the one
    after the first step. With masks and resets the backward part begins at the last
    valid step and anew at the end of each sequence. `merge` is "concat", "sum", "mean"
    or "product". It needs the future, so it has no `step`. Raises ValueError if the
    sizes or the merge do not fit.
    """

    forward: Recurrence
    backward: Recurrence
    merge: Literal["concat", "sum", "mean", "product"] = "concat"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.merge, str) or self.merge not in MERGES:
            raise ValueError(f"unknown merge {self.merge!r}; known: {', '.join(MERGES)}")
        if self.forward.input_shape != self.backward.input_shape:
            raise ValueError(
                "the directions of a Bidirectional need the same input size, got "
                f"{by(self.forward.input_shape)} and {by(self.backward.input_shape)}"
            )
        merged = slice(-1) if self.merge == "concat" else slice(None)
        ahead, back = (part.output_shape for part in self.parts)
        if ahead[merged] != back[merged]:
            raise ValueError(
                f"merge {self.merge!r} needs the same output size in both directions, "
                f"got {by(ahead)} and {by(back)}"
            )

    @property
    def parts(self) -> tuple[Recurrence, ...]:
        return self.forward, self.backward

    @property
    def output_size(self) -> int:
        if self.merge == "concat":
            return self.forward.output_size + self.backward.output_size
        return self.forward.output_size

    def step(self, params: tuple, carry: tuple, x: Array) -> tuple[tuple, Array]:
        raise ValueError(
            "a Bidirectional cannot step: its backward direction needs the future; "
            "give the whole sequence to unroll"
        )

    def over_time(
        self, run: Run, params: tuple, carry: tuple, xs: Array
    ) -> tuple[tuple, Array]:
        ahead, ys = run(self.forward, params[0], carry[0], xs)
        back, ys_back = run(self.backward, params[1], carry[1], xs, against=True)
        return (ahead, back), MERGES[self.merge](ys, ys_back)


@dataclass(frozen=True)
class Reversed(Composition):
    """A recurrence that goes against time: from the last step to the first.

        y_t = what it has put out at t, having come from the end

    Params and carry are (its own,); the final carry is the one after the first step. With
    masks it begins at the last valid step, with resets anew at the end of each sequence.
    It needs the future, so it has no `step`. Raises ValueError if it is given none.
    """

    recurrence: Recurrence

    @property
    def parts(self) -> tuple[Recurrence, ...]:
        return (self.recurrence,)

    @property
    def output_size(self) -> int:
        return self.recurrence.output_size

    def step(self, params: tuple, carry: tuple, x: Array) -> tuple[tuple, Array]:
        raise ValueError(
            "a Reversed cannot step: it needs the future; give the whole sequence to unroll"
        )

    def over_time(
        self, run: Run, params: tuple, carry: tuple, xs: Array
    ) -> tuple[tuple, Array]:
        after, ys = run(self.recurrence, params[0], carry[0], xs, against=True)
        return (after,), ys
