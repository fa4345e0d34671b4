"""What a model says as its training goes on."""

from typing import Any

import jax

from jaxrnn.training.problem import Problem
from jaxrnn.training.processes import first_only


def said(problem: Problem, params: Any) -> dict[str, str]:
    """{"sample": what the problem's model says with `params`}, of several processes in the
    first.

    Nothing where it says nothing, cannot (its logits are not finite, for one), or where the
    params lie in parts on several devices: an evaluation is not to need more memory.
    """
    found: dict[str, str] = {}
    if all(leaf.is_fully_replicated for leaf in jax.tree.leaves(params)):
        here = jax.tree.map(lambda leaf: leaf.addressable_data(0), params)
        first_only(lambda: found.update(_said(problem, here)))
    return found


def _said(problem: Problem, params: Any) -> dict[str, str]:
    try:
        sample = problem.sample(params)
    except ValueError:
        return {}
    return {} if sample is None else {"sample": sample}
