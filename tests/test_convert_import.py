"""What importing the conversions brings along."""

import subprocess
import sys

PROGRAM = """
import sys, jaxrnn.convert
peers = {"torch", "keras", "haiku", "equinox", "safetensors", "onnx"}
print(sorted(peers & set(sys.modules)))
"""


def test_the_conversions_import_no_framework_but_flax():
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"


def test_a_star_import_brings_the_conversions_and_no_submodule():
    names: dict = {}
    exec("from jaxrnn.convert import *", names)
    del names["__builtins__"]
    peers = ("cudnn", "equinox", "haiku", "keras", "linen", "nnx", "onnx", "torch")
    assert names.keys() == {f"{way}_{peer}" for way in ("from", "to") for peer in peers}
    for name, value in names.items():
        assert callable(value) and value.__name__ == name
