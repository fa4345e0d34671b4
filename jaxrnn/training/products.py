"""How exactly the programs of training multiply matrices of float32."""

from collections.abc import Callable
from functools import wraps
from typing import Any, Literal

import jax

MatmulPrecision = Literal["default", "high", "highest"]


def multiplying(precision: MatmulPrecision, act: Callable[..., Any]) -> Callable[..., Any]:
    """`act`, to be compiled, whose products are of `precision`.

    "default" leaves it as JAX is set: where it is not, an accelerator rounds the numbers
    first (a TPU to bfloat16, a GPU to TF32), a CPU does not.
    """
    if precision == "default":
        return act

    @wraps(act)
    def precisely(*given: Any) -> Any:
        with jax.default_matmul_precision(precision):
            return act(*given)

    return precisely
