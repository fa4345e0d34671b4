"""What importing the conversions brings along."""

import subprocess
import sys

PROGRAM = """
import sys, jaxrnn.convert
peers = {"torch", "keras", "haiku", "equinox", "safetensors"}
print(sorted(peers & set(sys.modules)))
"""


def test_the_conversions_import_no_framework_but_flax():
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"
