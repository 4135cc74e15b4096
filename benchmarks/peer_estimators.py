"""MoGe and Depth Anything 3 through their own packages, which no extra of mfsynth names.

    python benchmarks/peer_estimators.py check
    python benchmarks/peer_estimators.py convert model.pt FOLDER

Their requirements conflict with mfsynth's, so this runs outside CI, in an environment in which they
were installed without them (docs/how-to/estimators.md). `check` puts small random weights through
the real packages and the adapters, and says in a line for each what came out; it fails if something
is not as the interface says. `convert` makes a folder of safetensors of MoGe's checkpoint, a
pickle of which only tensors and plain values are read.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
import yaml
from safetensors.torch import save_model
from torch import nn

from mfsynth.config.estimators import DepthEstimatorConfig
from mfsynth.geometry import EstimateKind, Intrinsics
from mfsynth.geometry.rgbd import RgbImage
from mfsynth.models.estimators.catalogue import estimator_info
from mfsynth.models.estimators.moge import convert as convert_moge
from mfsynth.models.estimators.opening import open_estimator
from mfsynth.models.locations import CHECKPOINT, CONFIG

HEIGHT, WIDTH = 72, 96
KNOWN = Intrinsics(fx=80.0, fy=80.0, cx=(WIDTH - 1) / 2, cy=(HEIGHT - 1) / 2)
ViT_S = 384


@click.group()
def main() -> None:
    """See above."""


@main.command()
def check() -> None:
    """Random weights through both packages."""
    with tempfile.TemporaryDirectory() as folder:
        moge = small_moge(Path(folder) / "moge")
        _check(moge, EstimateKind.METRIC_Z, sees=True, normals=True)
        _check(moge, EstimateKind.METRIC_Z, camera=KNOWN, sees=True, normals=True)
        place = Path(folder) / "any"
        _check(depth_anything_3(place, "da3-small"), EstimateKind.SCALE_INVARIANT_Z, sees=True)
        metric = small_metric_da3(Path(folder) / "metric")
        _check(metric, EstimateKind.SCALE_INVARIANT_Z)
        _check(metric, EstimateKind.METRIC_Z, camera=KNOWN)


@main.command()
@click.argument("checkpoint", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
def convert(checkpoint: Path, folder: Path) -> None:
    """Make a FOLDER of safetensors of MoGe's CHECKPOINT."""
    convert_moge(checkpoint, folder)
    click.echo(f"name it in estimator.id: {folder}")


def _check(
    folder: Path,
    kind: EstimateKind,
    *,
    camera: Intrinsics | None = None,
    sees: bool = False,
    normals: bool = False,
) -> None:
    config = DepthEstimatorConfig(id=str(folder))
    info = estimator_info(config)
    estimator = open_estimator(config, "cpu")
    rgb = _images()
    together = estimator(rgb, [camera] * len(rgb))
    alone = [estimator(image[None], [camera])[0] for image in rgb]
    for one, again in zip(together, alone, strict=True):
        assert one.values.shape == (HEIGHT, WIDTH), one.values.shape
        assert one.kind is kind, one.kind
        assert (one.intrinsics is not None) == sees == info.gives_camera
        assert np.allclose(one.values, again.values, rtol=1e-4), "depends on the batch"
        if normals:
            assert one.normals is not None
            lengths = np.linalg.norm(one.normals[one.valid], axis=-1)
            assert np.allclose(lengths, 1, atol=1e-3), "normals are not of length 1"
    said = together[0]
    click.echo(
        f"{folder.name}: {kind}, {said.valid.mean():.0%} valid, camera {said.intrinsics}, normals "
        f"{said.normals is not None}, licence {info.licence}"
    )


def _images() -> RgbImage:
    coarse = np.random.default_rng(0).integers(0, 256, (2, 6, 8, 3), dtype=np.uint8)
    return coarse.repeat(HEIGHT // 6, axis=1).repeat(WIDTH // 8, axis=2)


def small_moge(folder: Path) -> Path:
    """MoGe-2 on a small DINOv2, by way of the checkpoint that its publisher writes."""
    from moge.model.v2 import MoGeModel

    torch.manual_seed(0)
    # Groups of its norms have 32 channels.
    widths = [64, 32, 32, 32, 32]

    def stack(inputs: list[int | None], outputs: list[int | None]) -> dict[str, Any]:
        return {
            "dim_in": inputs,
            "dim_out": outputs,
            "dim_res_blocks": widths,
            "num_res_blocks": [1] * 5,
            "resamplers": ["conv_transpose"] * 4,
        }

    neck = stack([64 + 2, 2, 2, 2, 2], [None] * 5)
    config = {
        "encoder": {"backbone": "dinov2_vits14", "intermediate_layers": 4, "dim_out": 64},
        "neck": neck,
        "points_head": stack([*widths], [None, None, None, None, 3]),
        "normal_head": stack([*widths], [None, None, None, None, 3]),
        "mask_head": stack([*widths], [None, None, None, None, 1]),
        "scale_head": {"dims": [ViT_S, 16, 1]},
        "remap_output": "exp",
        "num_tokens_range": [12, 48],
    }
    model = MoGeModel(**config)
    folder.mkdir()
    with torch.no_grad():
        # A mask that is none is no test of what is behind it.
        list(model.mask_head.parameters())[-1].fill_(5.0)
    torch.save({"model_config": config, "model": model.state_dict()}, folder / "model.pt")
    convert_moge(folder / "model.pt", folder / "converted")
    return folder / "converted"


def depth_anything_3(folder: Path, name: str) -> Path:
    """A model of the package's own sizes."""
    from depth_anything_3.cfg import create_object, load_config
    from depth_anything_3.registry import MODEL_REGISTRY

    torch.manual_seed(0)
    held = nn.ModuleDict({"model": create_object(load_config(MODEL_REGISTRY[name]))})
    folder.mkdir()
    save_model(held, str(folder / CHECKPOINT))
    (folder / CONFIG).write_text(json.dumps({"model_name": name}))
    return folder


def small_metric_da3(folder: Path) -> Path:
    """The metric model on the small backbone."""
    from depth_anything_3.registry import MODEL_REGISTRY

    sizes = yaml.safe_load(Path(MODEL_REGISTRY["da3metric-large"]).read_text())
    sizes["net"] |= {"name": "vits", "out_layers": [2, 5, 8, 11]}
    sizes["head"] |= {"dim_in": ViT_S, "features": 32, "out_channels": [16, 16, 32, 32]}
    small = folder.with_suffix(".yaml")
    small.write_text(yaml.safe_dump(sizes))
    MODEL_REGISTRY["da3metric-small"] = str(small)
    return depth_anything_3(folder, "da3metric-small")


if __name__ == "__main__":
    main()
