"""d3rlpy's side of neighbours.py: losses and gradients of its algorithms at weights, a batch and
draws that are given.

    python benchmarks/neighbours_peer.py METHOD DTYPE GIVEN.safetensors FOUND.safetensors

Runs in the environment of peers.txt, in float32 or float64 (DTYPE). GIVEN has `batch.*`
[E, B, ...] and `draw.*` [E, ...] of each of E seeds, `weights.*` as arq_core keeps them
([E, in, out], of critics [2E, in, out]), and the method's settings as metadata. What computes is
d3rlpy's own `compute_*_grad`, the functions that its `update` calls before its optimisers step;
random numbers are replaced where torch draws them.
FOUND has `loss.*` [E] of each part and `gradient.*` under the names of the weights, and as metadata
what was SWITCHED, and the versions.
"""

import json
import math
import sys
from contextlib import ExitStack, contextmanager
from importlib.metadata import version
from unittest.mock import patch

import torch
from d3rlpy import algos
from d3rlpy.algos.qlearning.torch import sac_impl
from d3rlpy.models import VectorEncoderFactory
from d3rlpy.models.torch import VAEDecoder, build_gaussian_distribution
from d3rlpy.models.torch.parameters import get_parameter
from d3rlpy.torch_utility import TorchMiniBatch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

# What differs by design, and what was done so that the rest can be compared
SWITCHED = {
    "iql": [
        "dropout of the actor is 0",
        "d3rlpy holds log std between its bounds by a sigmoid, ours by a clip: the gradient is "
        "taken with respect to log std itself",
        "d3rlpy moves V and the critics by one loss, which is their sum: its terms are compared",
    ],
    "td3+bc": ["states as recorded: both standardise them before the loss, d3rlpy where asked to"],
    "awac": [
        "d3rlpy's target is asked at a squashed normal's draw and has the entropy, at a "
        "temperature of 1: here at a draw of the normal that its actor has, and at 0",
        "d3rlpy clips draws to the box, ours does not: at these weights none is outside",
        "d3rlpy holds log std between its bounds by a sigmoid, ours by a clip: the gradient is "
        "taken with respect to log std itself",
        "d3rlpy's actor loss is a sum over the batch, ours a mean: divided by the batch's size",
        "the decay of the actor's weights comes after the gradient, and is not compared",
    ],
    "bcq": [
        "d3rlpy's decoder is squashed by tanh only where `with_squash` is false, and BCQ leaves it "
        "true: its actions are not squashed; here they are, as in the authors' code",
        "the original form, with d3rlpy's bounds of log std, which are the authors'",
    ],
    "cql": [
        "d3rlpy's target is the value of the mean of pi: here `soft_q_backup`, a draw of pi, "
        "with a temperature of 0 while the target is computed, so that it has no entropy",
        "d3rlpy subtracts its threshold before the weight multiplies, ours after: threshold/weight",
        "d3rlpy's temperature loss has alpha in the place of log alpha: its gradient is divided by "
        "alpha, and its loss multiplied by (log alpha)/alpha",
        "d3rlpy moves the multiplier before the critics and the temperature within the actor's "
        "loss: at a learning rate of 0 the order is of no effect",
        "bounds of log std differ (-20 and 2; ours -5 and 2): at these weights none is reached",
        "no cloning at the start, no largest of several a' in the target",
        "units are swish in both instead of ReLU: of the millions of inputs of units in this step "
        "some lie within a rounding of 0, and there the slope of ReLU jumps",
    ],
    "rebrac": ["the eps of LayerNorm is 1e-6, Flax's, instead of PyTorch's 1e-5"],
}
EVERYWHERE = ["critics: d3rlpy's loss is the sum over both, and so is what is compared with it"]


def created(method, own, state_dim, action_dim):
    """d3rlpy's algorithm with the settings of ours, its networks made."""

    def nets(widths, **more):
        return VectorEncoderFactory(list(widths), activation=own.get("units", "relu"), **more)

    def both(actor, critic=None):
        return dict(actor_encoder_factory=actor, critic_encoder_factory=critic or actor)

    common = dict(batch_size=int(own["batch"]), gamma=own["gamma"], tau=1 - own["polyak"])
    if method == "iql":
        widths = nets([own["width"]] * 2)
        config = algos.IQLConfig(
            expectile=own["expectile"],
            weight_temp=own["beta"],
            value_encoder_factory=widths,
            **both(widths),
            **common,
        )
    elif method == "td3+bc":
        config = algos.TD3PlusBCConfig(
            alpha=own["alpha"],
            target_smoothing_sigma=own["noise"],
            target_smoothing_clip=own["noise_clip"],
            **both(nets([own["width"]] * 2)),
            **common,
        )
    elif method == "awac":
        actor = nets([own["width"]] * int(own["actor_layers"]))
        config = algos.AWACConfig(
            lam=own["beta"], **both(actor, nets([own["width"]] * 2)), **common
        )
    elif method == "bcq":
        config = algos.BCQConfig(
            lam=own["min_share"],
            n_action_samples=int(own["candidates"]),
            action_flexibility=own["phi"],
            beta=own["kl_weight"],
            imitator_encoder_factory=nets([own["first_width_vae"], own["second_width_vae"]]),
            **both(nets([own["first_width"], own["second_width"]])),
            **common,
        )
    elif method == "cql":
        # below 0 none: the weight is fixed, as where d3rlpy's multiplier stays at 1
        fixed = own["threshold"] < 0
        more = dict(alpha_learning_rate=0.0, initial_alpha=1.0) if fixed else {}
        config = algos.CQLConfig(
            alpha_threshold=0.0 if fixed else own["threshold"] / own["weight"],
            conservative_weight=own["weight"],
            n_action_samples=int(own["actions"]),
            soft_q_backup=True,
            **both(nets(map(int, own["widths"].split()))),
            **more,
            **common,
        )
    elif method == "rebrac":
        widths = [own["width"]] * int(own["layers"])
        config = algos.ReBRACConfig(
            actor_beta=own["actor_bc"],
            critic_beta=own["critic_bc"],
            target_smoothing_sigma=own["noise"],
            target_smoothing_clip=own["noise_clip"],
            **both(nets(widths), nets(widths, use_layer_norm=True)),
            **common,
        )
    else:
        raise ValueError(f"method: saw {method!r}, expected one of {', '.join(SWITCHED)}.")
    algorithm = config.create(device="cpu:0")
    algorithm.create_impl((state_dim,), action_dim)
    return algorithm


def pairs(ours, module):
    """(name in ours, their parameters) of a perceptron: of its last layer those of all heads, whose
    outputs lie side by side in ours."""
    layers, hidden, norms = (
        [m for m in net.modules() if isinstance(m, kind)]
        for net, kind in (
            (module, nn.Linear),
            (module._encoder, nn.Linear),
            (module, nn.LayerNorm),
        )
    )
    groups = [*([layer] for layer in hidden), layers[len(hidden) :]]
    for what in ("weight", "bias"):
        for i, group in enumerate(groups):
            yield f"{ours}.layers.{i}.{what}", [getattr(m, what) for m in group]
        for i, norm in enumerate(norms):
            yield f"{ours}.norms.{i}.{what}", [getattr(norm, what)]


class Case:
    """A d3rlpy algorithm with the weights, the batch and the draws of seed `e`; what it finds."""

    def __init__(self, method, given, own, e):
        self.method, self.given, self.own, self.e = method, given, own, e
        one = {k.partition(".")[2]: v[e] for k, v in given.items() if k.startswith("batch.")}
        sizes = one["states"].shape[1], one["actions"].shape[1]
        self.algorithm = created(method, own, *sizes)
        self.impl = self.algorithm.impl
        self.nets = self.impl.modules
        for net in self.nets.get_torch_modules().values():
            net.to(torch.get_default_dtype())  # d3rlpy makes some parameters as float32
        self.batch = TorchMiniBatch(
            observations=one["states"],
            actions=one["actions"],
            rewards=one["rewards"][:, None],
            next_observations=one["next_states"],
            next_actions=one["next_actions"],
            returns_to_go=torch.zeros(len(one["rewards"]), 1),
            terminals=1 - one["going_on"][:, None],
            intervals=torch.ones(len(one["rewards"]), 1),
            device="cpu:0",
        )
        self.copied, self.losses, self.gradients = [], {}, {}
        for optimiser in (o for n, o in vars(self.nets).items() if n.endswith("_optim") and o):
            for group in optimiser.optim.param_groups:
                group["lr"] = 0.0
        for norm in (m for q in self.critics() for m in q.modules()):
            if isinstance(norm, nn.LayerNorm):
                norm.eps = 1e-6

    def critics(self):
        """All of them, targets too."""
        return [*self.nets.q_funcs, *self.nets.targ_q_funcs]

    def draw(self, name):
        """What ours drew."""
        return self.given[f"draw.{name}"][self.e]

    @torch.no_grad()
    def copy(self, ours, module, critic=None):
        """Our weights into one of their networks; `critic` is a critic's number."""
        row = self.e if critic is None else 2 * self.e + critic
        for name, theirs in pairs(ours, module):
            parts = self.given[f"weights.{name}"][row].split([p.shape[0] for p in theirs], -1)
            for their, part in zip(theirs, parts):
                their.copy_(part.T if their.ndim == 2 else part[0])
            self.copied.append((name, theirs))

    def copy_critics(self, late):
        """Both critics, and their averages, which ours calls `late`."""
        for c in (0, 1):
            self.copy("critic.net", self.nets.q_funcs[c], c)
            self.copy(f"{late}.net", self.nets.targ_q_funcs[c], c)

    def keep(self, part, loss, *prefixes, scale=1.0):
        """The loss of a part, and the gradients that their backward pass has left in the networks
        that begin so; both times `scale`."""
        self.losses[part] = scale * torch.as_tensor(loss).detach()
        for name, theirs in self.copied:
            if name.startswith(prefixes):
                found = [p.grad.T if p.ndim == 2 else p.grad[None] for p in theirs]
                self.gradients.setdefault(name, []).append(scale * torch.cat(found, -1))

    def keep_log_std(self, low, high, scale=1.0):
        """The gradient with respect to log std = low + (high - low)·sigmoid(parameter)."""
        p = self.nets.policy._logstd
        slope = (high - low) * p.sigmoid() * (1 - p.sigmoid())
        self.gradients["actor.log_std"] = [(scale * p.grad / slope).detach()]

    @torch.no_grad()
    def copy_log_std(self, low, high):
        """Ours into their parameter."""
        share = (self.given["weights.actor.log_std"][self.e] - low) / (high - low)
        self.nets.policy._logstd.copy_(share.logit())


@contextmanager
def drawn(*numbers):
    """Numbers in the place of what torch would draw, in this order; all are asked for."""
    left = list(numbers)

    def give(shape):
        if not left or tuple(left[0].shape) != tuple(shape):
            raise ValueError(
                f"draws: saw one of {tuple(shape)} asked for, expected "
                f"{tuple(left[0].shape) if left else 'none'}."
            )
        return left.pop(0)

    def randn(*shape, **_):
        return give(shape if isinstance(shape[0], int) else shape[0])

    with ExitStack() as stack:
        for where, name, instead in (
            (torch, "randn", randn),
            (torch.distributions.normal, "_standard_normal", lambda shape, **_: give(shape)),
            (torch.Tensor, "uniform_", lambda x, low, high: give(x.shape)),
        ):
            stack.enter_context(patch.object(where, name, instead))
        yield
    if left:
        raise ValueError(f"draws: saw {len(left)} left over, expected none.")


def iql(case):
    """V, the actor, the critics."""
    impl, nets, own = case.impl, case.nets, (-5.0, 2.0)
    case.copy("value", nets.value_func)
    case.copy("actor.net", nets.policy)
    case.copy_critics("target")
    case.copy_log_std(*own)
    with drawn():
        found = impl.compute_critic_grad(case.batch)
        case.keep("value", found.v_loss, "value.")
        case.keep("critic", found.q_loss, "critic.")
        case.keep("actor", impl.compute_actor_grad(case.batch).actor_loss, "actor.")
    case.keep_log_std(*own)


def td3_bc(case):
    """The critics and the actor; ReBRAC's too."""
    impl, nets = case.impl, case.nets
    case.copy("actor.net", nets.policy)
    case.copy("late_actor.net", nets.targ_policy)
    case.copy_critics("late_critic")
    with drawn(case.draw("target")):
        case.keep("critic", impl.compute_critic_grad(case.batch).critic_loss, "critic.")
    with drawn():
        case.keep("actor", impl.compute_actor_grad(case.batch).actor_loss, "actor.")


def awac(case):
    """The critics and the actor."""
    impl, nets, own = case.impl, case.nets, (-6.0, 0.0)
    case.copy("actor.net", nets.policy)
    case.copy_critics("target")
    case.copy_log_std(*own)
    with torch.no_grad():
        get_parameter(nets.log_temp).fill_(-math.inf)
    unsquashed = patch.object(
        sac_impl, "build_squashed_gaussian_distribution", build_gaussian_distribution
    )
    with unsquashed, drawn(case.draw("target")):
        case.keep("critic", impl.compute_critic_grad(case.batch).critic_loss, "critic.")
    share = 1 / len(case.batch.actions)
    with drawn(case.draw("baseline")[None]):
        loss = impl.compute_actor_grad(case.batch).actor_loss
    case.keep("actor", loss, "actor.", scale=share)
    case.keep_log_std(*own, scale=share)


def bcq(case):
    """The autoencoder, the critics and the perturbation."""
    impl, nets = case.impl, case.nets
    case.copy("vae.encoder", nets.vae_encoder)
    case.copy("vae.decoder", nets.vae_decoder)
    case.copy("actor.net", nets.policy)
    case.copy("actor_target.net", nets.targ_policy)
    case.copy_critics("critic_target")

    def squashed(decoder, x, latent, with_squash=True):
        return decoder.forward(x, latent, with_squash=False)

    with patch.object(VAEDecoder, "__call__", squashed):
        with drawn(case.draw("encoder")):
            case.keep("vae", impl.compute_imitator_grad(case.batch)["loss"], "vae.")
        with drawn(case.draw("target")):
            case.keep("critic", impl.compute_critic_grad(case.batch).critic_loss, "critic.")
        with drawn(case.draw("actor")):
            case.keep("actor", impl.compute_actor_grad(case.batch).actor_loss, "actor.")


def cql(case):
    """The temperature, the actor, the critics and, where it is trained, the multiplier."""
    impl, nets = case.impl, case.nets
    case.copy("actor.net", nets.policy)
    case.copy_critics("target")
    log_temp, log_alpha = get_parameter(nets.log_temp), get_parameter(nets.log_alpha)
    log = case.given["weights.alpha.log"][case.e]
    now = case.draw("now").transpose(0, 1)  # theirs: [1, B, A], [n, B, A]
    target = case.draw("target")[:, 0]
    of_pi, of_next = (case.draw(k).transpose(0, 1) for k in ("of_pi", "of_next_pi"))
    with torch.no_grad():
        if nets.alpha_optim:
            log_alpha.fill_(case.given["weights.multiplier.log"][case.e])
        log_temp.fill_(-math.inf)
    box = (2 * case.draw("box") - 1).flatten(0, 1)
    update = impl.update_alpha

    def watched(gaps):
        """Of their update of the multiplier, before the critics' loss adds a gradient to its."""
        update(gaps)
        case.losses["multiplier"] = -(log_alpha.exp().detach() * gaps).mean()
        case.gradients["multiplier.log"] = [log_alpha.grad.detach().squeeze().clone()]

    with patch.object(impl, "update_alpha", watched), drawn(target, of_pi, of_next, box):
        found = impl.compute_critic_grad(case.batch)
    case.keep("critic", found.critic_loss, "critic.")
    with torch.no_grad():
        log_temp.fill_(log)
    move = impl.update_temp

    def seen(log_pi):
        """Of their update of the temperature, before the actor's loss adds a gradient to its."""
        loss = move(log_pi)
        case.losses["alpha"] = loss.detach() * log / log.exp()
        case.gradients["alpha.log"] = [log_temp.grad.detach().squeeze() / log.exp()]
        return loss

    with patch.object(impl, "update_temp", seen), drawn(now[0]):
        case.keep("actor", impl.compute_actor_grad(case.batch).actor_loss, "actor.")


METHODS = {
    "iql": iql,
    "td3+bc": td3_bc,
    "awac": awac,
    "bcq": bcq,
    "cql": cql,
    "rebrac": td3_bc,
}


def main(method, dtype, source, goal):
    """Every seed of a file."""
    torch.set_default_dtype(getattr(torch, dtype))
    with safe_open(source, "pt") as file:
        own = json.loads(file.metadata()["settings"])
        given = {k: file.get_tensor(k).to(torch.get_default_dtype()) for k in file.keys()}
    found, losses = {}, {}
    for e in range(len(given["batch.states"])):
        case = Case(method, given, own, e)
        METHODS[method](case)
        for name, rows in case.gradients.items():
            found.setdefault(f"gradient.{name}", []).extend(rows)
        for part, loss in case.losses.items():
            losses.setdefault(f"loss.{part}", []).append(loss)
    tensors = {k: torch.stack(v).contiguous() for k, v in (found | losses).items()}
    versions = {p: version(p) for p in ("d3rlpy", "torch", "numpy")}
    about = dict(versions=versions, switched=SWITCHED[method] + EVERYWHERE)
    save_file(tensors, goal, metadata={k: json.dumps(v) for k, v in about.items()})


if __name__ == "__main__":
    main(*sys.argv[1:])
