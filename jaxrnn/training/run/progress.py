"""What a person sees while a run goes on: a bar on a terminal, plain lines elsewhere."""

import math
import sys
import time

from jaxrnn.extras import require
from jaxrnn.training.processes import is_first
from jaxrnn.training.run.terminal import speak_to_nobody

# Seconds between two signs of an evaluation: on a terminal, and in plain lines.
SHOWN_EVERY, SAID_EVERY = 0.2, 30.0


class Progress:
    """Shows loss, perplexity or bits, learning rate, tokens per second and time left.

    `unit` is what the loss is counted in, such as "nats/character": characters and bytes
    are shown as bits, words and tokens as perplexity. `counted` is what the speed is told
    in, tokens or rows. `seconds` were spent before. A context manager. Of several
    processes the first one speaks.
    """

    def __init__(
        self,
        steps: int,
        done: int,
        tokens_per_step: int,
        unit: str,
        seconds: float = 0.0,
        counted: str = "tokens",
    ) -> None:
        self.steps, self.unit, self.counted = steps, unit, counted
        self.tokens_per_step = tokens_per_step
        self._began, self._done_before, self._seconds_before = (
            time.monotonic(),
            done,
            seconds,
        )
        require("tqdm", "run")
        from tqdm import tqdm

        self.bar = tqdm(
            total=steps,
            initial=done,
            disable=not (sys.stderr.isatty() and is_first()),
            unit="step",
            dynamic_ncols=True,
        )
        self._shown = time.monotonic()

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *error: object) -> None:
        self.bar.close()

    @property
    def seconds(self) -> float:
        """Spent on the run so far, in all its starts, evaluations and saving included."""
        return self._seconds_before + time.monotonic() - self._began

    def speed(self, step: int) -> float:
        """Tokens a second of this start of the run, which is at `step`."""
        return self._steps_per_second(step) * self.tokens_per_step

    def training(self, step: int, loss: float | None, learning_rate: float | None) -> None:
        """Shows where training is; None for what its step does not measure."""
        shown = "  ".join(
            [
                *([] if loss is None else [loss_shown(loss, self.unit, 3)]),
                *([] if learning_rate is None else [f"lr {learning_rate:.2e}"]),
                f"{self.speed(step):,.0f} {self.counted}/s",
            ]
        )
        if self.bar.disable:
            left = self.bar.format_interval(
                (self.steps - step) / self._steps_per_second(step)
            )
            self.say(f"step {step}/{self.steps}  {shown}  {left} left")
        else:
            self.bar.set_postfix_str(shown, refresh=False)
            self.bar.update(step - self.bar.n)

    def evaluating(self, done: int, total: int) -> None:
        """Shows where an evaluation is, now and then."""
        now = time.monotonic()
        if done == 0:
            self._shown = now
        if now - self._shown < (SAID_EVERY if self.bar.disable else SHOWN_EVERY):
            return
        self._shown = now
        if self.bar.disable:
            self.say(f"evaluating: {done} of {total} batches")
        else:
            self.bar.set_postfix_str(f"evaluating: {done}/{total}")

    def evaluation(self, step: int, figures: dict[str, float], best: bool) -> None:
        mark = "  best so far" if best else ""
        shown = figures_shown("valid", figures, self.unit)
        self.say(f"step {step}/{self.steps}  {shown}{mark}")

    def say(self, text: str) -> None:
        """One line that the bar does not overwrite. Training goes on where nobody reads
        it: the metrics are in a file too."""
        if not is_first():
            return
        try:
            self.bar.write(text, file=sys.stdout)
            sys.stdout.flush()
        except BrokenPipeError:
            speak_to_nobody()

    def _steps_per_second(self, step: int) -> float:
        return (step - self._done_before) / (time.monotonic() - self._began)


def figures_shown(split: str, figures: dict[str, float], unit: str) -> str:
    """What was measured on a split, in one line."""
    shown = [
        loss_shown(value, unit, 4) if name == "loss" else f"{name} {value:.4f}"
        for name, value in figures.items()
    ]
    return f"{split} {'  '.join(shown)}"


def loss_shown(loss: float, unit: str, digits: int) -> str:
    return "  ".join(filter(None, [f"loss {loss:.{digits}f}", quality(loss, unit)]))


def quality(loss: float, unit: str) -> str:
    """A loss in nats as people of the field read it, nothing where they read nats."""
    if unit in ("nats/character", "nats/byte"):
        return f"{loss / math.log(2):.3f} bits/{unit.removeprefix('nats/')}"
    if unit in ("nats/word", "nats/token"):
        return f"perplexity {math.exp(min(loss, 700)):.2f}"
    return ""
