"""Settings of something that is drawn from a source, whose settings stand beside its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import SerializerFunctionWrapHandler, model_serializer, model_validator

from mfsynth.config.base import Settings
from mfsynth.sources.registry import AnySource
from mfsynth.sources.settings import SourceSettings


class SourcePart(Settings):
    """A source, and what a subclass says of its use; one mapping in a file.

    Attributes:
        source: Where images come from.
    """

    internal_fields: ClassVar[frozenset[str]] = frozenset({"source"})

    source: AnySource

    @model_validator(mode="before")
    @classmethod
    def _take_apart(cls, values: Any) -> Any:
        """Whatever isn't the part's own is its source's."""
        if not isinstance(values, Mapping) or isinstance(values.get("source"), SourceSettings):
            return values
        own = cls.model_fields.keys() - cls.internal_fields
        source = {key: values[key] for key in values if key not in own}
        return {"source": source, **{key: values[key] for key in values if key in own}}

    @model_serializer(mode="wrap")
    def _put_together(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        values = serialize(self)
        return {**values.pop("source"), **values}
