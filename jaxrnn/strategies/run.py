"""Running a call by the strategies of the platforms that it may be compiled for.

The host that traces is not asked: `jax.export` and ahead-of-time compilation for another
platform get the program of that platform.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import ShapedArray
from jax.extend.core import Primitive
from jax.interpreters import mlir

from jaxrnn.arrays import cast_like
from jaxrnn.strategies.call import Call
from jaxrnn.strategies.checkpoint import in_segments
from jaxrnn.strategies.choose import PLATFORMS, cannot_serve, choose, refusals
from jaxrnn.strategies.strategy import Strategy


def run(
    call: Call, asked: Strategy | None, checkpoint_every: int | None
) -> tuple[Any, Any]:
    """The last carry, narrow as `call.start`, and ys; asked is None for "auto".

    Raises ValueError if the asked strategy cannot serve the call: here if it can on no
    platform, else where a program is lowered for one that it cannot serve.
    """

    def by(strategy: Strategy) -> Callable[[Call], tuple[Any, Any]]:
        every = checkpoint_every
        if every is None:
            return strategy.over_time
        return lambda call: in_segments(strategy.over_time, call, every)

    chosen = {name: choice.strategy for name, choice in choose(call, asked).items()}
    runs = {strategy: by(strategy) for strategy in dict.fromkeys(chosen.values())}
    if len(runs) > 1:
        last, ys = _by_platform({name: runs[s] for name, s in chosen.items()}, call)
    else:
        ((strategy, only),) = runs.items()
        last, ys = only(call if len(chosen) == len(PLATFORMS) else _guarded(call, strategy))
    return cast_like(last, call.start), ys


def _by_platform(runs: dict[str, Callable], call: Call) -> tuple[Any, Any]:
    """Both branches are traced, one is lowered. What is no CPU and no TPU is like a GPU."""
    return jax.lax.platform_dependent(
        call, cpu=runs["cpu"], tpu=runs["tpu"], default=runs["gpu"]
    )


def _guarded(call: Call, strategy: Strategy) -> Call:
    """The call, which no program takes that is for a platform the strategy cannot serve."""
    why_not = refusals(call, strategy)
    sentence = cannot_serve(call, strategy, why_not)
    served = served_p.bind(refused=tuple(why_not), sentence=sentence)
    carry = jax.tree.map(lambda a: jnp.where(served, a, a), call.carry)
    return call.replace(carry=carry)


served_p = Primitive("served")  # True, or an error where lowered for a refused platform


@served_p.def_abstract_eval
def _served_shape(*, refused: tuple[str, ...], sentence: str) -> ShapedArray:
    return ShapedArray((), np.dtype(bool))


@served_p.def_impl
def _served_here(*, refused: tuple[str, ...], sentence: str) -> Any:
    _check_served([jax.default_backend()], refused, sentence)
    return jnp.array(True)


def _served_lowered(ctx: Any, *, refused: tuple[str, ...], sentence: str) -> Any:
    _check_served(ctx.module_context.platforms, refused, sentence)
    return [mlir.ir_constant(np.bool_(True))]


mlir.register_lowering(served_p, _served_lowered)


def _check_served(platforms: Any, refused: tuple[str, ...], sentence: str) -> None:
    for name in platforms:
        if {"cuda": "gpu", "rocm": "gpu"}.get(name, name) in refused:
            raise ValueError(sentence)
