"""What every model asks of the layers that it is made of."""

from collections.abc import Sequence

from jaxrnn.cell import Recurrence


def width_above(layers: Sequence[Recurrence], model: str, width: int | None = None) -> int:
    """The features that the last of the layers gives, the first one taking `width`, or any
    number where that is None.

    Raises ValueError, which names the model, if they are not in a list, if there are none,
    or if the sizes of neighbours differ.
    """
    if isinstance(layers, Recurrence):
        raise ValueError(f"a {model} takes its layers in one list, [layer], got {layers}")
    if not layers:
        raise ValueError(f"a {model} needs at least one layer, got none")
    width = layers[0].input_size if width is None else width
    for layer in layers:
        if layer.input_size != width:
            raise ValueError(f"{layer} takes {layer.input_size} features, not {width}")
        width = layer.output_size
    return width
