"""Every fault a few times: what `make faults` does many times over."""

import pytest
from faults import FAILURES, PASSING, Faults

pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def faults(tmp_path_factory):
    return Faults(tmp_path_factory.mktemp("faults"), seed=1)


AT_EVERY_CHANGE = {"kills", "signals"}


@pytest.mark.parametrize(
    "fault, arguments",
    [
        pytest.param(
            fault,
            arguments,
            id=fault,
            marks=[pytest.mark.slow] * (fault not in AT_EVERY_CHANGE),
        )
        for fault, arguments in {
            "kills": (2,),
            "signals": (),
            "second_signals": (),
            "damage": (40,),
            "damaged_runs": (1,),
            "odd_names": ("../[2026] a*b",),
            "failing_reads": PASSING[:1],
            "full_disk": (),
            "two_writers": (),
            "bad_numbers": ("rollback",),
            "changed_world": (),
            "devices": (1, 1, 2, 1),
            "processes": (1,),
            "failing_processes": FAILURES[:1],
        }.items()
    ],
)
def test_a_run_survives(faults, fault, arguments):
    assert getattr(faults, fault)(*arguments).tried > 0
