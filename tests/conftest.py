"""Strict JAX for every test: no silent promotion of dtypes."""

import jax
from convert_parity import precision as precision

jax.config.update("jax_numpy_dtype_promotion", "strict")
