"""Times `torch.nn.LSTM` and `GRU` (cuDNN) on the inputs and weights of `layers`.

    python -m experiments.speed.gpu.torch_layers --cell lstm --size 512x64

Each in float32 without TF32, float32 with it (PyTorch's default for cuDNN), bfloat16 and
float16. cuDNN's persistent kernel serves float16 alone, one layer, H up to 1024.
"""

import argparse
import os

os.environ["JAX_PLATFORMS"] = "cpu"  # JAX makes weights and reference here, no more

import numpy as np
import torch

from jaxrnn.convert import to_torch

from ..probes import brief, emit
from .inputs import inputs
from .layers import PREFIX, reference
from .measure import alone, distance, milliseconds

MODES = {  # dtype, TF32
    "float32": (torch.float32, False),
    "float32 TF32": (torch.float32, True),
    "bfloat16": (torch.bfloat16, False),
    "float16": (torch.float16, False),
}
TOLERANCE = {"float32": 1e-4, "float32 TF32": 5e-3, "bfloat16": 5e-2, "float16": 1e-2}


def probe(kind: str, size: int, batch: int, length: int, device: str) -> None:
    cell, params, xs, ys_bar = inputs(kind, size, batch, length)
    want = reference(cell, params, xs)
    state = {
        name: torch.tensor(np.asarray(w)) for name, w in to_torch(cell, params).items()
    }

    def synchronized(act):
        def program() -> None:
            act()
            if device == "cuda":
                torch.cuda.synchronize()

        return program

    for mode, (dtype, tf32) in MODES.items():
        torch.backends.cudnn.allow_tf32 = tf32
        torch.backends.cuda.matmul.allow_tf32 = tf32
        rnn = {"lstm": torch.nn.LSTM, "gru": torch.nn.GRU}[kind](size, size)
        rnn.load_state_dict(state)
        rnn = rnn.to(device, dtype)
        rnn.flatten_parameters()
        x, y_bar = (torch.tensor(a, device=device).to(dtype) for a in (xs, ys_bar))

        def forward(rnn=rnn, x=x) -> torch.Tensor:
            with torch.no_grad():
                return rnn(x)[0]

        def gradient(rnn=rnn, x=x, y_bar=y_bar) -> None:
            rnn.zero_grad(set_to_none=True)
            x.requires_grad_(True)
            x.grad = None
            rnn(x)[0].backward(y_bar)

        row = {"cell": kind, "H": size, "B": batch, "T": length}
        row |= {"dtype": mode, "program": f"torch.nn.{kind.upper()}"}
        try:
            error = distance(forward()[:PREFIX].float().cpu().numpy(), want)
            for name, program in (("forward", forward), ("gradient", gradient)):
                with alone():
                    took = milliseconds(synchronized(program))
                times = {"ms": took, "us_per_step": 1e3 * took / length}
                ok = error < TOLERANCE[mode]
                emit(**row, **{"pass": name}, **times, error=error, ok=ok)
        except Exception as failure:
            emit(**row, ok=False, why=brief(failure))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cell", nargs="+", default=["lstm"])
    parser.add_argument("--size", nargs="+", default=["512x64"], help="HxB")
    parser.add_argument("--length", type=int, default=512)
    arguments = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    emit(torch=torch.__version__, cudnn=torch.backends.cudnn.version(), device=device)
    for kind in arguments.cell:
        for size in arguments.size:
            hidden, batch = map(int, size.split("x"))
            probe(kind, hidden, batch, arguments.length, device)


if __name__ == "__main__":
    main()
