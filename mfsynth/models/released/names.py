"""The layout of the released checkpoint: its names, shapes and sizes, and how they map onto ours.

Nothing here opens a file; `mfsynth.models.released.checkpoint` does.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from mfsynth.errors import MfsynthError

_PREFIX = "dit."

Shape = tuple[int, ...]

_PLAIN = {
    "img_in.weight": "x_embedder.weight",
    "txt_in.weight": "context_embedder.weight",
    "depth_in.weight": "depth_embedder.weight",
    "time_in.in_layer.weight": "time_guidance_embed.timestep_embedder.linear_1.weight",
    "time_in.out_layer.weight": "time_guidance_embed.timestep_embedder.linear_2.weight",
    "time_in_depth.in_layer.weight": "depth_time_embed.timestep_embedder.linear_1.weight",
    "time_in_depth.out_layer.weight": "depth_time_embed.timestep_embedder.linear_2.weight",
    "double_stream_modulation_txt.lin.weight": "double_stream_modulation_txt.linear.weight",
    "double_stream_modulation_img.lin.weight": "double_stream_modulation_img.linear.weight",
    "double_stream_modulation_depth.lin.weight": "depth_double_stream_modulation.linear.weight",
    "single_stream_modulation.lin.weight": "single_stream_modulation.linear.weight",
    "single_stream_modulation_depth.lin.weight": "depth_single_stream_modulation.linear.weight",
    "depth_decoder_modulation.lin.weight": "depth_decoder_modulation.linear.weight",
    "final_layer.linear.weight": "proj_out.weight",
    "depth_final_layer.linear.weight": "depth_proj_out.weight",
}

_CROSS_STREAM = {
    "time_in_depth_to_img.in_layer.weight": (
        "depth_to_rgb_time_embed.timestep_embedder.linear_1.weight"
    ),
    "time_in_depth_to_img.out_layer.weight": (
        "depth_to_rgb_time_embed.timestep_embedder.linear_2.weight"
    ),
    "time_in_rgb_to_depth.in_layer.weight": (
        "rgb_to_depth_time_embed.timestep_embedder.linear_1.weight"
    ),
    "time_in_rgb_to_depth.out_layer.weight": (
        "rgb_to_depth_time_embed.timestep_embedder.linear_2.weight"
    ),
    "cross_alpha_img": "depth_to_rgb_time_embed.gate",
    "cross_alpha_depth": "rgb_to_depth_time_embed.gate",
}
CROSS_STREAM_KEYS = frozenset(_PREFIX + key for key in _CROSS_STREAM)

# The release stores (shift, scale); diffusers' AdaLayerNormContinuous expects (scale, shift).
_SWAPPED = {
    "final_layer.adaLN_modulation.1.weight": "norm_out.linear.weight",
    "depth_final_layer.adaLN_modulation.1.weight": "depth_norm_out.linear.weight",
}

_Block = dict[str, tuple[str, ...]]

_TRIPLE: _Block = {
    "txt_attn.qkv.weight": (
        "attn.add_q_proj.weight",
        "attn.add_k_proj.weight",
        "attn.add_v_proj.weight",
    ),
    "txt_attn.norm.query_norm.scale": ("attn.norm_added_q.weight",),
    "txt_attn.norm.key_norm.scale": ("attn.norm_added_k.weight",),
    "txt_attn.proj.weight": ("attn.to_add_out.weight",),
    "txt_mlp.0.weight": ("ff_context.linear_in.weight",),
    "txt_mlp.2.weight": ("ff_context.linear_out.weight",),
    "img_attn.qkv.weight": ("attn.to_q.weight", "attn.to_k.weight", "attn.to_v.weight"),
    "img_attn.norm.query_norm.scale": ("attn.norm_q.weight",),
    "img_attn.norm.key_norm.scale": ("attn.norm_k.weight",),
    "img_attn.proj.weight": ("attn.to_out.0.weight",),
    "img_mlp.0.weight": ("ff.linear_in.weight",),
    "img_mlp.2.weight": ("ff.linear_out.weight",),
    "depth_attn.qkv.weight": (
        "attn.depth_q_proj.weight",
        "attn.depth_k_proj.weight",
        "attn.depth_v_proj.weight",
    ),
    "depth_attn.norm.query_norm.scale": ("attn.norm_depth_q.weight",),
    "depth_attn.norm.key_norm.scale": ("attn.norm_depth_k.weight",),
    "depth_attn.proj.weight": ("attn.to_depth_out.weight",),
    "depth_mlp.0.weight": ("ff_depth.linear_in.weight",),
    "depth_mlp.2.weight": ("ff_depth.linear_out.weight",),
}
_SINGLE: _Block = {
    "linear1.weight": ("attn.to_qkv_mlp_proj.weight",),
    "linear2.weight": ("attn.to_out.weight",),
    "norm.query_norm.scale": ("attn.norm_q.weight",),
    "norm.key_norm.scale": ("attn.norm_k.weight",),
}
_STACKS: dict[str, tuple[str, _Block]] = {
    "double_blocks": ("transformer_blocks", _TRIPLE),
    "single_blocks": ("single_transformer_blocks", _SINGLE),
    "depth_decoder_blocks": ("depth_decoder_blocks", _SINGLE),
}
_IN_STACK = re.compile(rf"({'|'.join(_STACKS)})\.(\d+)\.(.+)")

_KEYS = {name: key for key, name in (_PLAIN | _CROSS_STREAM | _SWAPPED).items()}
_STACK_KEYS = {
    ours: (stack, {name: key for key, names in block.items() for name in names})
    for stack, (ours, block) in _STACKS.items()
}
_IN_OUR_STACK = re.compile(rf"({'|'.join(_STACK_KEYS)})\.(\d+)\.(.+)")

_DIT_SIZES = (
    "in_channels",
    "depth_channels",
    "context_in_dim",
    "hidden_size",
    "num_heads",
    "depth_double",
    "depth_single",
    "depth_decoder_num_layers",
    "axes_dim",
    "theta",
    "mlp_ratio",
    "cross_stream_timestep_mixing",
)


def convert_tensor(key: str, tensor: Tensor) -> Iterator[tuple[str, Tensor]]:
    """Rename one released tensor, splitting or reordering it where the layouts differ.

    Args:
        key: Name in the released file, with its `dit.` prefix.
        tensor: The tensor under that name.

    Yields:
        (name in `ModalityForcingTransformer2DModel`, tensor).

    Raises:
        MfsynthError: The key does not belong to the released layout.
    """
    name = key.removeprefix(_PREFIX)
    if plain := _PLAIN.get(name) or _CROSS_STREAM.get(name):
        yield plain, tensor
        return
    if name in _SWAPPED:
        shift, scale = tensor.chunk(2)
        yield _SWAPPED[name], torch.cat([scale, shift])
        return
    if in_stack := _IN_STACK.fullmatch(name):
        stack, index, rest = in_stack.groups()
        ours, block = _STACKS[stack]
        if rest in block:
            parts = tensor.chunk(len(block[rest]))
            for part_name, part in zip(block[rest], parts, strict=True):
                yield f"{ours}.{index}.{part_name}", part
            return
    raise MfsynthError(f"{key}: not a key of the released Modality Forcing layout")


def transformer_key(name: str) -> str:
    """The released key that holds a parameter of our transformer; three may share a fused one."""
    if in_stack := _IN_OUR_STACK.fullmatch(name):
        ours, index, rest = in_stack.groups()
        stack, keys = _STACK_KEYS[ours]
        return f"{_PREFIX}{stack}.{index}.{keys[rest]}"
    return _PREFIX + _KEYS[name]


def transformer_layout(shapes: Mapping[str, Shape]) -> dict[str, Shape]:
    """Shapes by key that the released file of a transformer with these parameters has."""
    layout: dict[str, Shape] = {}
    for name, shape in shapes.items():
        key = transformer_key(name)
        # Only rows are fused: query, key and value lie on top of each other.
        rows = layout[key][0] if key in layout else 0
        layout[key] = (rows + shape[0], *shape[1:])
    return layout


def transformer_config(dit: Mapping[str, Any]) -> dict[str, Any]:
    """Translate the sizes of a released-style `dit` configuration to constructor arguments.

    Raises:
        MfsynthError: A size is missing, or the sizes are not those of a released-style model.
    """
    if missing := [name for name in _DIT_SIZES if name not in dit]:
        raise MfsynthError(f"dit: {', '.join(missing)} missing; give every size")
    if dit.get("use_guidance_embed"):
        raise MfsynthError("dit.use_guidance_embed: the released layout has no guidance embedding")
    heads, hidden, axes = dit["num_heads"], dit["hidden_size"], dit["axes_dim"]
    if sum(axes) * heads != hidden:
        raise MfsynthError(
            f"dit: hidden_size {hidden} is not num_heads {heads} times the {sum(axes)} channels of "
            "axes_dim"
        )
    return {
        "in_channels": dit["in_channels"],
        "depth_channels": dit["depth_channels"],
        "num_layers": dit["depth_double"],
        "num_single_layers": dit["depth_single"],
        "num_depth_decoder_layers": dit["depth_decoder_num_layers"],
        "attention_head_dim": hidden // heads,
        "num_attention_heads": heads,
        "joint_attention_dim": dit["context_in_dim"],
        "mlp_ratio": dit["mlp_ratio"],
        "axes_dims_rope": tuple(axes),
        "rope_theta": dit["theta"],
        "cross_stream_mixing": dit["cross_stream_timestep_mixing"],
    }


_ATTENTION = {
    "group_norm": "norm",
    "to_q": "q",
    "to_k": "k",
    "to_v": "v",
    "to_out.0": "proj_out",
}
# Both files have the statistics of the latents; the other two stand in one of them.
_SHARED_MODULES = {
    "bn": ("encoder", "decoder"),
    "quant_conv": ("encoder",),
    "post_quant_conv": ("decoder",),
}


def autoencoder_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """Translate a released-style `ae_config.json` to arguments of `AutoencoderKLFlux2`.

    Raises:
        MfsynthError: A size is missing.
    """
    sizes = ("ch", "ch_mult", "num_res_blocks", "z_channels", "resolution")
    if missing := [name for name in sizes if name not in config]:
        raise MfsynthError(f"{', '.join(missing)} missing; give every size")
    channels = tuple(config["ch"] * factor for factor in config["ch_mult"])
    return {
        "down_block_types": ("DownEncoderBlock2D",) * len(channels),
        "up_block_types": ("UpDecoderBlock2D",) * len(channels),
        "block_out_channels": channels,
        "layers_per_block": config["num_res_blocks"],
        "latent_channels": config["z_channels"],
        "sample_size": config["resolution"],
    }


def autoencoder_places(name: str, stages: int) -> tuple[tuple[str, str], ...]:
    """Where the release has a parameter of `AutoencoderKLFlux2`.

    Args:
        name: As in diffusers.
        stages: Resolutions of the autoencoder.

    Returns:
        ("encoder" or "decoder", key in that file); both files hold the batch-norm statistics.
    """
    module, _, parameter = name.rpartition(".")
    if module in _SHARED_MODULES:
        return tuple((part, name) for part in _SHARED_MODULES[module])
    part, _, rest = module.partition(".")
    return ((part, f"{_autoencoder_module(rest, stages)}.{parameter}"),)


def _autoencoder_module(module: str, stages: int) -> str:
    match module.split("."):
        case ["conv_norm_out"]:
            return "norm_out"
        case ["mid_block", "attentions", "0", *layer]:
            return f"mid.attn_1.{_ATTENTION['.'.join(layer)]}"
        case ["mid_block", "resnets", index, layer]:
            return f"mid.block_{int(index) + 1}.{layer}"
        case [("down_blocks" | "up_blocks") as blocks, stage, "resnets", index, layer]:
            layer = "nin_shortcut" if layer == "conv_shortcut" else layer
            return f"{_stage(blocks, stage, stages)}.block.{index}.{layer}"
        case ["down_blocks", stage, "downsamplers", "0", "conv"]:
            return f"{_stage('down_blocks', stage, stages)}.downsample.conv"
        case ["up_blocks", stage, "upsamplers", "0", "conv"]:
            return f"{_stage('up_blocks', stage, stages)}.upsample.conv"
        case _:
            return module


def _stage(blocks: str, stage: str, stages: int) -> str:
    if blocks == "down_blocks":
        return f"down.{stage}"
    # The release counts the decoder's stages by resolution, diffusers in the order of their use.
    return f"up.{stages - 1 - int(stage)}"


def autoencoder_layout(shapes: Mapping[str, Shape], stages: int) -> dict[str, dict[str, Shape]]:
    """Shapes by key of the released "encoder" and "decoder" files of an `AutoencoderKLFlux2`."""
    layout: dict[str, dict[str, Shape]] = {"encoder": {}, "decoder": {}}
    for name, shape in shapes.items():
        # The release attends with 1×1 convolutions, diffusers with linear layers.
        is_attention = ".attentions." in name and len(shape) == 2
        for part, key in autoencoder_places(name, stages):
            layout[part][key] = (*shape, 1, 1) if is_attention else shape
    return layout
