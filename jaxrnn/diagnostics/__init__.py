"""What a recurrent network does with its past: arrays, and pictures of them."""

from jaxrnn.diagnostics.gates import (
    Saturation as Saturation,
    gate_values as gate_values,
    horizons as horizons,
    memory_horizon as memory_horizon,
    saturation as saturation,
)
from jaxrnn.diagnostics.over_time import (
    Walk as Walk,
    gradient_by_lag as gradient_by_lag,
    state_norms as state_norms,
    walk as walk,
)
from jaxrnn.diagnostics.spectrum import (
    spectral_radius as spectral_radius,
    step_jacobian as step_jacobian,
)
from jaxrnn.diagnostics.text import colour_text as colour_text
from jaxrnn.diagnostics.within import Within as Within, within as within
