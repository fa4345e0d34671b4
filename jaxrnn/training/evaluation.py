"""Evaluations in sight of whoever waits: shown as they go, cut short if need be."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeVar

Batch = TypeVar("Batch")

# watch(done, total), called before each batch; it raises Cut to end the evaluation there
Watch = Callable[[int, int], None]


class Cut(Exception):
    """An evaluation was ended before its end: it has no figures, and is to be done anew."""


_watch: ContextVar[Watch] = ContextVar("watch", default=lambda done, total: None)


@contextmanager
def watching(watch: Watch) -> Iterator[None]:
    """Has `watch` called in the evaluations within the block."""
    former = _watch.set(watch)
    try:
        yield
    finally:
        _watch.reset(former)


def watched(batches: Iterable[Batch], total: int) -> Iterator[Batch]:
    """The batches of an evaluation, `total` of them, as whoever watches lets them pass.

    What goes through its batches so can be seen to go on, and stops soon after a signal;
    an evaluation that does not is waited for.
    """
    for done, batch in enumerate(batches):
        _watch.get()(done, total)
        yield batch


def share_of(measured: int, there: int) -> dict[str, float]:
    """What figures say of the share that they were measured on, nothing if that is all."""
    return {} if measured == there else {"share": measured / there}


def evenly(batches: Sequence[Batch], limit: int | None) -> Sequence[Batch]:
    """`limit` of the batches, evenly spaced among them; all of them if None."""
    if limit is None or limit >= len(batches):
        return batches
    return [batches[(2 * n + 1) * len(batches) // (2 * limit)] for n in range(limit)]
