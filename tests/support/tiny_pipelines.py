"""A text-to-image pipeline of diffusers, tiny and with random weights, in a folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKLFlux2,
    FlowMatchEulerDiscreteScheduler,
    Flux2KleinPipeline,
    Flux2Transformer2DModel,
)
from transformers import AutoTokenizer, Qwen3ForCausalLM

SIZE = 32


def klein(folder: Path, text_encoder: Path, *, stochastic: bool = False) -> Path:
    """FLUX.2 [klein] of a few thousand weights; with a text encoder of 16 channels."""
    torch.manual_seed(0)
    vae = AutoencoderKLFlux2(
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        block_out_channels=(8, 8, 8),
        layers_per_block=1,
        latent_channels=2,
        norm_num_groups=8,
        sample_size=SIZE,
    )
    transformer = Flux2Transformer2DModel(
        in_channels=8,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=48,
        timestep_guidance_channels=64,
        guidance_embeds=False,
        axes_dims_rope=(4, 4, 4, 4),
        rope_theta=100,
    )
    scheduler: Any = FlowMatchEulerDiscreteScheduler(stochastic_sampling=stochastic)
    Flux2KleinPipeline(
        scheduler=scheduler,
        vae=vae,
        text_encoder=Qwen3ForCausalLM.from_pretrained(text_encoder),
        tokenizer=AutoTokenizer.from_pretrained(text_encoder),
        transformer=transformer,
        is_distilled=True,
    ).save_pretrained(folder)
    return folder
