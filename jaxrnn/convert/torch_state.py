"""Where PyTorch's weights lie: in modules, state dicts and files, and under which keys."""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

DIRECTIONS = ("", "_reverse")
KEY = re.compile(r"(weight_ih|weight_hh|weight_hr|bias_ih|bias_hh)(_l(\d+)(_reverse)?)?")


def live_module(source: Any, prefix: str) -> Any:
    """The live module whose keys begin with `prefix`, if there is one."""
    if not prefix or not hasattr(source, "named_modules"):
        return source
    return dict(source.named_modules()).get(prefix.removesuffix("."))


def check_dropout(module: Any) -> None:
    between = getattr(module, "num_layers", 1) > 1 and getattr(module, "dropout", 0)
    if between and module.training:
        raise ValueError(
            f"the module is in training mode with dropout={between} between its layers, "
            "which a recurrence does not have: convert it after module.eval()"
        )


def state_dict_of(source: Any) -> Mapping[str, Any]:
    if isinstance(source, Mapping):
        return source
    if hasattr(source, "state_dict"):
        return source.state_dict()
    if not isinstance(source, (str, os.PathLike)):
        raise ValueError(
            "from_torch takes a module, a state dict or the path of a .safetensors file, "
            f"got {type(source).__name__}"
        )
    if Path(source).suffix != ".safetensors":
        raise ValueError(
            f"cannot read {source}: only .safetensors files are read, because loading a "
            "pickled file (.pt, .pth, .bin) can run any code; save it as safetensors, or "
            "load it with torch.load(..., weights_only=True) and give the state dict"
        )
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        return load_file(source)
    except SafetensorError as error:
        raise ValueError(f"{source} is no safetensors file: {error}") from error


def layout_of(
    state: Mapping[str, str], prefix: str, given: list[str]
) -> tuple[list[str], list[list[str]]]:
    """The names of the arrays, and what ends them in each layer and direction.

    Raises ValueError if one is missing in any of them, or for a key that is none.
    """
    keys = {key: match for key in state if (match := KEY.fullmatch(key))}
    suffixes = [[""]]  # of an LSTMCell, GRUCell or RNNCell
    if "weight_ih" not in state:
        if "weight_ih_l0" not in state:
            raise ValueError(
                f"no {prefix}weight_ih_l0 among the keys {given}{_advice(given)}"
            )
        count = len({match[3] for match in keys.values() if match[3]})
        ways = DIRECTIONS if any(match[4] for match in keys.values()) else DIRECTIONS[:1]
        suffixes = [[f"_l{number}{way}" for way in ways] for number in range(count)]
    names = {"weight_ih", "weight_hh"} | {match[1] for match in keys.values()}
    if "bias_ih" in names or "bias_hh" in names:
        names |= {"bias_ih", "bias_hh"}
    wanted = [name + s for layer in suffixes for s in layer for name in sorted(names)]
    for key in wanted:
        if key not in state:
            raise ValueError(
                f"no {key} among the keys {sorted(state)}{_advice(sorted(state))}"
            )
    unknown = sorted(state.keys() - set(wanted))
    if unknown:
        raise ValueError(f"keys that no recurrent layer has: {unknown}{_advice(unknown)}")
    return sorted(names), suffixes


def _advice(keys: list[str]) -> str:
    """What to do about weights that lie under other names."""
    if any(key.endswith("_raw") for key in keys):
        return "; what weight drop keeps as _raw must be given without the _raw"
    if any("parametrizations." in key or key.endswith(("_g", "_v")) for key in keys):
        return "; remove the weight norm or other parametrisation first"
    starts = [key.removesuffix("weight_ih_l0") for key in keys if "weight_ih_l0" in key]
    starts = [start for start in starts if start and "weight" not in start]
    return f"; there is one with prefix={starts[0]!r}" if starts else ""
