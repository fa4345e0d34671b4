"""Strict JAX for every test: no silent promotion of dtypes."""

import jax

jax.config.update("jax_numpy_dtype_promotion", "strict")
