"""The presets of a language model run."""

from dataclasses import replace
from pathlib import Path

from .options import Config as Config
from .recipes import RECIPES

_BASE = Config()

_CHAR = replace(
    _BASE,
    split=(0.9, 0.1, 0.0),
    steps=1200,
    weight_decay=0.05,
    weight_decay_of="all",  # as its figure was measured
    warmup=0.04,
    eval_every=400,
)

PRESETS: dict[str, tuple[str, Config]] = {
    "demo": (
        "A few minutes on a laptop: learns to write Python from Python's own source.",
        replace(
            _BASE,
            run_dir=Path("runs/demo"),
            tokens="byte",
            steps=2000,
            learning_rate=1e-2,
            warmup=0.03,
            eval_every=1000,
            sample_prompt="\n    def ",
        ),
    ),
    "char": (
        "Characters of a small text such as tinyshakespeare, in about a minute.",
        replace(_CHAR, run_dir=Path("runs/char"), learning_rate=1e-2),
    ),
    "char-512": (
        "The same with 512 units: nine minutes, where a CPU multiplies in bfloat16.",
        replace(
            _CHAR,
            run_dir=Path("runs/char-512"),
            precision="bfloat16",
            batch_size=64,
            hidden_size=512,
            dropout=0.4,
            dropout_over_time="shared",
            learning_rate=6e-3,
            steps=3200,
            eval_every=800,
        ),
    ),
    "char-transformer": (
        "A Transformer of the size of char's network, to compare with.",
        replace(
            _CHAR,
            run_dir=Path("runs/char-transformer"),
            cell="transformer",
            layers=3,
            hidden_size=96,
            sample_length=0,
        ),
    ),
    **RECIPES,
    "tiny": (
        "Seconds: for the tests.",
        replace(
            _BASE,
            run_dir=Path("runs/tiny"),
            report=False,
            batch_size=8,
            sequence_length=16,
            hidden_size=16,
            embedding_size=8,
            dropout=0.1,
            steps=60,
            eval_every=20,
            checkpoint_every=20,
            log_every=10,
            sample_length=80,
        ),
    ),
}
