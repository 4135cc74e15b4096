"""Settings whose `kind` says which class they have, where packages may bring further ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema


@dataclass(frozen=True, slots=True)
class OfKind:
    """In an annotation: the settings are of the class that `validate` finds for their kind.

    Attributes:
        validate: Gives the settings of a file's values.
        classes: By kind, of which the named one is complete; for errors.
    """

    validate: Callable[[Any], Any]
    classes: Callable[[str | None], Mapping[str, Any]]

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        """See pydantic; they are written as what they are, not as their base."""
        return core_schema.no_info_plain_validator_function(self.validate)
