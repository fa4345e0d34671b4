"""One topology for a few steps: what `make topologies` does with many for a hundred."""

import numpy as np
import pytest
from topologies import TOLERANCE, Topology, joined, learn, start, write_text


@pytest.mark.slow
def test_two_processes_learn_what_one_learns(tmp_path):
    text, steps = write_text(tmp_path), 10
    one = learn(text, Topology(), steps)
    two = joined(
        start(Topology(2, processes=2, fsdp=True), text, steps, tmp_path / "cache")
    )
    assert one.rows == two.rows
    np.testing.assert_allclose(two.losses, one.losses, atol=TOLERANCE)
