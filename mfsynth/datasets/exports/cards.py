"""`README.md` of pairs in Parquet: what the Hugging Face hub and people read of a data set."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from mfsynth.datasets.exports.pairs import Pairs, labels_in
from mfsynth.shards.documents.card import as_text, front_matter
from mfsynth.shards.documents.models import model_name
from mfsynth.shards.layout import others_of
from mfsynth.shards.quantisation import FORMULAS
from mfsynth.shards.records import DIGITAL_SOURCE_TYPE
from mfsynth.shards.words import how_made, tags_of

CARD = "README.md"
# As models and sources say it.
_UNKNOWN = "unknown"
_TOLD = {
    "mask": "`mask` is a PNG of the number of the instance that a pixel shows, 0 for none",
    "sensor": "`sensor_depth` is a 16-bit PNG of depth as a sensor returned it, or would have: "
    "`sensor_unit_per_code` metres a code, 0 is invalid",
    "poses": "`poses` is JSON: a list of `id` (in the mask), `name`, and `object_to_camera` (4x4, "
    "row by row, metres) or null",
}

_LOAD = """\
## Load it

```python
import datasets
import numpy as np


def z_depth(row):
    codes = np.asarray(row["depth"]).astype(np.float64)  # 16 bits, 0 = invalid
    if row["depth_encoding"] == "linear":
        depth = codes * row["depth_unit_per_code"]
    else:
        depth = row["depth_near"] * np.exp((codes - 1) * row["depth_unit_per_code"])
    return np.where(codes > 0, depth, 0).astype(np.float32)


rows = datasets.load_dataset("path or name of this data set", split="train")
depth = z_depth(rows[0])
```
"""


def card(pairs: Pairs) -> str:
    """Text of `README.md`: YAML front matter as the hub reads it, then prose.

    Args:
        pairs: All of the data set.
    """
    runs = pairs.runs
    name = ", ".join(dict.fromkeys(run.run for run in runs))
    licences, unstated = _licences(pairs)
    has_source = any("source" in run.settings for run in runs)
    made = [how_made(run.settings) for run in runs]
    units = {pairs.unit(number) for number in range(len(pairs))}
    lines = [
        # Of a data set with a pair whose licence isn't known, it isn't.
        *front_matter(
            name,
            ", ".join([*licences, *([_UNKNOWN] if licences and unstated else [])]),
            {"index": "data/*.parquet"},
            len(pairs),
            tags=[*dict.fromkeys(tag for run in runs for tag in tags_of(run.settings))],
        ),
        f"# {as_text(name)}",
        "",
        f"{len(pairs)} {'RGB-D pairs' if has_source else 'synthetic RGB-D pairs'}, made with "
        f"mfsynth. {' '.join(dict.fromkeys(f'{how}.' for how, _ in made))}",
        "",
        "`depth` is a 16-bit PNG of codes, which look black as a picture: `preview` shows them in "
        "colours, near is red. Codes become z-depth, along the optical axis, by the row's "
        "`depth_encoding`, with its `depth_unit_per_code` and `depth_near`; `depth_unit` says "
        f"whether that is metres (here: {', '.join(sorted(units))}).",
        "",
        *(f"- {scale}: `{formula}`" for scale, formula in FORMULAS.items()),
        "",
        "`fx`, `fy`, `cx`, `cy` are pixels of the image, whose centres are integers, null where "
        "unknown; `intrinsics_source` says where they come from.",
        "",
        *_labels(pairs),
        _LOAD,
        "## Provenance",
        "",
        *_line("licence of the pairs", licences),
        *(
            [
                f"- licence of {unstated} of {len(pairs)} pairs: not known; neither their run nor "
                "its model or source states one"
            ]
            if unstated
            else []
        ),
        *_models(pairs),
        *_line("licence of the source's items", _distinct(pairs, "source_licence")),
        *_line("digital source type of the images", _distinct(pairs, "digital_source_type")),
        *_line(
            "digital source type of the depth of photographs",
            [DIGITAL_SOURCE_TYPE] if "i2d" in _distinct(pairs, "mode") else [],
        ),
        "- each JPEG and PNG that a model made says so in its XMP packet",
        "",
        "## Limits",
        "",
        " ".join(dict.fromkeys(limits for _, limits in made))
        + " Prompts say what was asked for, which is not always what is seen.",
    ]
    return "\n".join(lines) + "\n"


def _licences(pairs: Pairs) -> tuple[list[str], int]:
    """Of the pairs, and of how many of them none is known."""
    stated = [row["licence"] for row in pairs.rows(["licence"])]
    known = [licence for licence in stated if licence and licence != _UNKNOWN]
    return sorted({*known}), len(stated) - len(known)


def _labels(pairs: Pairs) -> list[str]:
    there = [_TOLD[name] for name in labels_in(pairs.schema.names) if name in _TOLD]
    others = others_of(pairs.schema.names)
    there += ["`file_…` has other files of the source, as they are"] if others else []
    return [f"{'; '.join(there)}. Null where a pair has none.", ""] if there else []


def _models(pairs: Pairs) -> Iterable[str]:
    lines: dict[str, None] = {}
    for run in pairs.runs:
        for kind, model in (("model", run.model), ("depth estimator", run.estimator)):
            if "id" in model:
                licence = as_text(model.get("licence") or "unknown")
                lines[f"- {kind}: {as_text(model_name(model))}, licence {licence}"] = None
    return lines


def _distinct(pairs: Pairs, column: str) -> list[str]:
    found = {row[column] for row in pairs.rows([column])}
    return sorted(value for value in found if value)


def _listed(values: Sequence[str]) -> str:
    return as_text(", ".join(values)) or "not stated"


def _line(what: str, values: Sequence[str]) -> list[str]:
    return [f"- {what}: {_listed(values)}"] if values else []
