"""The ways to run a cell over time, one a file.

Each has `WHY`, what speaks for it; `refusal(cell)`, the reason why it cannot serve a
cell (None if it can); and

    over_time(cell, params, start, carry, xs, mask, reset, reverse) -> (carry, ys)

with `start` the carry of a fresh sequence, `carry` the one to begin with, as wide as
`Cell.widen` makes it, `mask` and `reset` `[T, ...]` or None, and `reset` already in the
order of travel: True where the carry becomes `start` before the step. All of them agree
with `scan` in value and gradient, and add up over time in float32 or wider.
"""
