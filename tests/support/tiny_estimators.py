"""Depth models of transformers, tiny and with random weights, saved as publishers do."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
import transformers

_DINO = {
    "hidden_size": 16,
    "num_hidden_layers": 4,
    "num_attention_heads": 2,
    "mlp_ratio": 2,
    "image_size": 28,
    "patch_size": 14,
    "out_features": ["stage1", "stage2", "stage3", "stage4"],
    "reshape_hidden_states": False,
}
_COLOURS = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}
_ENCODER = {"num_hidden_layers": 2, "hidden_size": 16, "num_attention_heads": 2}


def depth_anything(folder: Path, **settings: Any) -> Path:
    """Disparity; with `depth_estimation_type="metric"`, metres."""
    config = transformers.DepthAnythingConfig(
        backbone_config=transformers.Dinov2Config(**_DINO),
        reassemble_hidden_size=16,
        neck_hidden_sizes=[8, 8, 8, 8],
        fusion_hidden_size=8,
        head_hidden_size=8,
        **settings,
    )
    processor = {"keep_aspect_ratio": True, "ensure_multiple_of": 14, **_size(56, 56)}
    return _saved(
        transformers.DepthAnythingForDepthEstimation, config, folder, "DPTImageProcessor", processor
    )


def dpt(folder: Path, **settings: Any) -> Path:
    """Disparity, of images that are squeezed to a square."""
    given = {"hidden_size": 16, "num_hidden_layers": 4, "num_attention_heads": 2, **settings}
    config = transformers.DPTConfig(
        intermediate_size=32,
        image_size=32,
        patch_size=8,
        backbone_out_indices=[0, 1, 2, 3],
        neck_hidden_sizes=[8, 8, 8, 8],
        fusion_hidden_size=8,
        **given,
    )
    return _saved(
        transformers.DPTForDepthEstimation, config, folder, "DPTImageProcessor", _size(32, 32)
    )


def zoedepth(folder: Path) -> Path:
    """Metres, by one of two heads."""
    bins = [
        {"name": name, "n_bins": 8, "min_depth": 0.001, "max_depth": most}
        for name, most in (("nyu", 10.0), ("kitti", 80.0))
    ]
    config = transformers.ZoeDepthConfig(
        backbone_config=transformers.Dinov2Config(**_DINO),
        neck_hidden_sizes=[8, 8, 8, 8],
        fusion_hidden_size=8,
        bottleneck_features=8,
        num_relative_features=8,
        bin_embedding_dim=8,
        num_attractors=[4, 2, 2, 1],
        bin_configurations=bins,
        num_patch_transformer_layers=4,
        patch_transformer_hidden_size=128,
        patch_transformer_intermediate_size=8,
        patch_transformer_num_attention_heads=4,
    )
    processor = {"keep_aspect_ratio": True, "ensure_multiple_of": 14, "do_pad": True}
    return _saved(
        transformers.ZoeDepthForDepthEstimation,
        config,
        folder,
        "ZoeDepthImageProcessor",
        {**processor, **_size(56, 56)},
    )


def depth_pro(folder: Path, **settings: Any) -> Path:
    """Metres and a camera."""
    config = transformers.DepthProConfig(
        patch_size=16,
        fusion_hidden_size=16,
        intermediate_hook_ids=[1, 0],
        intermediate_feature_dims=[8, 8],
        scaled_images_ratios=[0.5, 1.0],
        scaled_images_overlap_ratios=[0.0, 0.2],
        scaled_images_feature_dims=[8, 8],
        image_model_config={"model_type": "dinov2", "patch_size": 4, **_ENCODER},
        patch_model_config={"model_type": "dinov2", "patch_size": 4, **_ENCODER},
        fov_model_config={"model_type": "dinov2", "patch_size": 4, **_ENCODER},
        **{"use_fov_model": True, **settings},
    )
    processor = {"image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5], **_size(32, 32)}
    return _saved(
        transformers.DepthProForDepthEstimation,
        config,
        folder,
        "DepthProImageProcessor",
        processor,
        # Random weights see no angle at all.
        fov=50.0,
        spread=0.05,
    )


def _saved(
    kind: Any,
    config: Any,
    folder: Path,
    processor: str,
    settings: dict[str, Any],
    fov: float | None = None,
    spread: float = 0.2,
) -> Path:
    torch.manual_seed(0)
    model = kind(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(spread * torch.randn(parameter.shape))
        if fov is not None and model.fov_model is not None:
            list(model.fov_model.parameters())[-1].fill_(fov)
    model.save_pretrained(folder)
    defaults = {} if processor == "DepthProImageProcessor" else _COLOURS
    described = {"image_processor_type": processor, **defaults, **settings}
    (folder / "preprocessor_config.json").write_text(json.dumps(described))
    return folder


def _size(height: int, width: int) -> dict[str, Any]:
    return {"size": {"height": height, "width": width}}
