"""Our model against diffusers' own FLUX.2 transformer, tiny and random."""

from __future__ import annotations

import pytest
import torch
from diffusers import Flux2Transformer2DModel

from mfsynth.errors import MfsynthError
from mfsynth.models.released.flux2 import from_flux2

GRID = (3, 2)


def build_base(guidance_embeds: bool = False, **changes) -> Flux2Transformer2DModel:
    torch.manual_seed(0)
    sizes = {
        "in_channels": 8,
        "num_layers": 2,
        "num_single_layers": 3,
        "attention_head_dim": 16,
        "num_attention_heads": 2,
        "joint_attention_dim": 12,
        "timestep_guidance_channels": 32,
        "axes_dims_rope": (4, 4, 4, 4),
        "guidance_embeds": guidance_embeds,
    }
    return Flux2Transformer2DModel(**(sizes | changes)).eval()


def base_velocity(base, rgb, text, t, guidance):
    rows, columns = GRID
    first = torch.arange(1)
    cells = torch.cartesian_prod(first, torch.arange(rows), torch.arange(columns), first)
    words = torch.zeros(text.shape[1], 4)
    words[:, 3] = torch.arange(text.shape[1])
    return base(
        hidden_states=rgb,
        encoder_hidden_states=text,
        timestep=t,
        img_ids=cells,
        txt_ids=words,
        guidance=guidance,
    ).sample


@pytest.mark.parametrize("guidance_embeds", [False, True])
@torch.no_grad()
def test_without_depth_tokens_it_computes_what_the_base_computes(guidance_embeds):
    base = build_base(guidance_embeds)
    joint = from_flux2(base, num_depth_decoder_layers=2).eval()
    rgb, text = torch.randn(2, 6, 8), torch.randn(2, 5, 12)
    t = torch.tensor([0.3, 0.9])
    guidance = torch.tensor([4.0, 2.5]) if guidance_embeds else None
    ours = joint(rgb, None, text, t, None, GRID, guidance).rgb
    reference = base_velocity(base, rgb, text, t, guidance)
    assert (ours - reference).norm() < 1e-5 * reference.norm()


@torch.no_grad()
def test_the_depth_stream_starts_as_the_rgb_stream_with_a_silent_head():
    base = build_base()
    joint = from_flux2(base, num_depth_decoder_layers=2).eval()
    block = joint.transformer_blocks[1]
    assert torch.equal(block.attn.depth_v_proj.weight, base.transformer_blocks[1].attn.to_v.weight)
    assert torch.equal(
        joint.depth_decoder_blocks[0].attn.to_out.weight,
        base.single_transformer_blocks[1].attn.to_out.weight,
    )
    rgb, depth, text = torch.randn(1, 6, 8), torch.randn(1, 6, 256), torch.randn(1, 5, 12)
    output = joint(rgb, depth, text, torch.tensor([0.5]), torch.tensor([0.8]), GRID)
    assert (output.depth == 0).all()
    other_level = joint(rgb, depth, text, torch.tensor([0.5]), torch.tensor([0.2]), GRID)
    # The gates are closed: depth's level reaches RGB through attention alone.
    assert joint.depth_to_rgb_time_embed.gate.item() == 0
    assert not torch.equal(other_level.rgb, output.rgb)


def test_weights_are_copied_and_the_depth_head_stays_in_float32():
    base = build_base().bfloat16()
    joint = from_flux2(base, num_depth_decoder_layers=1)
    assert joint.x_embedder.weight.dtype == torch.bfloat16
    assert joint.depth_proj_out.weight.dtype == torch.float32
    with torch.no_grad():
        base.x_embedder.weight.zero_()
    assert (joint.x_embedder.weight != 0).any()


def test_training_reaches_the_depth_stream_from_the_first_step():
    joint = from_flux2(build_base(), num_depth_decoder_layers=1)
    output = joint(
        torch.randn(1, 6, 8),
        torch.randn(1, 6, 256),
        torch.randn(1, 5, 12),
        torch.tensor([0.5]),
        torch.tensor([0.8]),
        GRID,
    )
    (output.depth - 1).square().mean().backward()
    assert (joint.depth_proj_out.weight.grad != 0).any()


def test_a_base_of_another_layout_is_one_line():
    with pytest.raises(MfsynthError, match="not laid out as FLUX") as caught:
        from_flux2(build_base(patch_size=2, out_channels=2))
    assert "\n" not in str(caught.value)
