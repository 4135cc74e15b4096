"""What Croissant's vocabulary for responsible use asks of a data set, as far as a run knows it.

https://docs.mlcommons.org/croissant/docs/croissant-rai-spec.html (`rai:`), and of Croissant 1.1 the
provenance by https://www.w3.org/TR/prov-o/ (`prov:`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from mfsynth.geometry import DepthKind
from mfsynth.shards.documents.models import model_name
from mfsynth.shards.words import how_made, mode_of

_METRIC = {kind for kind in DepthKind if kind.is_metric}


def responsible_use(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of the data set, by their prefixed names.

    Args:
        manifest: As `build_manifest` makes it.
    """
    settings, counts = manifest["settings"], manifest["counts"]
    made, limits = how_made(settings)
    tools = [
        f"{what}: {model_name(model)}, licence {model.get('licence') or 'unknown'}"
        for what, model in _tools(manifest)
    ]
    checks = ", ".join(manifest["scores"]) or "none"
    by = "by a check or a rule of the view" if "view" in manifest else "by a check"
    return {
        # Of NeurIPS' tracks; the vocabulary itself has no field for it. A model made the images, or
        # the depth, or both.
        "rai:hasSyntheticData": True,
        "rai:dataCollection": f"{made}.",
        "rai:dataCollectionType": _collected(settings),
        "rai:dataCollectionTimeFrame": [manifest["created"], manifest["last_commit"]],
        "rai:dataPreprocessingProtocol": [
            f"Of {counts['candidates']} candidates {counts['rejected']} were left out "
            f"{by}, {counts['quarantined']} could not be made. Checks: {checks}."
        ],
        "rai:dataAnnotationProtocol": [
            "Pairs are described and chosen by programs alone. Prompts say what was asked for."
        ],
        "rai:machineAnnotationTools": tools,
        "rai:dataLimitations": [limits, *_unit(manifest)],
        "rai:dataBiases": [_biases(settings)],
        "rai:personalSensitiveInformation": [_persons(settings)],
        **_provenance(manifest, made),
    }


def _tools(manifest: Mapping[str, Any]) -> Iterable[tuple[str, Mapping[str, str]]]:
    for model in manifest["models"]:
        yield "model", model
    if "id" in (estimator := manifest.get("estimator") or {}):
        yield "depth estimator", estimator


def _collected(settings: Mapping[str, Any]) -> list[str]:
    own = [] if mode_of(settings) == "i2d" else ["Synthetic"]
    return [*own, *(["Secondary Data Analysis"] if "source" in settings else [])]


def _unit(manifest: Mapping[str, Any]) -> list[str]:
    if _METRIC.issuperset(manifest["depth_kinds"]):
        return []
    return ["Depth is relative, not metres, in pairs whose `depth_kind` says so."]


def _biases(settings: Mapping[str, Any]) -> str:
    if mode_of(settings) == "i2d":
        return "Images are a choice of their source's; depth has what its model learnt."
    return (
        "What is seen, and how often, is what prompts asked for and what the model learnt of its "
        "training images; neither is a sample of the world."
    )


def _persons(settings: Mapping[str, Any]) -> str:
    if mode_of(settings) == "i2d":
        return "Images are those of the source; nothing was searched for or taken out."
    return "Images were taken of nobody; whether one resembles a person was not looked at."


def _provenance(manifest: Mapping[str, Any], made: str) -> dict[str, Any]:
    found: dict[str, Any] = {
        "prov:wasGeneratedBy": {
            "@type": "prov:Activity",
            "prov:label": f"mfsynth {manifest['versions'].get('mfsynth', '')}".strip(),
            "prov:startedAtTime": manifest["created"],
            "prov:endedAtTime": manifest["last_commit"],
        }
    }
    digest = (manifest["settings"].get("source") or {}).get("digest")
    if isinstance(digest, str):
        # A digest of what it holds is all that a run keeps of where it began.
        found["prov:wasDerivedFrom"] = {"@id": f"urn:sha256:{digest}"}
    return found
