"""What the two persistent kernels share: flags, and how Pallas is spoken to."""

import inspect
from typing import Any

import jax.numpy as jnp
from jax import Array
from jax.experimental.pallas import mosaic_gpu as plgpu

ACC = plgpu.ACC  # pyright: ignore[reportPrivateImportUsage]
ROWS = 64  # of the batch, the smallest product of the tensor cores


def valids(flags: Array) -> Array:
    """Where the step counts: 1, or 2 where a sequence begins; negative where masked."""
    return flags > 0


def begins(flags: Array) -> Array:
    return flags * flags > 2


def call(kernel: Any, outputs: Any, scratch: Any, tiles: int, blocks: int) -> Any:
    """`kernel` over `tiles` clusters of `blocks`, axes "tile" and "block"."""
    names = inspect.signature(plgpu.kernel).parameters
    return plgpu.kernel(
        kernel,
        **{
            "out_type" if "out_type" in names else "out_shape": outputs,  # jax 0.11, 0.10
            "scratch_types" if "scratch_types" in names else "scratch_shapes": scratch,
        },
        grid=(tiles,),
        grid_names=("tile",),
        cluster=(blocks,),
        cluster_names=("block",),
    )


def load(ref: Any, **how: Any) -> Array:
    """The whole of it, in the layout of the tensor cores' results, as float32."""
    index = ((),) if "idx" in inspect.signature(plgpu.load).parameters else ()  # jax 0.10
    return plgpu.load(ref, *index, layout=plgpu.Layout.WGMMA, **how).astype(jnp.float32)


def shared(shape: tuple[int, ...], dtype: Any, width: int) -> Any:
    """Shared memory in tiles of 8 rows and `width` columns."""
    swizzle = min(128, width * jnp.dtype(dtype).itemsize)
    elements = swizzle // jnp.dtype(dtype).itemsize
    return plgpu.SMEM(
        shape,
        dtype,
        transforms=(
            plgpu.TilingTransform((8, elements)),
            plgpu.SwizzleTransform(swizzle),
        ),
    )
