"""The documents that strangers and machines read: Hugging Face data card and Croissant."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pyarrow as pa
import yaml

from mfsynth.shards.commits import ScoreInfo

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

_CROISSANT_TYPES = {
    "string": "sc:Text",
    "int32": "sc:Integer",
    "int64": "sc:Integer",
    "uint32": "sc:Integer",
    "double": "sc:Float",
}

_METRIC = {"metric_z", "estimated_metric_z"}

_HOW_TO_LOAD = """\
```python
from mfsynth.datasets import RGBDDataset

dataset = RGBDDataset("{place}")
sample = dataset[0]      # sample.rgb uint8 (H, W, 3), sample.depth float32 (H, W), 0 = invalid
```

Without mfsynth, as WebDataset; `KEY.json` says how the 16-bit codes become depth:

```python
import json

import cv2
import numpy as np
import webdataset


def decode(sample):
    about = json.loads(sample["json"])["depth"]
    png = np.frombuffer(sample["depth.png"], np.uint8)
    codes = cv2.imdecode(png, cv2.IMREAD_UNCHANGED)          # uint16, 0 = invalid
    if about["encoding"] == "linear":
        depth = codes * about["unit_per_code"]
    else:
        depth = about["near"] * np.exp((codes - 1.0) * about["unit_per_code"])
    jpeg = np.frombuffer(sample["rgb.jpg"], np.uint8)
    rgb = cv2.imdecode(jpeg, cv2.IMREAD_COLOR)[..., ::-1]
    return rgb, np.where(codes > 0, depth, 0).astype(np.float32)


dataset = webdataset.WebDataset(tars, shardshuffle=False).map(decode)
```

Don't use webdataset's own `decode("pil")` or `decode("rgb8")` on depth: they cut it to 8 bits.
`index/` has a Parquet row for every pair (prompt, seed, intrinsics, scores, byte offsets into
the tar); `rejects/` has one for every candidate that was turned down, with its scores."""


def licence_id(licence: str | None) -> str | None:
    """The SPDX name of a licence in any case, None for one without."""
    return _SPDX.get((licence or "").lower())


def data_card(manifest: Mapping[str, Any], scores: Mapping[str, ScoreInfo]) -> str:
    """Text of `README.md`: YAML front matter as the Hugging Face hub reads it, then prose.

    Args:
        manifest: As `finalize.build_manifest` makes it.
        scores: What the run says of its scores, by name.
    """
    counts = manifest["counts"]
    models = ", ".join(_model(model) for model in manifest["models"])
    reasons = [f"| {reason} | {count} |" for reason, count in counts["rejected_by_reason"].items()]
    sizes = ", ".join(f"{width}x{height}" for width, height in manifest["sizes"]) or "none"
    lines = [
        "---",
        yaml.safe_dump(_front_matter(manifest), sort_keys=False, allow_unicode=True).rstrip(),
        "---",
        "",
        f"# {manifest['run']}",
        "",
        f"{counts['pairs']} synthetic RGB-D pairs ({sizes} pixels) in {counts['shards']} shards, "
        f"kept of {counts['candidates']} candidates. Image and depth were made by a generative "
        f"model, not by a camera: {models}. Made with mfsynth.",
        "",
        "## Load it",
        "",
        _HOW_TO_LOAD.format(place="path or URL of this folder"),
        "",
        "## Conventions",
        "",
        *(
            f"- {name.replace('_', ' ')}: {text}"
            for name, text in manifest["conventions"].items()
            if isinstance(text, str)
        ),
        *(
            f"- depth, {scale}: `{formula}`"
            for scale, formula in manifest["conventions"]["depth_formulas"].items()
        ),
        f"- depth kind: {', '.join(manifest['depth_kinds']) or 'none'}"
        + ("" if _METRIC & set(manifest["depth_kinds"]) else " (relative: not metres)"),
        "- intrinsics: pixels, null where unknown; `intrinsics_source` says whether they were "
        "assumed, estimated or rendered",
        "",
        "## Checks",
        "",
        f"Stored with every candidate: {', '.join(manifest['scores']) or 'none'}. "
        f"Rejected: {counts['rejected']}; could not be made: {counts['quarantined']}.",
        "",
        *([*map(_score_line, scores, scores.values()), ""] if scores else []),
        *(["| failed check | candidates |", "|---|---|", *reasons, ""] if reasons else []),
        "## Provenance",
        "",
        f"- models: {models}",
        f"- licence: {manifest['licence'] or 'not stated by the model'} (that of the model)",
        f"- settings fingerprint: `{manifest['fingerprint']}`; all settings are in `run.json`",
        f"- digital source type: <{manifest['digital_source_type']}>",
        "- every pair has its prompt and seed; `manifest.json` has the SHA-256 of every file",
        "",
        "## Limits",
        "",
        "Depth is what the model believes, checked for consistency with the image, not measured. "
        "Don't use it as ground truth to evaluate against. Prompts say what was asked for, which "
        "is not always what is seen.",
    ]
    return "\n".join(lines) + "\n"


def croissant(manifest: Mapping[str, Any], index: pa.Schema) -> dict[str, Any]:
    """JSON-LD by the Croissant 1.0 specification: the files, and the index as a record set.

    Files are named one by one, because a pattern would match what no commit refers to.
    """
    name = manifest["run"]
    licence = licence_id(manifest["licence"])
    counts = manifest["counts"]
    document = {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": "http://mlcommons.org/croissant/1.0",
        "name": name,
        "description": (
            f"{counts['pairs']} synthetic RGB-D pairs made by a generative model with mfsynth. "
            f"Depth kinds: {', '.join(manifest['depth_kinds']) or 'none'}."
        ),
        "version": f"{manifest['format_version']}.0.{counts['shards']}",
        "datePublished": manifest["last_commit"],
        "license": (
            f"https://spdx.org/licenses/{licence}.html" if licence else manifest["licence"]
        ),
        "keywords": ["rgb-d", "depth", "synthetic", "trainedAlgorithmicMedia"],
        "isBasedOn": [_model(model) for model in manifest["models"]],
        "distribution": _distribution(manifest),
        "recordSet": [_record_set(index)],
    }
    return {key: value for key, value in document.items() if value is not None}


def _distribution(manifest: Mapping[str, Any]) -> list[dict[str, Any]]:
    files: list[dict[str, Any]] = []
    for kind, media in (
        ("tar", "application/x-tar"),
        ("index", "application/x-parquet"),
        ("rejects", "application/x-parquet"),
    ):
        stored = [shard[kind] for shard in manifest["shards"]]
        files += [
            {
                "@type": "cr:FileObject",
                "@id": each["key"],
                "name": each["key"],
                "contentUrl": each["key"],
                "contentSize": f"{each['size']} B",
                "encodingFormat": media,
                "sha256": each["sha256"],
            }
            for each in stored
        ]
        files.append(
            {
                "@type": "cr:FileSet",
                "@id": f"{kind}-files",
                "name": f"{kind}-files",
                "encodingFormat": media,
                "includes": [each["key"] for each in stored],
            }
        )
    return files


def _record_set(index: pa.Schema) -> dict[str, Any]:
    return {
        "@type": "cr:RecordSet",
        "@id": "pairs",
        "name": "pairs",
        "description": "One record an RGB-D pair; its bytes are in the tar of its shard.",
        "key": {"@id": "pairs/sample_id"},
        "field": [
            {
                "@type": "cr:Field",
                "@id": f"pairs/{field.name}",
                "name": field.name,
                "dataType": _CROISSANT_TYPES[str(field.type)],
                "source": {"fileSet": {"@id": "index-files"}, "extract": {"column": field.name}},
            }
            for field in index
        ],
    }


def _front_matter(manifest: Mapping[str, Any]) -> dict[str, Any]:
    licence = manifest["licence"]
    known = licence_id(licence)
    matter: dict[str, Any] = {"pretty_name": manifest["run"]}
    if known:
        matter["license"] = known.lower()
    elif licence:
        matter |= {"license": "other", "license_name": licence}
    else:
        matter["license"] = "unknown"
    pairs = manifest["counts"]["pairs"]
    return {
        **matter,
        "task_categories": ["depth-estimation"],
        "tags": ["rgb-d", "depth", "synthetic", "webdataset", "trainedAlgorithmicMedia"],
        "size_categories": [_size_category(pairs)],
        "configs": [
            {
                "config_name": "default",
                "data_files": [
                    {
                        "split": "train",
                        "path": [s["tar"]["key"] for s in manifest["shards"] if s["pairs"]],
                    }
                ],
            }
        ],
    }


def _score_line(name: str, score: ScoreInfo) -> str:
    line = f"- `{name}` ({score.label}): {score.note}"
    if score.limit is None:
        return line
    bound = "at least" if score.is_minimum else "at most"
    return f"{line}; {bound} {score.with_unit(f'{score.limit:g}')}"


def _size_category(pairs: int) -> str:
    bounds = ((1_000, "1K"), (10_000, "10K"), (100_000, "100K"), (1_000_000, "1M"))
    lower = "n"
    for bound, name in bounds:
        if pairs < bound:
            return f"n<{name}" if lower == "n" else f"{lower}<n<{name}"
        lower = name
    return "1M<n<10M" if pairs < 10_000_000 else "n>10M"


def _model(model: Mapping[str, str]) -> str:
    revision = model.get("revision")
    return model["id"] + (f" (revision {revision})" if revision else "")


_CONTEXT: dict[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "citeAs": "cr:citeAs",
    "column": "cr:column",
    "conformsTo": "dct:conformsTo",
    "cr": "http://mlcommons.org/croissant/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "equivalentProperty": "cr:equivalentProperty",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "extract": "cr:extract",
    "field": "cr:field",
    "fileObject": "cr:fileObject",
    "fileProperty": "cr:fileProperty",
    "fileSet": "cr:fileSet",
    "format": "cr:format",
    "includes": "cr:includes",
    "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath",
    "key": "cr:key",
    "md5": "cr:md5",
    "parentField": "cr:parentField",
    "path": "cr:path",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "recordSet": "cr:recordSet",
    "references": "cr:references",
    "regex": "cr:regex",
    "repeated": "cr:repeated",
    "replace": "cr:replace",
    "samplingRate": "cr:samplingRate",
    "sc": "https://schema.org/",
    "separator": "cr:separator",
    "source": "cr:source",
    "subField": "cr:subField",
    "transform": "cr:transform",
}
