"""The training loops in JAX, float32: jit around lax.scan, so that a call runs `chunk` steps with
nothing of Python between them.

Same networks, batches, data and random choices as straightforward.py, written as JAX code usually
is: parameters in dicts, optax's Adam, default random bits (threefry). Each function of SERVED
returns `step`, which runs `chunk` steps and says so as "count". The first call compiles. Nothing
here is tuned for a CPU.
"""

import math

import jax
import jax.numpy as jnp
import optax
from straightforward import BETA_MAX, BETA_MIN, synthetic

SERVED = ("score_step", "arq_step", "iql_step")


def scanned(one_step, carry, data, chunk):
    """`step` of one_step(carry, data) -> (carry, results)."""

    @jax.jit
    def many(carry, data):
        return jax.lax.scan(lambda carry, _: one_step(carry, data), carry, length=chunk)

    data = {k: jnp.asarray(v) for k, v in data.items()}

    def step():
        nonlocal carry
        carry, results = jax.block_until_ready(many(carry, data))
        return {"count": chunk} | {k: v[-1] for k, v in results.items()}

    return step


def linear(key, inputs, outputs):
    """Weights and biases within 1/sqrt(inputs), as torch.nn.Linear starts."""
    w, b = jax.random.split(key)
    bound = 1 / math.sqrt(inputs)
    return {
        "w": jax.random.uniform(w, (inputs, outputs), minval=-bound, maxval=bound),
        "b": jax.random.uniform(b, (outputs,), minval=-bound, maxval=bound),
    }


def affine(p, x):
    return x @ p["w"] + p["b"]


def mlp(key, inputs, outputs, width=256):
    """Two hidden layers."""
    sizes = [inputs, width, width, outputs]
    return [linear(k, a, b) for k, a, b in zip(jax.random.split(key, 3), sizes, sizes[1:])]


def perceptron(p, x):
    """ReLU layers, [..., in] -> [..., out]."""
    for layer in p[:-1]:
        x = jax.nn.relu(affine(layer, x))
    return affine(p[-1], x)


def critic(p, s, a):
    """[..., S], [..., A] -> [...]."""
    return perceptron(p, jnp.concatenate([s, a], -1))[..., 0]


def lerp(slow, fast, keep):
    """keep·slow + (1 - keep)·fast, for every parameter."""
    return jax.tree.map(lambda x, y: keep * x + (1 - keep) * y, slow, fast)


def score_net(key, state_dim, action_dim, width, blocks):
    """Parameters of straightforward.ScoreNet."""
    frequencies, time, inputs, out, *rest = jax.random.split(key, 4 + 2 * blocks)
    return {
        "time": linear(time, width, width),
        "inputs": linear(inputs, action_dim + state_dim, width),
        "dense": [linear(k, width, width) for k in rest],
        "out": linear(out, width, action_dim),
    }, 30 * jax.random.normal(frequencies, (width // 2,))


def score_times_sigma(p, frequencies, a, s, t):
    """straightforward.ScoreNet.forward: a [R, A], s [R, S], t [R] -> [R, A]."""
    phase = 2 * jnp.pi * t[:, None] * frequencies
    time = affine(p["time"], jnp.concatenate([jnp.sin(phase), jnp.cos(phase)], -1))
    h = affine(p["inputs"], jnp.concatenate([a, s], -1))
    for i in range(0, len(p["dense"]), 2):
        u = affine(p["dense"][i], jax.nn.silu(h + time))
        h = h + affine(p["dense"][i + 1], jax.nn.silu(u + time))
    return affine(p["out"], h)


def score_step(
    state_dim,
    action_dim,
    batch=512,
    width=256,
    blocks=3,
    lr=1e-4,
    ema=0.999,
    rows=20_000,
    chunk=10,
    seed=0,
):
    """straightforward.score_step."""
    key, init = jax.random.split(jax.random.key(seed))
    net, frequencies = score_net(init, state_dim, action_dim, width, blocks)
    adam = optax.adam(lr)

    def one_step(carry, data):
        net, average, moments, key = carry
        key, rows_key, t_key, z_key = jax.random.split(key, 4)
        m = jax.random.randint(rows_key, (batch,), 0, rows)
        s, a, z = (
            data["states"][m],
            data["actions"][m],
            jax.random.normal(z_key, (batch, action_dim)),
        )
        t = jax.random.uniform(t_key, (batch,), minval=1e-5, maxval=1)
        integral = (BETA_MIN * t + (BETA_MAX - BETA_MIN) / 2 * t**2)[:, None]
        x = jnp.exp(-integral / 2) * a + jnp.sqrt(-jnp.expm1(-integral)) * z
        loss, gradient = jax.value_and_grad(
            lambda p: jnp.square(score_times_sigma(p, frequencies, x, s, t) + z).sum(-1).mean()
        )(net)
        update, moments = adam.update(gradient, moments)
        net = optax.apply_updates(net, update)
        return (net, lerp(average, net, ema), moments, key), {"loss": loss}

    return scanned(
        one_step, (net, net, adam.init(net), key), synthetic(rows, state_dim, action_dim), chunk
    )


def arq_step(
    state_dim,
    action_dim,
    batch=512,
    candidates=30,
    k=9,
    gamma=0.99,
    lr=3e-4,
    polyak=0.995,
    rows=20_000,
    chunk=10,
    seed=0,
):
    """straightforward.arq_step."""
    key, *init = jax.random.split(jax.random.key(seed), 3)
    critics = [mlp(i, state_dim + action_dim, 1) for i in init]
    adam = optax.adam(lr)

    def one_step(carry, data):
        critics, targets, moments, key = carry
        key, rows_key = jax.random.split(key)
        m = jax.random.randint(rows_key, (batch,), 0, rows)
        # [B, n+1, A]
        a_next = jnp.concatenate([data["candidates"][m], data["next_actions"][m][:, None]], 1)
        s_next = jnp.broadcast_to(
            data["next_states"][m][:, None], (batch, candidates + 1, state_dim)
        )
        # [B, n+1]
        values = jnp.minimum(critic(targets[0], s_next, a_next), critic(targets[1], s_next, a_next))
        inside = jnp.where(data["in_support"][m], values[:, :-1], -jnp.inf)
        v_next = jnp.maximum(jax.lax.top_k(inside, k)[0][:, -1], values[:, -1])
        target = data["rewards"][m] + gamma * ~data["terminals"][m] * v_next
        s, a = data["states"][m], data["actions"][m]
        loss, gradient = jax.value_and_grad(
            lambda ps: sum(0.5 * jnp.square(critic(p, s, a) - target).mean() for p in ps)
        )(critics)
        update, moments = adam.update(gradient, moments)
        critics = optax.apply_updates(critics, update)
        return (critics, lerp(targets, critics, polyak), moments, key), {"loss": loss}

    return scanned(
        one_step,
        (critics, critics, adam.init(critics), key),
        synthetic(rows, state_dim, action_dim, candidates),
        chunk,
    )


def iql_step(
    state_dim,
    action_dim,
    batch=256,
    width=256,
    gamma=0.99,
    lr=3e-4,
    polyak=0.995,
    expectile=0.7,
    temperature=3.0,
    rows=20_000,
    decay_steps=1_000_000,
    chunk=10,
    seed=0,
):
    """One step of IQL (Kostrikov et al. 2022): V, the actor, two critics, their targets, in the
    order of the authors' algorithm.

    The actor is a Gaussian with its mean squashed by tanh and a log-std without the state, on a
    cosine schedule, as in peers.iql.
    """
    key, v_key, actor_key, *q_keys = jax.random.split(jax.random.key(seed), 5)
    nets = {
        "v": mlp(v_key, state_dim, 1, width),
        "q": [mlp(i, state_dim + action_dim, 1, width) for i in q_keys],
        "actor": {
            "mean": mlp(actor_key, state_dim, action_dim, width),
            "log_std": jnp.zeros(action_dim),
        },
    }
    adams = {
        "v": optax.adam(lr),
        "q": optax.adam(lr),
        "actor": optax.adam(optax.cosine_decay_schedule(lr, decay_steps)),
    }

    def one_step(carry, data):
        nets, targets, moments, key = carry
        key, rows_key = jax.random.split(key)
        m = jax.random.randint(rows_key, (batch,), 0, rows)
        s, a, s_next = data["states"][m], data["actions"][m], data["next_states"][m]
        q = jnp.minimum(*(critic(p, s, a) for p in targets))

        def v_loss(p):
            difference = q - perceptron(p, s)[:, 0]
            return (
                jnp.where(difference < 0, 1 - expectile, expectile) * jnp.square(difference)
            ).mean()

        def actor_loss(p):
            log_std = jnp.clip(p["log_std"], -5, 2)
            z = (a - jnp.tanh(perceptron(p["mean"], s))) / jnp.exp(log_std)
            weight = jnp.minimum(jnp.exp(temperature * (q - perceptron(nets["v"], s)[:, 0])), 100)
            return (
                weight * (0.5 * jnp.square(z) + log_std + 0.5 * math.log(2 * math.pi)).sum(-1)
            ).mean()

        def q_loss(ps):
            target = (
                data["rewards"][m]
                + gamma * ~data["terminals"][m] * perceptron(nets["v"], s_next)[:, 0]
            )
            return sum(jnp.square(critic(p, s, a) - target).mean() for p in ps)

        losses = {}
        # the later ones see the V just updated
        for name, loss in (("v", v_loss), ("actor", actor_loss), ("q", q_loss)):
            losses[name], gradient = jax.value_and_grad(loss)(nets[name])
            update, changed = adams[name].update(gradient, moments[name])
            nets = nets | {name: optax.apply_updates(nets[name], update)}
            moments = moments | {name: changed}
        return (nets, lerp(targets, nets["q"], polyak), moments, key), losses

    moments = {name: adam.init(nets[name]) for name, adam in adams.items()}
    return scanned(
        one_step, (nets, nets["q"], moments, key), synthetic(rows, state_dim, action_dim), chunk
    )
