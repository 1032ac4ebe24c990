"""The Decision Transformer beside that of the package transformers, where it is installed."""

import pytest
import torch
from problems import streams

from arq_core.baselines.dt import DecisionTransformer, Window

transformers = pytest.importorskip(
    "transformers", reason="another implementation to compare with; not among our requirements"
)
STATE, ACTION, WIDTH, LAYERS, TIMES, K = 11, 3, 32, 3, 50, 20


def copied(model, e):
    """Their model with the weights of our member e; their embedding of positions, which the
    authors do not have, is 0."""
    config = transformers.DecisionTransformerConfig(
        state_dim=STATE,
        act_dim=ACTION,
        hidden_size=WIDTH,
        max_ep_len=TIMES,
        n_layer=LAYERS,
        n_head=1,
        n_inner=4 * WIDTH,
        activation_function="relu",
    )
    theirs = transformers.DecisionTransformerModel(config).eval()
    pairs = [
        (theirs.embed_return, model.of_return),
        (theirs.embed_state, model.of_state),
        (theirs.embed_action, model.of_action),
        (theirs.embed_ln, model.transformer.first),
        (theirs.encoder.ln_f, model.transformer.last),
        (theirs.predict_action[0], model.head),
    ]
    for their, our in zip(theirs.encoder.h, model.transformer.blocks, strict=True):
        pairs += [
            (their.ln_1, our.before_attention),
            (their.attn.c_attn, our.attention),
            (their.attn.c_proj, our.mix),
            (their.ln_2, our.before_layers),
            (their.mlp.c_fc, our.wide),
            (their.mlp.c_proj, our.narrow),
        ]
    with torch.no_grad():
        theirs.encoder.wpe.weight[0] = 0
        theirs.embed_timestep.weight.copy_(model.of_time[e])
        for their, our in pairs:
            weight = our.weight[e]
            if isinstance(their, torch.nn.Linear):
                weight = weight.T
            their.weight.copy_(weight.view_as(their.weight))
            their.bias.copy_(our.bias[e, 0])
    return theirs


def test_actions_are_those_of_transformers_with_the_same_weights():
    model = DecisionTransformer(STATE, ACTION, streams(), WIDTH, LAYERS, TIMES)
    g = torch.Generator()
    with torch.no_grad():
        for p in model.transformer.blocks.parameters():  # not as small as at first: all counts
            p.add_(0.2 * torch.randn(p.shape, generator=g.manual_seed(p.numel())))
    shape, lengths = (2, 4, K), torch.tensor([K, 7, 1, 12])
    seen = (torch.arange(K) >= K - lengths[:, None]).expand(shape)
    drawn = (torch.randn(*shape, *more, generator=g) for more in ((), (STATE,), (ACTION,)))
    window = Window(*drawn, torch.randint(0, TIMES, shape, generator=g), seen)
    ours, largest = model.requires_grad_(False)(window), 0.0
    for e in range(2):
        theirs = copied(model, e)(
            states=window.states[e],
            actions=window.actions[e],
            rewards=None,
            returns_to_go=window.to_go[e][..., None],
            timesteps=window.time[e],
            attention_mask=seen[e].long(),
        ).action_preds
        largest = max(largest, float((ours[e] - theirs.detach())[seen[e]].abs().max()))
    print(f"largest difference of an action: {largest:.2g}")
    assert ours.std() > 0.1 and largest < 1e-5
