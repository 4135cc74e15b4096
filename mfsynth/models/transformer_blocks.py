"""Blocks of the Modality Forcing transformer: three streams in one attention, then one stream.

Text and RGB modules carry the names of diffusers' `Flux2Transformer2DModel`, as in
`mfsynth.models.transformer`; what is added for depth has `depth` in its name.
"""

from __future__ import annotations

import torch
from diffusers.hooks._helpers import TransformerBlockMetadata, TransformerBlockRegistry
from diffusers.models.attention import AttentionModuleMixin
from diffusers.models.attention_dispatch import dispatch_attention_fn
from diffusers.models.embeddings import TimestepEmbedding, Timesteps, apply_rotary_emb
from diffusers.models.transformers.transformer_flux2 import (
    Flux2FeedForward,
    Flux2Modulation,
    Flux2SingleTransformerBlock,
    Flux2TimestepGuidanceEmbeddings,
)
from torch import Tensor, nn

RotaryEmbedding = tuple[Tensor, Tensor]


class TripleStreamAttnProcessor:
    """Joint attention over the concatenation [text, RGB, depth]."""

    _attention_backend = None
    _parallel_config = None

    def __call__(
        self,
        attn: TripleStreamAttention,
        text: Tensor,
        rgb: Tensor,
        depth: Tensor | None,
        rotary: RotaryEmbedding,
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Return the attended streams, each projected by its own output layer."""

        def heads(states: Tensor) -> Tensor:
            return states.unflatten(-1, (-1, attn.head_dim))

        queries = [
            attn.norm_added_q(heads(attn.add_q_proj(text))),
            attn.norm_q(heads(attn.to_q(rgb))),
        ]
        keys = [
            attn.norm_added_k(heads(attn.add_k_proj(text))),
            attn.norm_k(heads(attn.to_k(rgb))),
        ]
        values = [heads(attn.add_v_proj(text)), heads(attn.to_v(rgb))]
        if depth is not None:
            queries.append(attn.norm_depth_q(heads(attn.depth_q_proj(depth))))
            keys.append(attn.norm_depth_k(heads(attn.depth_k_proj(depth))))
            values.append(heads(attn.depth_v_proj(depth)))
        query = apply_rotary_emb(torch.cat(queries, dim=1), rotary, sequence_dim=1)
        key = apply_rotary_emb(torch.cat(keys, dim=1), rotary, sequence_dim=1)
        value = torch.cat(values, dim=1)
        attended = dispatch_attention_fn(
            query,
            key,
            value,
            backend=self._attention_backend,
            parallel_config=self._parallel_config,
        )
        attended = attended.flatten(2, 3).to(query.dtype)
        text, rgb, rest = attended.tensor_split(
            (text.shape[1], text.shape[1] + rgb.shape[1]), dim=1
        )
        return (
            attn.to_add_out(text),
            attn.to_out[0](rgb),
            None if depth is None else attn.to_depth_out(rest),
        )


class TripleStreamAttention(nn.Module, AttentionModuleMixin):
    """Projections and q/k RMS norms of the three streams; the processor does the attention."""

    _default_processor_cls = TripleStreamAttnProcessor
    _available_processors = [TripleStreamAttnProcessor]  # noqa: RUF012 (diffusers' interface)
    _supports_qkv_fusion = False

    def __init__(self, dim: int, heads: int, head_dim: int, eps: float) -> None:
        super().__init__()
        self.heads = heads
        self.head_dim = head_dim

        self.to_q = nn.Linear(dim, dim, bias=False)
        self.to_k = nn.Linear(dim, dim, bias=False)
        self.to_v = nn.Linear(dim, dim, bias=False)
        self.norm_q = nn.RMSNorm(head_dim, eps=eps)
        self.norm_k = nn.RMSNorm(head_dim, eps=eps)
        self.to_out = nn.ModuleList([nn.Linear(dim, dim, bias=False)])

        self.add_q_proj = nn.Linear(dim, dim, bias=False)
        self.add_k_proj = nn.Linear(dim, dim, bias=False)
        self.add_v_proj = nn.Linear(dim, dim, bias=False)
        self.norm_added_q = nn.RMSNorm(head_dim, eps=eps)
        self.norm_added_k = nn.RMSNorm(head_dim, eps=eps)
        self.to_add_out = nn.Linear(dim, dim, bias=False)

        self.depth_q_proj = nn.Linear(dim, dim, bias=False)
        self.depth_k_proj = nn.Linear(dim, dim, bias=False)
        self.depth_v_proj = nn.Linear(dim, dim, bias=False)
        self.norm_depth_q = nn.RMSNorm(head_dim, eps=eps)
        self.norm_depth_k = nn.RMSNorm(head_dim, eps=eps)
        self.to_depth_out = nn.Linear(dim, dim, bias=False)

        self.set_processor(TripleStreamAttnProcessor())  # type: ignore[operator]

    def forward(
        self, text: Tensor, rgb: Tensor, depth: Tensor | None, rotary: RotaryEmbedding
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Attend over (B, L, D) text, (B, N, D) RGB and (B, N, D) depth; the same shapes."""
        return self.processor(self, text, rgb, depth, rotary)  # type: ignore[operator]


def _modulate(states: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    return (1 + scale) * states + shift


class TripleStreamBlock(nn.Module):
    """A block in which text, RGB and depth keep their own weights and meet in one attention.

    RGB and depth come and go as one sequence, under the argument names of diffusers' two-stream
    blocks, so that diffusers' step caches see all that a block changes.
    """

    def __init__(self, dim: int, heads: int, head_dim: int, mlp_ratio: float, eps: float) -> None:
        super().__init__()
        self.norm1_context = nn.LayerNorm(dim, elementwise_affine=False, eps=eps)
        self.norm1 = nn.LayerNorm(dim, elementwise_affine=False, eps=eps)
        self.norm1_depth = nn.LayerNorm(dim, elementwise_affine=False, eps=eps)
        self.attn = TripleStreamAttention(dim, heads, head_dim, eps)
        self.norm2_context = nn.LayerNorm(dim, elementwise_affine=False, eps=eps)
        self.norm2 = nn.LayerNorm(dim, elementwise_affine=False, eps=eps)
        self.norm2_depth = nn.LayerNorm(dim, elementwise_affine=False, eps=eps)
        self.ff_context = Flux2FeedForward(dim=dim, mult=mlp_ratio)
        self.ff = Flux2FeedForward(dim=dim, mult=mlp_ratio)
        self.ff_depth = Flux2FeedForward(dim=dim, mult=mlp_ratio)

    def forward(
        self,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor,
        text_modulation: Tensor,
        rgb_modulation: Tensor,
        depth_modulation: Tensor | None,
        rotary: RotaryEmbedding,
    ) -> tuple[Tensor, Tensor]:
        """Map the streams to the same shapes.

        Args:
            hidden_states: (B, 2 · N, D), [RGB, depth]; (B, N, D) without depth.
            encoder_hidden_states: (B, L, D), text.
            text_modulation: From `double_stream_modulation_txt`.
            rgb_modulation: From `double_stream_modulation_img`.
            depth_modulation: From `depth_double_stream_modulation`; None without depth.
            rotary: Of [text, RGB, depth].

        Returns:
            Text, and [RGB, depth].
        """
        text, rgb, depth = encoder_hidden_states, hidden_states, None
        if depth_modulation is not None:
            rgb, depth = hidden_states.chunk(2, dim=1)
        (t_shift, t_scale, t_gate), text_mlp = Flux2Modulation.split(text_modulation, 2)
        (r_shift, r_scale, r_gate), rgb_mlp = Flux2Modulation.split(rgb_modulation, 2)
        depth_in = None
        if depth is not None:
            (d_shift, d_scale, d_gate), depth_mlp = Flux2Modulation.split(depth_modulation, 2)
            depth_in = _modulate(self.norm1_depth(depth), d_shift, d_scale)
        text_update, rgb_update, depth_update = self.attn(
            _modulate(self.norm1_context(text), t_shift, t_scale),
            _modulate(self.norm1(rgb), r_shift, r_scale),
            depth_in,
            rotary,
        )
        text = text + t_gate * text_update
        rgb = rgb + r_gate * rgb_update

        shift, scale, gate = text_mlp
        text = text + gate * self.ff_context(_modulate(self.norm2_context(text), shift, scale))
        shift, scale, gate = rgb_mlp
        rgb = rgb + gate * self.ff(_modulate(self.norm2(rgb), shift, scale))
        if depth is not None:
            depth = depth + d_gate * depth_update
            shift, scale, gate = depth_mlp
            depth = depth + gate * self.ff_depth(_modulate(self.norm2_depth(depth), shift, scale))
            rgb = torch.cat([rgb, depth], dim=1)
        return text, rgb


class SingleStreamBlock(Flux2SingleTransformerBlock):
    """A block with one set of weights over [text, RGB, depth], in and out as the triple block."""

    def forward(
        self,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor,
        modulation: Tensor,
        rotary: RotaryEmbedding,
    ) -> tuple[Tensor, Tensor]:
        """Map (B, 2 · N, D) [RGB, depth] and (B, L, D) text to text and [RGB, depth]."""
        return super().forward(
            hidden_states, encoder_hidden_states, modulation, rotary, split_hidden_states=True
        )


def _sinusoids(projection: Timesteps, values: Tensor, dtype: torch.dtype) -> Tensor:
    """Sinusoids of values times 1000; rounded to `dtype` no sooner.

    Between a half and 1 bfloat16 has a number every .004, which is coarser than noise levels near
    the noisy end are apart.
    """
    sinusoids: Tensor = projection(values.float() * 1000)
    return sinusoids.to(dtype)


class TimeEmbedding(Flux2TimestepGuidanceEmbeddings):
    """A modality's noise level, and the guidance scale where the model takes one."""

    def forward(self, level: Tensor, guidance: Tensor | None, dtype: torch.dtype) -> Tensor:
        """Embed (B,) noise levels, and (B,) guidance scales, in any precision, as (B, D)."""
        embedded: Tensor = self.timestep_embedder(_sinusoids(self.time_proj, level, dtype))
        if guidance is None or self.guidance_embedder is None:
            return embedded
        return embedded + self.guidance_embedder(_sinusoids(self.time_proj, guidance, dtype))


class CrossStreamTimeEmbedding(nn.Module):
    """The other modality's noise level, through a small MLP and a scalar gate that starts at 0."""

    def __init__(self, timestep_channels: int, dim: int) -> None:
        super().__init__()
        self.time_proj = Timesteps(timestep_channels, flip_sin_to_cos=True, downscale_freq_shift=0)
        self.timestep_embedder = TimestepEmbedding(timestep_channels, dim, sample_proj_bias=False)
        self.gate = nn.Parameter(torch.zeros(1))

    def forward(self, level: Tensor, dtype: torch.dtype) -> Tensor:
        """Embed (B,) noise levels, in any precision, as (B, D)."""
        return self.gate * self.timestep_embedder(_sinusoids(self.time_proj, level, dtype))


# With it, `enable_cache` and diffusers' other hooks know how to call the blocks.
for _block in (TripleStreamBlock, SingleStreamBlock):
    TransformerBlockRegistry.register(
        _block,
        TransformerBlockMetadata(
            return_hidden_states_index=1, return_encoder_hidden_states_index=0
        ),
    )
