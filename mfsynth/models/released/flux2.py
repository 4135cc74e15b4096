"""From a FLUX.2 text-to-image model to a Modality Forcing model."""

from __future__ import annotations

import torch
from diffusers import Flux2Transformer2DModel

from mfsynth.errors import MfsynthError
from mfsynth.models.transformer import ModalityForcingTransformer2DModel


@torch.no_grad()
def from_flux2(
    base: Flux2Transformer2DModel,
    *,
    depth_patch: int = 16,
    num_depth_decoder_layers: int = 4,
    depth_head: str = "patches",
) -> ModalityForcingTransformer2DModel:
    """Give a FLUX.2 transformer (klein 4B, klein 9B, dev) a depth stream, ready for training.

    RGB and text weights are taken one to one, so that with depth tokens left out the new model
    computes what the base computes. The depth stream starts as a copy of the RGB stream, its head
    at zero, the gates between the streams' noise levels at zero (arXiv 2606.13676).

    Args:
        base: The text-to-image model; its weights are copied, not shared.
        depth_patch: Pixels along a depth token's side; the pixels that an RGB token covers.
        num_depth_decoder_layers: Blocks over the depth tokens alone.
        depth_head: As that of `ModalityForcingTransformer2DModel`.

    Raises:
        MfsynthError: The base has parts that FLUX.2 has not.
    """
    config = base.config
    if config.patch_size != 1 or config.out_channels not in (None, config.in_channels):
        raise MfsynthError(
            f"a base with patch_size {config.patch_size} and {config.out_channels} output channels "
            "is not laid out as FLUX.2; use a FLUX.2 [klein] or [dev] transformer"
        )
    joint = ModalityForcingTransformer2DModel(
        in_channels=config.in_channels,
        depth_channels=depth_patch**2,
        num_layers=config.num_layers,
        num_single_layers=config.num_single_layers,
        num_depth_decoder_layers=num_depth_decoder_layers,
        attention_head_dim=config.attention_head_dim,
        num_attention_heads=config.num_attention_heads,
        joint_attention_dim=config.joint_attention_dim,
        timestep_channels=config.timestep_guidance_channels,
        mlp_ratio=config.mlp_ratio,
        axes_dims_rope=tuple(config.axes_dims_rope),
        rope_theta=config.rope_theta,
        eps=config.eps,
        guidance_embeds=config.guidance_embeds,
        depth_head=depth_head,
    )
    loaded = joint.load_state_dict(base.state_dict(), strict=False)
    missing = [name for name in loaded.missing_keys if "depth" not in name]
    if missing or loaded.unexpected_keys:
        names = ", ".join([*missing, *loaded.unexpected_keys][:5])
        raise MfsynthError(f"the base's weights are not those of a FLUX.2 transformer: {names}")
    joint.init_depth_from_rgb()
    joint.cast_body(base.dtype)
    return joint
