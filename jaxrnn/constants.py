"""The sizes and numbers that a recurrence is made of: checked, and made plain."""

import math
import operator
from typing import Any


def check_size(cell: Any, name: str) -> None:
    """Makes the field `name`, an integer of any type, a plain int.

    Raises ValueError if it is none, or below 1.
    """
    given = getattr(cell, name)
    try:
        size = 0 if isinstance(given, bool) else operator.index(given)
    except TypeError:
        size = 0
    if size < 1:
        raise ValueError(f"{type(cell).__name__} needs {name} of 1 or more, got {given!r}")
    if size is not given:  # a plain int prints, compares and is saved as JSON
        object.__setattr__(cell, name, size)


def check_sizes(cell: Any, name: str) -> None:
    """Makes the field `name`, integers in a tuple or list, a tuple of plain ints.

    Raises ValueError if it is none, or holds one below 1.
    """
    given = getattr(cell, name)
    try:
        sizes = tuple(map(operator.index, given))
    except TypeError:
        sizes = ()
    if not sizes or min(sizes) < 1:
        raise ValueError(
            f"{type(cell).__name__} needs sizes of 1 or more for {name}, got {given!r}"
        )
    object.__setattr__(cell, name, sizes)


def by(shape: tuple[int, ...]) -> str:
    """A shape in words: "4", or "5 x 5 x 4" where the features lie in space."""
    return " x ".join(map(str, shape))


def check_number(recurrence: Any, name: str, above: float = -math.inf) -> None:
    """Makes the field `name`, a number of any type, a plain float.

    Raises ValueError if it is none, not finite or not above `above`.
    """
    number = plain_number(recurrence, name, getattr(recurrence, name), above)
    object.__setattr__(recurrence, name, number)


def check_numbers(recurrence: Any, name: str) -> None:
    """`check_number` of a field that may be one number or several."""
    given = getattr(recurrence, name)
    if isinstance(given, tuple | list) or getattr(given, "ndim", 0) == 1:
        numbers = tuple(plain_number(recurrence, name, number) for number in given)
        object.__setattr__(recurrence, name, numbers)
    else:
        check_number(recurrence, name)


def plain_number(recurrence: Any, name: str, given: Any, above: float = -math.inf) -> float:
    """`given` as a float, which prints, compares and is saved as JSON."""
    try:
        if not isinstance(given, str | bool) and math.isfinite(given) and given > above:
            return float(given)
    except TypeError:
        pass
    bound = "" if above == -math.inf else f" above {above:g}"
    owner = type(recurrence).__name__
    raise ValueError(f"{owner} needs a finite number{bound} for {name}, got {given!r}")
