"""The ways to run a cell over time, one a file: frozen objects that `unroll` takes.

    unroll(cell, params, xs, strategy=Chunkwise(length=128))

All agree with `Scan` in value and gradient, and add up over time in float32 or wider.

A strategy of your own is a frozen dataclass derived from `Strategy`: `over_time` runs a
`Call`, `refusal` says in a sentence which calls it cannot serve, on which platform. Hand
`unroll` an instance, or, to have "auto" take it, add it to `STRATEGIES` in choose.py; the
laws then compare it with `Scan` for every cell it serves.
"""

from jaxrnn.strategies.associative import Associative as Associative
from jaxrnn.strategies.call import Call as Call
from jaxrnn.strategies.chunkwise import Chunkwise as Chunkwise
from jaxrnn.strategies.devices import over_devices as over_devices
from jaxrnn.strategies.fused import Fused as Fused
from jaxrnn.strategies.resident import Resident as Resident
from jaxrnn.strategies.scan import Scan as Scan
from jaxrnn.strategies.strategy import Strategy as Strategy
