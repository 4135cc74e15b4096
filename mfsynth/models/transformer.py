"""The Modality Forcing transformer: text, RGB and depth streams with a noise level per modality.

Text and RGB modules carry the names of diffusers' `Flux2Transformer2DModel`, so that weights and
adapters of a FLUX.2 base fit without renaming; everything that Modality Forcing adds is called
`depth_*`. Source: Duisterhof et al., arXiv 2606.13676, and the released 12 B checkpoint.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.loaders import PeftAdapterMixin
from diffusers.models.attention import AttentionMixin
from diffusers.models.cache_utils import CacheMixin
from diffusers.models.modeling_utils import ModelMixin
from diffusers.models.normalization import AdaLayerNormContinuous
from diffusers.models.transformers.transformer_flux2 import (
    Flux2Modulation,
    Flux2PosEmbed,
    Flux2SingleTransformerBlock,
)
from diffusers.utils import BaseOutput
from torch import Tensor, nn

from mfsynth.models.token_codecs import overlap_add
from mfsynth.models.transformer_blocks import (
    CrossStreamTimeEmbedding,
    SingleStreamBlock,
    TimeEmbedding,
    TripleStreamBlock,
)

_RGB_COUNTERPARTS = {
    "depth_q_proj": "to_q",
    "depth_k_proj": "to_k",
    "depth_v_proj": "to_v",
    "norm_depth_q": "norm_q",
    "norm_depth_k": "norm_k",
    "to_depth_out": "to_out.0",
    "ff_depth": "ff",
    "depth_time_embed": "time_guidance_embed",
    "depth_double_stream_modulation": "double_stream_modulation_img",
    "depth_single_stream_modulation": "single_stream_modulation",
    "depth_decoder_modulation": "single_stream_modulation",
    "depth_norm_out": "norm_out",
}


@dataclass
class ModalityForcingTransformerOutput(BaseOutput):
    """What one forward predicts.

    Attributes:
        rgb: (B, N, in_channels), the velocity ε − x of the RGB tokens, or their clean value x
            where the model's `rgb_prediction` says so.
        depth: (B, N, depth_channels) float32, the clean depth tokens x; None without depth.
    """

    rgb: Tensor
    depth: Tensor | None


def position_ids(text_length: int, rows: int, columns: int, device: torch.device) -> Tensor:
    """Positions of [text, RGB, depth] on the axes (time, row, column, sequence).

    Text token s stands at (0, 0, 0, s), the RGB token of a grid cell at (0, row, column, 0) and
    the depth token of the same cell at (1, row, column, 0).

    Returns:
        (text_length + 2 · rows · columns, 4) int64; grid cells in row-major order.
    """
    cell = torch.cartesian_prod(
        torch.zeros(1, dtype=torch.int64, device=device),
        torch.arange(rows, device=device),
        torch.arange(columns, device=device),
        torch.zeros(1, dtype=torch.int64, device=device),
    )
    text = torch.zeros(text_length, 4, dtype=torch.int64, device=device)
    text[:, 3] = torch.arange(text_length, device=device)
    depth = cell.clone()
    depth[:, 0] = 1
    return torch.cat([text, cell, depth])


class ModalityForcingTransformer2DModel(
    ModelMixin, ConfigMixin, PeftAdapterMixin, CacheMixin, AttentionMixin
):
    """One diffusion transformer for images and depth (arXiv 2606.13676, §3).

    `num_layers` triple-stream blocks, then `num_single_layers` blocks over the concatenation
    [text, RGB, depth] in which depth tokens have a modulation of their own, then
    `num_depth_decoder_layers` blocks over the depth tokens alone, then a head per modality. The
    defaults are the released 11.92 B model.

    Args:
        in_channels: Channels of an RGB token.
        depth_channels: Values of a depth token (patch height × patch width).
        num_layers: Triple-stream blocks.
        num_single_layers: Single-stream blocks.
        num_depth_decoder_layers: Blocks over the depth tokens alone.
        attention_head_dim: Channels of a head; the sum of `axes_dims_rope`.
        num_attention_heads: Heads; hidden size = heads × head dim.
        joint_attention_dim: Channels of a text token as it comes from the text encoder.
        timestep_channels: Channels of the sinusoidal time embedding.
        mlp_ratio: Inner size of the SwiGLU MLPs over the hidden size.
        axes_dims_rope: Rotary channels of the axes (time, row, column, sequence).
        rope_theta: Base of the rotary frequencies.
        eps: Of every norm.
        cross_stream_mixing: Whether each modality's modulation also sees the other's noise level
            (`v2` of the released model; `v1` does not).
        rgb_prediction: What the RGB head predicts: "velocity" (ε − x) or "sample" (x).
        guidance_embeds: Whether the guidance scale is an input, as in guidance-distilled bases.
        depth_mask: Whether the depth stream also sees which of its pixels hold a signal.
        depth_head: What the depth head predicts of a token: "patches", its own pixels, as the
            release; or "windows", those and half a patch around them, faded into its neighbours'
            (`overlap_add`), so that depth does not jump where patches meet.
    """

    _supports_gradient_checkpointing = True
    _no_split_modules = [  # noqa: RUF012
        "TripleStreamBlock",
        "SingleStreamBlock",
        "Flux2SingleTransformerBlock",
    ]
    _repeated_blocks = _no_split_modules
    # x̂ of the depth head is divided by t on its way to a velocity: bfloat16 is too coarse there.
    _keep_in_fp32_modules = ["depth_norm_out", "depth_proj_out"]  # noqa: RUF012

    @register_to_config
    def __init__(
        self,
        in_channels: int = 128,
        depth_channels: int = 256,
        num_layers: int = 8,
        num_single_layers: int = 24,
        num_depth_decoder_layers: int = 4,
        attention_head_dim: int = 128,
        num_attention_heads: int = 32,
        joint_attention_dim: int = 12288,
        timestep_channels: int = 256,
        mlp_ratio: float = 3.0,
        axes_dims_rope: tuple[int, ...] = (32, 32, 32, 32),
        rope_theta: int = 2000,
        eps: float = 1e-6,
        cross_stream_mixing: bool = True,
        rgb_prediction: str = "velocity",
        guidance_embeds: bool = False,
        depth_mask: bool = False,
        depth_head: str = "patches",
    ) -> None:
        super().__init__()
        if rgb_prediction not in ("velocity", "sample"):
            raise ValueError(f"rgb_prediction is {rgb_prediction!r}; use 'velocity' or 'sample'")
        if depth_head not in ("patches", "windows"):
            raise ValueError(f"depth_head is {depth_head!r}; use 'patches' or 'windows'")
        side = math.isqrt(depth_channels)
        if depth_head == "windows" and (side % 2 or side**2 != depth_channels):
            raise ValueError(
                f"windows need square patches of even size, not {depth_channels} values"
            )
        dim = num_attention_heads * attention_head_dim
        self.pos_embed = Flux2PosEmbed(theta=rope_theta, axes_dim=list(axes_dims_rope))

        self.x_embedder = nn.Linear(in_channels, dim, bias=False)
        self.context_embedder = nn.Linear(joint_attention_dim, dim, bias=False)
        self.depth_embedder = nn.Linear(depth_channels * (1 + depth_mask), dim, bias=False)

        self.time_guidance_embed = TimeEmbedding(
            timestep_channels, dim, guidance_embeds=guidance_embeds
        )
        self.depth_time_embed = TimeEmbedding(timestep_channels, dim, guidance_embeds=False)
        if cross_stream_mixing:
            self.depth_to_rgb_time_embed = CrossStreamTimeEmbedding(timestep_channels, dim)
            self.rgb_to_depth_time_embed = CrossStreamTimeEmbedding(timestep_channels, dim)

        self.double_stream_modulation_txt = Flux2Modulation(dim, mod_param_sets=2)
        self.double_stream_modulation_img = Flux2Modulation(dim, mod_param_sets=2)
        self.depth_double_stream_modulation = Flux2Modulation(dim, mod_param_sets=2)
        self.single_stream_modulation = Flux2Modulation(dim, mod_param_sets=1)
        self.depth_single_stream_modulation = Flux2Modulation(dim, mod_param_sets=1)
        self.depth_decoder_modulation = Flux2Modulation(dim, mod_param_sets=1)

        self.transformer_blocks = nn.ModuleList(
            TripleStreamBlock(dim, num_attention_heads, attention_head_dim, mlp_ratio, eps)
            for _ in range(num_layers)
        )
        self.single_transformer_blocks = nn.ModuleList(
            SingleStreamBlock(
                dim, num_attention_heads, attention_head_dim, mlp_ratio=mlp_ratio, eps=eps
            )
            for _ in range(num_single_layers)
        )
        self.depth_decoder_blocks = nn.ModuleList(
            Flux2SingleTransformerBlock(
                dim, num_attention_heads, attention_head_dim, mlp_ratio=mlp_ratio, eps=eps
            )
            for _ in range(num_depth_decoder_layers)
        )

        self.norm_out = AdaLayerNormContinuous(
            dim, dim, elementwise_affine=False, eps=eps, bias=False
        )
        # A few-step student puts a head of its own here.
        self.proj_out: nn.Module = nn.Linear(dim, in_channels, bias=False)
        self.depth_norm_out = AdaLayerNormContinuous(
            dim, dim, elementwise_affine=False, eps=eps, bias=False
        )
        # A window is twice as high and as wide as a patch.
        predicted = depth_channels * (4 if depth_head == "windows" else 1)
        self.depth_proj_out = nn.Linear(dim, predicted, bias=False)

        self.gradient_checkpointing = False

    @torch.no_grad()
    def init_depth_from_rgb(self) -> None:
        """Start the depth stream as a copy of the RGB stream, with a depth head of zeros.

        The depth decoder starts as the last single-stream blocks. The embedding of depth patches
        and the mixing of the streams' noise levels have nothing to start from and stay as they are.
        """
        state = self.state_dict()
        for name, value in state.items():
            source = self._rgb_counterpart(name)
            if source is not None:
                value.copy_(state[source])
        self.depth_proj_out.weight.zero_()

    def cast_body(self, dtype: torch.dtype) -> None:
        """Cast everything but the depth head, which stays in float32."""
        for name, module in self.named_children():
            if name not in self._keep_in_fp32_modules:
                module.to(dtype)

    def _rgb_counterpart(self, name: str) -> str | None:
        """The RGB parameter that a depth parameter starts from, if there is one."""
        parts = name.split(".")
        if parts[0] == "depth_decoder_blocks":
            skipped = self.config.num_single_layers - self.config.num_depth_decoder_layers
            return ".".join(["single_transformer_blocks", str(int(parts[1]) + skipped), *parts[2:]])
        if not any(part in _RGB_COUNTERPARTS for part in parts):
            return None
        return ".".join(_RGB_COUNTERPARTS.get(part, part) for part in parts)

    def forward(
        self,
        rgb: Tensor,
        depth: Tensor | None,
        text: Tensor,
        rgb_timestep: Tensor,
        depth_timestep: Tensor | None,
        grid: tuple[int, int],
        guidance: Tensor | None = None,
        depth_valid: Tensor | None = None,
    ) -> ModalityForcingTransformerOutput:
        """Predict the RGB velocity and the clean depth at each modality's own noise level.

        Without depth, no depth token is there to attend to. With no `depth_timestep` either, what
        is left is the text-to-image model that the RGB and text weights came from; with one, RGB
        sees the level of the depth that is left out, where the model mixes the streams' levels.

        Args:
            rgb: (B, N, in_channels) noisy RGB tokens, row-major.
            depth: (B, N, depth_channels) noisy depth tokens of the same grid cells, or None.
            text: (B, L, joint_attention_dim) hidden states of the text encoder.
            rgb_timestep: (B,) noise level of RGB in [0, 1]; 0 is clean, 1 is noise.
            depth_timestep: (B,) noise level of depth in [0, 1]; given with depth, None or not
                without.
            grid: (rows, columns) with rows · columns = N.
            guidance: (B,) guidance scale, where the model has `guidance_embeds`.
            depth_valid: (B, N, depth_channels) bool, which depth pixels hold a signal, where the
                model has `depth_mask`; None for all.
        """
        text_length, tokens = text.shape[1], rgb.shape[1]
        rgb_time, depth_time = self._time_embeddings(
            rgb_timestep, depth_timestep, guidance, rgb.dtype, depth is not None
        )
        length = text_length + tokens * (1 if depth is None else 2)
        rotary = self.pos_embed(position_ids(text_length, *grid, device=rgb.device)[:length])

        text = self.context_embedder(text)
        rgb = self.x_embedder(rgb)
        if depth is not None:
            if self.config.depth_mask:
                mask = torch.ones_like(depth) if depth_valid is None else depth_valid.to(depth)
                depth = torch.cat([depth, mask], dim=-1)
            depth = self.depth_embedder(depth.to(rgb.dtype))

        modulations = (
            self.double_stream_modulation_txt(rgb_time),
            self.double_stream_modulation_img(rgb_time),
            None if depth_time is None else self.depth_double_stream_modulation(depth_time),
        )
        states = rgb if depth is None else torch.cat([rgb, depth], dim=1)
        for block in self.transformer_blocks:
            text, states = self._run(block, states, text, *modulations, rotary)

        modulation = self.single_stream_modulation(rgb_time)[:, None]
        if depth_time is not None:
            modulation = torch.cat(
                [
                    modulation.expand(-1, text_length + tokens, -1),
                    self.depth_single_stream_modulation(depth_time)[:, None].expand(-1, tokens, -1),
                ],
                dim=1,
            )
        # Parts of one sequence, as these blocks give them: compiled ones are compiled again for
        # another layout.
        text, states = torch.cat([text, states], dim=1).tensor_split((text_length,), dim=1)
        for block in self.single_transformer_blocks:
            text, states = self._run(block, states, text, modulation, rotary)
        rgb, depth_states = states.tensor_split((tokens,), dim=1)
        rgb = self.proj_out(self.norm_out(rgb, rgb_time))
        if depth_time is None:
            return ModalityForcingTransformerOutput(rgb=rgb, depth=None)

        modulation = self.depth_decoder_modulation(depth_time)
        depth_rotary = (rotary[0][-tokens:], rotary[1][-tokens:])
        # In one layout: compiled blocks are compiled again for another.
        depth_states = depth_states.contiguous()
        for block in self.depth_decoder_blocks:
            depth_states = self._run(block, depth_states, None, modulation, depth_rotary)

        head_dtype = self.depth_proj_out.weight.dtype
        # Mixed-precision training, too, leaves this head its precision.
        with torch.autocast(rgb.device.type, enabled=False):
            depth_states = self.depth_norm_out(
                depth_states.to(head_dtype), depth_time.to(head_dtype)
            )
            depth_out = self.depth_proj_out(depth_states).float()
            if self.config.depth_head == "windows":
                depth_out = overlap_add(depth_out, grid)
        return ModalityForcingTransformerOutput(rgb=rgb, depth=depth_out)

    def _time_embeddings(
        self,
        rgb: Tensor,
        depth: Tensor | None,
        guidance: Tensor | None,
        dtype: torch.dtype,
        has_depth: bool,
    ) -> tuple[Tensor, Tensor | None]:
        is_mixed = self.config.cross_stream_mixing
        rgb_time = self.time_guidance_embed(rgb, guidance, dtype)
        if depth is not None and is_mixed:
            rgb_time = rgb_time + self.depth_to_rgb_time_embed(depth, dtype)
        if not has_depth:
            return rgb_time, None
        depth_time = self.depth_time_embed(depth, None, dtype)
        if is_mixed:
            depth_time = depth_time + self.rgb_to_depth_time_embed(rgb, dtype)
        return rgb_time, depth_time

    def _run(self, block: nn.Module, *args: Any) -> Any:
        if torch.is_grad_enabled() and self.gradient_checkpointing:
            return self._gradient_checkpointing_func(block, *args)
        return block(*args)
