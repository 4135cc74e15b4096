"""Typed settings of training data: what is drawn from which source, how often, and how sparse.

A list of these is a mixture. In a file, the settings of a part and of its source stand together:

    data:
      - {kind: folder, layout: tum, path: /data/tum/fr1_desk, weight: 1.0,
         captions: {constant: a desk},
         sparsity: [{kind: lidar, rings: 16}, {kind: at_most, share: 0.05}]}
      - {kind: webdataset, shards: "s3://bucket/train-{000..127}.tar", weight: 3.0, mirror: true}
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import (
    SerializeAsAny,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

from mfsynth.config.base import Items, Positive, Settings
from mfsynth.sources.registry import source_settings
from mfsynth.sources.settings import SourceSettings
from mfsynth.training.data.resize_crop import Crop
from mfsynth.training.data.sparsity import AnySparsityPattern


class PartSettings(Settings):
    """A part of a mixture.

    Attributes:
        source: Where its images come from.
        weight: Share of the samples, relative to the other parts' weights.
        crop: Which part of an image of other proportions is taken.
        mirror: Whether every other sample is turned left to right.
        sparsity: Patterns that take depth away, in their order.
        joint_only: Whether the first phase of training, which learns images alone, goes without
            it.
    """

    internal_fields: ClassVar[frozenset[str]] = frozenset({"source"})

    source: SerializeAsAny[SourceSettings]
    weight: Positive = 1.0
    crop: Crop = "random"
    mirror: bool = False
    sparsity: Items[AnySparsityPattern] = ()
    joint_only: bool = False

    @model_validator(mode="before")
    @classmethod
    def _take_apart(cls, values: Any) -> Any:
        """Whatever isn't the part's own is its source's."""
        if not isinstance(values, Mapping) or isinstance(values.get("source"), SourceSettings):
            return values
        own = cls.model_fields.keys() - cls.internal_fields
        source = source_settings({key: values[key] for key in values if key not in own})
        return {"source": source, **{key: values[key] for key in values if key in own}}

    @model_serializer(mode="wrap")
    def _put_together(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        values = serialize(self)
        return {**values.pop("source"), **values}
