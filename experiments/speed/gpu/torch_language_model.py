"""Times the step of `language_model` in PyTorch: embedding, nn.LSTM, linear, descent.

    python -m experiments.speed.gpu.torch_language_model --hidden 650

float32 without TF32, float32 with it, and bfloat16 by autocast. Weights are PyTorch's own:
what is compared is time, and the loss of the first step, near log 10,000 in both.
"""

import argparse

import torch

from ..probes import emit
from .measure import alone, milliseconds

V, B, T, RATE = 10_000, 20, 35, 0.1


class Model(torch.nn.Module):
    def __init__(self, hidden: int):
        super().__init__()
        self.embedding = torch.nn.Embedding(V, hidden)
        self.lstm = torch.nn.LSTM(hidden, hidden, num_layers=2)
        self.output = torch.nn.Linear(hidden, V)

    def forward(self, tokens: torch.Tensor, carry: tuple) -> tuple:
        ys, carry = self.lstm(self.embedding(tokens), carry)
        return self.output(ys), carry


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hidden", nargs="+", type=int, default=[650])
    arguments = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    for hidden in arguments.hidden:
        for mode in ("float32", "float32 TF32", "bfloat16"):
            torch.manual_seed(0)
            torch.backends.cudnn.allow_tf32 = mode == "float32 TF32"
            torch.backends.cuda.matmul.allow_tf32 = mode != "float32"
            model = Model(hidden).to(device)
            optimiser = torch.optim.SGD(model.parameters(), lr=RATE)
            tokens, targets = torch.randint(0, V, (2, T, B), device=device)
            zeros = torch.zeros(2, B, hidden, device=device)

            def step(
                model=model, optimiser=optimiser, given=(tokens, targets, zeros), mode=mode
            ) -> torch.Tensor:
                tokens, targets, zeros = given
                narrow = mode == "bfloat16"
                optimiser.zero_grad(set_to_none=True)
                with torch.autocast(device, torch.bfloat16, enabled=narrow):
                    logits, _ = model(tokens, (zeros, zeros))
                    loss = torch.nn.functional.cross_entropy(
                        logits.reshape(-1, V), targets.reshape(-1)
                    )
                loss.backward()
                optimiser.step()
                if device == "cuda":
                    torch.cuda.synchronize()
                return loss

            loss = step().item()
            row = {"model": f"2x{hidden}", "dtype": mode, "B": B, "T": T}
            with alone():
                took = milliseconds(step)
            speed = 1e3 * B * T / took
            emit(
                **row, program="torch", ms=took, tokens_per_second=speed, loss=loss, ok=True
            )


if __name__ == "__main__":
    main()
