"""PPO with a recurrent policy on a task of memory, the rollout and the update one program.

An episode shows one of four cues, then blanks for 5 to 14 steps, then a signal: the action
at that moment earns 1 if it is the cue, else 0. By then only the carry tells the cue.
Episodes end anywhere in a rollout: `reset` has the policy begin anew there, in the rollout
step by step and in the update over all of time, by the same code.

By chance the reward of an episode is 0.25. As it stands this came to 0.99 or more after 40
updates, 82 thousand steps, in ten seconds on one CPU core.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from jaxrnn import GRU
from jaxrnn.models import SequenceModel

CUES, SHORTEST, LONGEST = 4, 5, 14
ENVIRONMENTS, STEPS, UPDATES, EPOCHS = 64, 32, 50, 4
DISCOUNT, TRACE, CLIP, ENTROPY = 0.95, 0.9, 0.2, 0.01


class Episode(NamedTuple):
    cue: jax.Array
    left: jax.Array  # steps until the signal
    begins: jax.Array  # whether this is its first step


def begin(key):
    cue_key, left_key = jax.random.split(key)
    left = jax.random.randint(left_key, (), SHORTEST, LONGEST + 1)
    return Episode(jax.random.randint(cue_key, (), 0, CUES), left, jnp.array(True))


def observe(episode):
    """[CUES + 1]: the cue at the first step, the signal at the last one."""
    cue = jax.nn.one_hot(episode.cue, CUES) * episode.begins
    return jnp.append(cue, jnp.float32(episode.left == 0))


def act(episode, action, key):
    """(the episode at the next step, reward, whether the episode is over)."""
    over = episode.left == 0
    reward = jnp.float32(over & (action == episode.cue))
    goes_on = Episode(episode.cue, episode.left - 1, jnp.array(False))
    episode = jax.tree.map(lambda a, b: jnp.where(over, a, b), begin(key), goes_on)
    return episode, reward, over


model = SequenceModel([GRU(CUES + 1, 32)], CUES + 1, rngs=nnx.Rngs(0))
graph, params = nnx.split(model)
adam = optax.chain(optax.clip_by_global_norm(0.5), optax.adam(3e-3))


def policy(params, xs, carry, reset):
    """Over time `[T, B]`: the carry, the logits of the actions, the value."""
    carry, outputs = nnx.merge(graph, params)(xs, carry, reset=reset)
    return carry, outputs[..., :CUES], outputs[..., CUES]


class Played(NamedTuple):
    """What a rollout saw and did, `[T, B, ...]`."""

    xs: jax.Array
    begins: jax.Array
    actions: jax.Array
    log_shares: jax.Array
    values: jax.Array
    rewards: jax.Array
    over: jax.Array


def play(params, episodes, carry, key):
    """A rollout: (episodes, carry, what was played)."""

    def step(state, key):
        episodes, carry = state
        xs, begins = jax.vmap(observe)(episodes), episodes.begins
        carry, logits, value = policy(params, xs[None], carry, begins[None])
        keys = jax.random.split(key, 1 + ENVIRONMENTS)
        actions = jax.random.categorical(keys[0], logits[0])
        shares = jax.nn.log_softmax(logits[0])[jnp.arange(ENVIRONMENTS), actions]
        episodes, rewards, over = jax.vmap(act)(episodes, actions, keys[1:])
        played = Played(xs, begins, actions, shares, value[0], rewards, over)
        return (episodes, carry), played

    state, played = jax.lax.scan(step, (episodes, carry), jax.random.split(key, STEPS))
    return *state, played


def advantages(played, last_value):
    """Generalised advantage estimation (Schulman et al. 2016): nothing passes an end."""

    def back(after, now):
        (advantage, value_after), (value, reward, over) = after, now
        goes_on = DISCOUNT * (1 - over)
        surprise = reward + goes_on * value_after - value
        advantage = surprise + goes_on * TRACE * advantage
        return (advantage, value), advantage

    start = jnp.zeros_like(last_value), last_value
    steps = played.values, played.rewards, jnp.float32(played.over)
    return jax.lax.scan(back, start, steps, reverse=True)[1]


def loss(params, played, carry, gains):
    """The clipped objective (Schulman et al. 2017), over the whole rollout at once."""
    _, logits, values = policy(params, played.xs, carry, played.begins)
    shares = jax.nn.log_softmax(logits)
    taken = jnp.take_along_axis(shares, played.actions[..., None], axis=-1)[..., 0]
    ratio = jnp.exp(taken - played.log_shares)
    normal = (gains - jnp.mean(gains)) / (jnp.std(gains) + 1e-8)
    clipped = jnp.clip(ratio, 1 - CLIP, 1 + CLIP)
    gained = jnp.mean(jnp.minimum(ratio * normal, clipped * normal))
    missed = jnp.mean((values - played.values - gains) ** 2)
    entropy = -jnp.mean(jnp.sum(jnp.exp(shares) * shares, axis=-1))
    return -gained + 0.5 * missed - ENTROPY * entropy


@jax.jit
def update(params, opt_state, episodes, carry, key):
    """A rollout and the epochs that learn from it; also the mean reward an episode."""
    episodes, after, played = play(params, episodes, carry, key)
    xs = jax.vmap(observe)(episodes)[None]
    *_, value = policy(params, xs, after, episodes.begins[None])
    gains = advantages(played, value[0])

    def epoch(_, state):
        params, opt_state = state
        gradients = jax.grad(loss)(params, played, carry, gains)
        updates, opt_state = adam.update(gradients, opt_state)
        return optax.apply_updates(params, updates), opt_state

    params, opt_state = jax.lax.fori_loop(0, EPOCHS, epoch, (params, opt_state))
    reward = jnp.sum(played.rewards) / jnp.sum(played.over)
    return params, opt_state, episodes, after, reward


key = jax.random.key(0)
episodes = jax.vmap(begin)(jax.random.split(key, ENVIRONMENTS))
state = params, adam.init(params), episodes, model.initial_carry((ENVIRONMENTS,))
for n in range(UPDATES):
    *state, reward = update(*state, jax.random.fold_in(key, n))
    if (n + 1) % 10 == 0:
        print(f"update {n + 1}: reward {reward:.3f}", flush=True)
