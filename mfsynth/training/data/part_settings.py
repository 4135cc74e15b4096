"""Typed settings of training data: what is drawn from which source, how often, and how sparse.

A list of these is a mixture. In a file, the settings of a part and of its source stand together:

    data:
      - {kind: folder, layout: tum, path: /data/tum/fr1_desk, weight: 1.0,
         captions: {constant: a desk},
         sparsity: [{kind: lidar, rings: 16}, {kind: at_most, share: 0.05}]}
      - {kind: webdataset, shards: "s3://bucket/train-{000..127}.tar", weight: 3.0, mirror: true}
"""

from __future__ import annotations

from mfsynth.config.base import Items, Positive
from mfsynth.sources.parts import SourcePart
from mfsynth.training.data.resize_crop import Crop
from mfsynth.training.data.sparsity import AnySparsityPattern


class PartSettings(SourcePart):
    """A part of a mixture.

    Attributes:
        weight: Share of the samples, relative to the other parts' weights.
        crop: Which part of an image of other proportions is taken.
        mirror: Whether every other sample is turned left to right.
        sparsity: Patterns that take depth away, in their order.
        joint_only: Whether the first phase of training, which learns images alone, goes without
            it.
    """

    weight: Positive = 1.0
    crop: Crop = "random"
    mirror: bool = False
    sparsity: Items[AnySparsityPattern] = ()
    joint_only: bool = False
