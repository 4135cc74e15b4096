"""The base of the typed settings of training data."""

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """Frozen, knows all its keys, converts no types (an integer is a fine float)."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)
