"""What gated cells have in common: activations that are arguments."""

from dataclasses import dataclass, fields
from typing import Any

from jax import Array

from jaxrnn.cell import Carry, Cell, Params
from jaxrnn.cells.activations import check_activation, clip, squash
from jaxrnn.constants import check_number


@dataclass(frozen=True, kw_only=True)
class GatedCell(Cell[Params, Carry]):
    """A cell whose activations and bounds are fields, so that other people's cells have
    their like.

    gate_activation: of all gates, a name of `jaxrnn.cells.activations`.
    candidate_activation: of what the gates let in.
    activation_clip: what enters any activation is first held to [-this, this].

    Fields of a subclass whose names end in `activation` or `clip` are checked alike: raises
    ValueError for an unknown activation, or a bound of 0 or less.
    """

    gate_activation: str = "sigmoid"
    candidate_activation: str = "tanh"
    activation_clip: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name.endswith("activation"):
                check_activation(value)
            elif field.name.endswith("clip") and value is not None:
                check_number(self, field.name, above=0)

    def changed(self) -> dict[str, Any]:
        """The options that are not the default, by name."""
        options = {field.name: field.default for field in fields(self) if field.kw_only}
        given = {name: getattr(self, name) for name in options}
        return {name: value for name, value in given.items() if value != options[name]}

    def __repr__(self) -> str:
        sizes = [field.name for field in fields(self) if not field.kw_only]
        shown = {name: getattr(self, name) for name in sizes} | self.changed()
        listed = ", ".join(f"{name}={value!r}" for name, value in shown.items())
        return f"{type(self).__name__}({listed})"

    def activate(self, z: Array, *blocks: str) -> tuple[Array, ...]:
        """z in blocks side by side, each through its activation: that of a "gate", the
        "candidate" or, where a cell has one, the "output"."""
        functions = (getattr(self, f"{block}_activation") for block in blocks)
        return squash(clip(z, self.activation_clip), *functions)
