"""A run in Megatron-Energon, with depth of 16 bits: its own decoder cuts depth to 8.

    from megatron.energon import WorkerConfig, get_loader, get_train_dataset

    from mfsynth.datasets.energon import PairEncoder

    loader = get_loader(get_train_dataset(
        "out/mine", batch_size=16, shuffle_buffer_size=1000, max_samples_per_sequence=None,
        task_encoder=PairEncoder(), worker_config=WorkerConfig.default_worker_config(),
    ))

after `mfsynth finalize out/mine --energon`. An encoder of yours takes `decoder = None` and
`cookers = [Cooker(cook_pair)]` from this one.
"""

from __future__ import annotations

from typing import Any

import torch
from megatron.energon import Cooker, DefaultTaskEncoder, Sample, basic_sample_keys, stateless
from megatron.energon.edataclass import edataclass

from mfsynth.datasets.plain import decode_pair


@edataclass
class Pair(Sample):
    """A pair.

    Attributes:
        rgb: uint8 (3, H, W).
        depth: float32 (1, H, W), z-depth in units of `depth_kind`, 0 = invalid.
        intrinsics: float64 (3, 3), NaN where nobody knows.
        depth_kind: See `mfsynth.geometry.DepthKind`.
        prompt: Text that the pair was asked for with.
    """

    rgb: torch.Tensor
    depth: torch.Tensor
    intrinsics: torch.Tensor
    depth_kind: str
    prompt: str


@stateless
def cook_pair(sample: dict[str, Any]) -> Pair:
    """A pair of the members of a sample, as they are in the tar.

    Raises:
        ValueError: They aren't what `KEY.json` says.
    """
    pair = decode_pair(sample)
    return Pair(
        **basic_sample_keys(sample),
        rgb=torch.from_numpy(pair.rgb).permute(2, 0, 1),
        depth=torch.from_numpy(pair.depth)[None],
        intrinsics=torch.from_numpy(pair.intrinsics),
        depth_kind=str(pair.depth_kind),
        prompt=pair.prompt,
    )


class PairEncoder(DefaultTaskEncoder):
    """Pairs, batched by stacking; all of a batch must have one size."""

    decoder = None
    cookers = (Cooker(cook_pair),)
