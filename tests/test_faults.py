"""Every fault a few times: what `make faults` does many times over."""

import pytest
from faults import Faults

pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def faults(tmp_path_factory):
    return Faults(tmp_path_factory.mktemp("faults"), seed=1)


@pytest.mark.parametrize(
    "fault",
    [
        "kills",
        "signals",
        "second_signals",
        "damage",
        "damaged_runs",
        "full_disk",
        "two_writers",
        "bad_numbers",
        "changed_world",
        "devices",
        "processes",
    ],
)
def test_a_run_survives(faults, fault):
    assert getattr(faults, fault)().tried > 0
