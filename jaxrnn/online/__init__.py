"""Learning online: the gradient at every step, without a past to go back through.

    online = RTRL(jaxrnn.LSTM(3, 8))                      # or Diagonal, or EProp
    state = online.init(params, batch_shape)              # OnlineState(carry, influence)
    state, y, pull = online.step(params, state, x)        # jit it, or scan it over time
    gradient = pull(y_bar)                                # of the params, by d loss / d y

Backpropagation through time keeps the steps and goes back; here the influence of the
params on the carry, d carry / d params, goes forward beside the carry, and the gradient of
a step's loss is there as soon as the loss is. Summed over the steps of a sequence, with
constant params, that of `RTRL` is what backpropagation through time gives; where params
move in between, the influence is that of the params as they were, which a small learning
rate makes little of.
"""

from jaxrnn.online.local import Diagonal as Diagonal, EProp as EProp
from jaxrnn.online.online import Online as Online, OnlineState as OnlineState
from jaxrnn.online.rtrl import RTRL as RTRL
