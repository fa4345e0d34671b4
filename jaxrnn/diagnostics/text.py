"""A text coloured by what one unit does at each of its tokens."""

import html
from collections.abc import Sequence

import numpy as np
from jax.typing import ArrayLike

POSITIVE = "214, 39, 40"
NEGATIVE = "31, 119, 180"


def colour_text(
    tokens: Sequence[str],
    activations: ArrayLike | Sequence[float],
    *,
    scale: float | None = None,
) -> str:
    """HTML of a text with a background for each token: red where the unit's activation is
    positive, blue where it is negative, the paler the nearer to zero (Karpathy et al.
    2015).

    tokens are characters or words, with white space and line ends as the text has them;
    activations `[T]` has a number for each. `scale` is the activation of full colour, the
    largest absolute one if None. Raises ValueError if their numbers differ.
    """
    values = np.asarray(activations, float)
    if values.shape != (len(tokens),):
        raise ValueError(
            f"activations must be [{len(tokens)}], one a token, got shape "
            f"{list(values.shape)}"
        )
    if scale is None:
        scale = float(np.max(np.abs(values), initial=0.0))
    strengths = np.clip(values / scale, -1, 1) if scale else values
    spans = [
        f'<span style="background: rgba({POSITIVE if strength > 0 else NEGATIVE}, '
        f'{abs(strength):.2f})" title="{value:.3f}">{html.escape(token)}</span>'
        for token, value, strength in zip(tokens, values, strengths, strict=True)
    ]
    return f'<pre style="white-space: pre-wrap">{"".join(spans)}</pre>\n'
