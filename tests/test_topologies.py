"""Two topologies for a few steps: what `make topologies` does with many for a hundred."""

from topologies import Topology, compared


def test_two_processes_of_two_devices_learn_what_one_device_learns():
    topologies = [Topology(), Topology(2, 2, processes=2, fsdp=True)]
    for row, as_promised in compared(topologies, steps=10):
        assert as_promised, row
