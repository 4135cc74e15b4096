"""A model in the documents: its name, and its licence, which is that of the data."""

from __future__ import annotations

from collections.abc import Mapping

# SPDX names of the licences that the Hugging Face hub knows by their lower-case form.
_SPDX = {
    name.lower(): name
    for name in (
        "Apache-2.0",
        "MIT",
        "CC0-1.0",
        "CC-BY-4.0",
        "CC-BY-SA-4.0",
        "CC-BY-NC-4.0",
        "CC-BY-NC-SA-4.0",
    )
}


def licence_id(licence: str | None) -> str | None:
    """The SPDX name of a licence in any case, None for one without."""
    return _SPDX.get((licence or "").lower())


def model_name(model: Mapping[str, str]) -> str:
    """Id of a model of the manifest, with its revision where that is known."""
    revision = model.get("revision")
    return model["id"] + (f" (revision {revision})" if revision else "")
