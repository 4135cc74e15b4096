"""`README.md`: the data card, as the Hugging Face hub and people read it."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import yaml

from mfsynth.formatting import one_line
from mfsynth.geometry import DepthKind
from mfsynth.shards import layout
from mfsynth.shards.documents.models import licence_id, model_name
from mfsynth.shards.records import DIGITAL_SOURCE_TYPE
from mfsynth.shards.run_manifest import RunManifest, ScoreInfo
from mfsynth.shards.words import (
    NO_GUARANTEE,
    camera_in_words,
    how_made,
    licence_of_models,
    limits_by_hand,
    loosened_limits,
    tags_of,
)

_METRIC = {kind for kind in DepthKind if kind.is_metric}

# What Markdown and HTML give a meaning in the middle of a line.
_MARKUP = re.compile(r"[\\`*<>\[\]|&~]")
_SHOWN = 500

_HOW_TO_LOAD = """\
```python
from mfsynth.datasets import RGBDDataset

dataset = RGBDDataset("path or URL of this folder")
sample = dataset[0]      # sample.rgb uint8 (H, W, 3), sample.depth float32 (H, W), 0 = invalid
```

Without mfsynth, as WebDataset; `KEY.json` says how the 16-bit codes become depth:

```python
import json
from pathlib import Path

import cv2
import numpy as np
import webdataset

folder = Path("path of this folder")
# What no receipt names is not in the data set.
receipts = [json.loads(path.read_bytes()) for path in sorted(folder.glob("_commits/*.json"))]
tars = [str(folder / receipt["objects"]["tar"]["key"]) for receipt in receipts]


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


# A tar may have no pair.
dataset = webdataset.WebDataset(tars, shardshuffle=False, empty_check=False).map(decode)
```

With Hugging Face's `datasets`: a row for every pair, one for every reject, or what the tars
hold (also those that `mfsynth gc` would remove; `depth.png` becomes 16-bit codes):

```python
import datasets

pairs = datasets.load_dataset("path of this folder", "pairs", split="train")
rejects = datasets.load_dataset("path of this folder", "rejects", split="train")
tars = "path of this folder/shards/*.tar"
members = datasets.load_dataset("webdataset", data_files=tars, split="train")
```

Don't use webdataset's own `decode("pil")` or `decode("rgb8")` on depth: they cut it to 8 bits.
`index/` has a Parquet row for every pair (prompt, seed, intrinsics, scores, byte offsets into
the tar); `rejects/` has one for every candidate that was turned down, with its scores."""


_HOW_TO_LOAD_A_VIEW = """\
```python
from mfsynth.datasets import RGBDDataset

dataset = RGBDDataset("path or URL of the run", view="{}")
```

`pairs.parquet` beside this card has a row for every pair, which Hugging Face's `datasets`
reads: what `index/` has of it, `tar`, the file of the run that its bytes lie in, at these offsets,
and `returned`: whether the run itself rejected it. `README.md` of the run says how to decode it."""


_OF_EACH = "- licence and digital source type of each pair: in its row of the index"

# Configurations for the Hugging Face's `datasets`, the default one first, and their tables.
_TABLES = {"pairs": "index", "rejects": "rejects"}


def first_card(run: RunManifest) -> str:
    """Text of `README.md` while a run goes on: whatever is committed can be read with it.

    Args:
        run: What the run is.
    """
    licence, has_source = licence_of_models(run), "source" in run.settings
    made, _ = how_made(run.settings)
    lines = [
        *front_matter(
            run.run,
            licence,
            {kind: _pattern(kind) for kind in _TABLES.values()},
            tags=(*tags_of(run.settings), "webdataset"),
        ),
        f"# {as_text(run.run)}",
        "",
        ("RGB-D pairs. " if has_source else "Synthetic RGB-D pairs. ")
        + made
        + (f": {as_text(model_name(run.model))}" if run.model else "")
        + ". Made with mfsynth, and not finished when this was written: `mfsynth status` says "
        "what there is, `mfsynth finalize` writes the whole card in place of this one. Before it, "
        "files may lie here that no receipt in `_commits/` names, left by workers that were "
        "killed: they are no part of the data.",
        "",
        "## Load it",
        "",
        _HOW_TO_LOAD,
        "",
        "## Provenance",
        "",
        f"- licence: {as_text(licence or 'not stated by the model')} (that of the model)",
        *_estimator_line(run.estimator),
        f"- settings fingerprint: {_code(run.fingerprint)}; all settings are in `run.json`",
        *([_OF_EACH] if has_source else [f"- digital source type: <{DIGITAL_SOURCE_TYPE}>"]),
    ]
    return "\n".join(lines) + "\n"


def data_card(
    manifest: Mapping[str, Any], scores: Mapping[str, ScoreInfo], pure: Collection[str] = ()
) -> str:
    """Text of `README.md`: YAML front matter as the Hugging Face hub reads it, then prose.

    Args:
        manifest: As `build_manifest` makes it.
        scores: What the run says of its scores, by name.
        pure: Kinds of objects (`index`, `rejects`) in whose folders lies nothing but what is
            committed: a pattern names them all. Others' are named one by one.
    """
    counts = manifest["counts"]
    models = as_text(", ".join(model_name(model) for model in manifest["models"]))
    reasons = [
        f"| {as_text(reason)} | {count} |" for reason, count in counts["rejected_by_reason"].items()
    ]
    what = "failed check" if manifest.get("view") is None else "failed check, or rule of the view"
    camera, loosened = camera_in_words(manifest["settings"]), loosened_limits(scores)
    by_hand = limits_by_hand(scores, manifest["settings"])
    sizes = ", ".join(f"{width}x{height}" for width, height in manifest["sizes"]) or "none"
    paths: dict[str, str | Sequence[str]] = {
        kind: _pattern(kind)
        if kind in pure
        else [shard[kind]["key"] for shard in manifest["shards"]]
        for kind in _TABLES.values()
    }
    name, view = manifest["run"], manifest.get("view")
    has_source, (made, good_for) = "source" in manifest["settings"], how_made(manifest["settings"])
    kind = "RGB-D pairs" if has_source else "synthetic RGB-D pairs"
    if view is not None:
        name, paths = f"{name}: {view['name']}", {"index": layout.VIEW_ROWS}
    lines = [
        *front_matter(
            name,
            manifest["licence"],
            paths,
            counts["pairs"],
            tags=(*tags_of(manifest["settings"]), "webdataset"),
        ),
        f"# {as_text(name)}",
        "",
        f"{counts['pairs']} {kind} ({sizes} pixels) in {counts['shards']} shards, "
        f"kept of {counts['candidates']} candidates. "
        f"{made}: {models}. "
        "Made with mfsynth.",
        *(["", f"A view of the run: {as_text(view['rules'])}."] if view else []),
        "",
        "## Load it",
        "",
        _HOW_TO_LOAD if view is None else _HOW_TO_LOAD_A_VIEW.format(view["name"]),
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
        f"- depth kind: {as_text(', '.join(manifest['depth_kinds'])) or 'none'}"
        + ("" if _METRIC & set(manifest["depth_kinds"]) else " (relative: not metres)"),
        "- intrinsics: pixels, null where unknown; `intrinsics_source` says whether they were "
        "assumed, estimated, given or rendered",
        *([f"- camera: assumed, {as_text(camera)}"] if camera else []),
        "",
        "## Checks",
        "",
        f"Stored with every candidate: {as_text(', '.join(manifest['scores'])) or 'none'}. "
        f"Rejected: {counts['rejected']}; could not be made: {counts['quarantined']}.",
        "",
        *([*map(_score_line, scores, scores.values()), ""] if scores else []),
        *(["Limits looser than the defaults of their checks:", ""] if loosened else []),
        *([*(f"- {as_text(each)}" for each in loosened), ""] if loosened else []),
        *([f"Limits set by hand; {NO_GUARANTEE}:", ""] if by_hand else []),
        *([*(f"- {as_text(each)}" for each in by_hand), ""] if by_hand else []),
        *([f"| {what} | candidates |", "|---|---|", *reasons, ""] if reasons else []),
        "## Provenance",
        "",
        f"- models: {models}",
        f"- licence: {as_text(manifest['licence'] or 'not stated by the model')} "
        f"(that of the {'pairs' if has_source else 'model'})",
        *_licence_lines(manifest),
        *_estimator_line(manifest.get("estimator") or {}),
        f"- settings fingerprint: {_code(manifest['fingerprint'])}; all settings are in `run.json`",
        *([_OF_EACH] if has_source else []),
        f"- digital source type: {_terms(manifest['digital_source_type'])}",
        *(
            [f"- digital source type of the depth: <{DIGITAL_SOURCE_TYPE}>"]
            if "i2d" in manifest["modes"]
            else []
        ),
        "- every pair has its prompt and seed; `manifest.json` has the SHA-256 of every file",
        "",
        "## Limits",
        "",
        f"{good_for} Prompts say what was asked for, which is not always what is seen.",
    ]
    return "\n".join(lines) + "\n"


def _terms(types: str) -> str:
    return ", ".join(f"<{term}>" for term in types.split(", ") if term) or "not stated"


def _licence_lines(manifest: Mapping[str, Any]) -> list[str]:
    """Of what went into pairs of a source, whose own licence is another."""
    if "source" not in manifest["settings"]:
        return []
    lines = [
        f"- licence of {as_text(model_name(model))}: {as_text(model['licence'])}"
        for model in manifest["models"]
        if model.get("licence")
    ]
    if source := manifest.get("source_licences"):
        lines.append(f"- licence of the source's items: {as_text(', '.join(source))}")
    return lines


def _estimator_line(estimator: Mapping[str, str]) -> list[str]:
    """Who looked at the pairs; none if nobody did."""
    if "id" not in estimator:
        return []
    licence = as_text(estimator.get("licence") or "unknown")
    return [f"- depth estimator: {as_text(model_name(estimator))}, licence {licence}"]


def _pattern(kind: str) -> str:
    return f"{layout.FOLDERS[kind]}/*.parquet"


def as_text(value: object) -> str:
    """What a card didn't write itself, as the text that it is: in one line, without markup."""
    return _MARKUP.sub(r"\\\g<0>", one_line(str(value), _SHOWN))


def _code(value: object) -> str:
    return f"`{one_line(str(value), _SHOWN).replace('`', chr(39))}`"


def front_matter(
    name: str,
    licence: str | None,
    paths: Mapping[str, str | Sequence[str]],
    pairs: int | None = None,
    *,
    tags: Sequence[str],
) -> list[str]:
    """What the Hugging Face hub reads of a card, as its first lines.

    Args:
        name: Of the data set, as people read it.
        licence: By its short name; None or "" where nobody says.
        paths: Files or a pattern of each table (`index`, `rejects`), which become configurations.
        pairs: How many it has; None where that isn't known yet.
        tags: Beside those that all have.
    """
    licence = licence and one_line(str(licence), _SHOWN)
    known = licence_id(licence)
    matter: dict[str, Any] = {"pretty_name": one_line(name, _SHOWN)}
    if known:
        matter["license"] = known.lower()
    elif licence:
        matter |= {"license": "other", "license_name": licence}
    else:
        matter["license"] = "unknown"
    matter |= {
        "task_categories": ["depth-estimation"],
        "tags": ["rgb-d", "depth", *tags],
    }
    if pairs is not None:
        matter["size_categories"] = [size_category(pairs)]
    matter["configs"] = [
        {
            "config_name": config,
            "data_files": [{"split": "train", "path": paths[kind]}],
            **({"default": True} if number == 0 else {}),
        }
        for number, (config, kind) in enumerate(_TABLES.items())
        if kind in paths
    ]
    text = yaml.safe_dump(matter, sort_keys=False, allow_unicode=True).rstrip()
    return ["---", text, "---", ""]


def _score_line(name: str, score: ScoreInfo) -> str:
    about = [as_text(score.note)] if score.note else []
    if score.limit is not None:
        about.append(as_text(score.bound(score.limit)))
    line = f"- {_code(name)} ({as_text(score.label)})"
    return f"{line}: {'; '.join(about)}" if about else line


def size_category(pairs: int) -> str:
    """As the hub names them: `n<1K`, `1K<n<10K`, … `100B<n<1T`, `n>1T`."""
    bounds = [f"{number}{unit}" for unit in "KMB" for number in (1, 10, 100)] + ["1T"]
    above = sum(pairs >= 10**power for power in range(3, 3 + len(bounds)))
    if above == 0:
        return f"n<{bounds[0]}"
    if above == len(bounds):
        return f"n>{bounds[-1]}"
    return f"{bounds[above - 1]}<n<{bounds[above]}"
