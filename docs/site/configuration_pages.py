"""Pages of all settings, made of the pydantic models that read them."""

from __future__ import annotations

import inspect
import re
import types
import typing
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

import annotated_types
from pydantic import SecretStr
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from mfsynth.checks.registry import BUILT_IN
from mfsynth.config.base import Settings
from mfsynth.config.presets import DEFAULT_PRESET, SAMPLER_PRESETS
from mfsynth.config.schema import RunConfig, SamplerConfig
from mfsynth.evaluation.calibration.config import CalibrateConfig
from mfsynth.evaluation.config import EvaluateConfig
from mfsynth.formatting import table_row
from mfsynth.sources.registry import built_in
from mfsynth.sources.settings import SourceSettings
from mfsynth.training.config import TrainConfig
from mfsynth.training.distillation.config import DistillConfig
from mfsynth.training.estimator_config import EstimatorConfig

_PLAIN = {
    bool: "`true`, `false`",
    int: "integer",
    float: "number",
    str: "text",
    Path: "path",
    SecretStr: "text, kept secret",
}

# Settings that their models leave to others.
_ELSEWHERE: dict[tuple[type[Settings], str], str] = {
    (RunConfig, "source"): "[a source](sources.md)",
    (RunConfig, "checks"): "[checks](checks.md)",
    (CalibrateConfig, "checks"): "[checks](checks.md)",
}


@dataclass(frozen=True, slots=True)
class Page:
    """One page of settings.

    Attributes:
        name: Of its file, without `.md`.
        title: Its heading.
        about: What is configured, in Markdown.
        roots: What is described, each with the heading it gets, and all that is found in it.
    """

    name: str
    title: str
    about: str
    roots: Sequence[tuple[str, Any]]


PAGES = (
    Page(
        "runs",
        "Runs",
        "Of `mfsynth generate`, `annotate`, `retexture`, `doctor` and `plan`. Settings of "
        "`target`, `output` and `runtime` may change between sessions of a run; all others are "
        "what it is, and a run of other ones is refused.",
        [("A run", RunConfig)],
    ),
    Page(
        "checks",
        "Checks",
        "Under `checks:` of a run or a calibration, by name. What each of them sees: "
        "[checks](../checks.md).",
        [(f"`{name}`", check) for name, check in BUILT_IN.items()],
    ),
    Page(
        "sources",
        "Sources",
        "Under `source:` of a run, and in the list `data:` of a training or a calibration. How "
        "depth of files becomes metres: [data of your own](../../how-to/data.md).",
        [(f"`kind: {name}`", settings) for name, settings in built_in().items()],
    ),
    Page(
        "training",
        "Trainings",
        "Of `mfsynth train` and `mfsynth distill`: [training](../../how-to/training.md).",
        [
            ("A joint model", TrainConfig),
            ("A depth estimator", EstimatorConfig),
            ("A distillation", DistillConfig),
        ],
    ),
    Page(
        "measuring",
        "Calibrations and evaluations",
        "Of `mfsynth calibrate` ([calibration](../../how-to/calibration.md)) and `mfsynth "
        "evaluate` ([measuring depth](../../how-to/evaluation.md)).",
        [("A calibration", CalibrateConfig), ("An evaluation", EvaluateConfig)],
    ),
)


def configuration_pages() -> dict[str, str]:
    """The pages, by the names of their files."""
    homes: dict[type[Settings], str] = {}
    titles: dict[type[Settings], str] = {}
    for page in PAGES:
        for title, root in page.roots:
            for model, name in _models(root).items():
                homes.setdefault(model, page.name)
                titles.setdefault(model, f"`{name}`" if name else title)
    made = {}
    for page in PAGES:
        parts = [f"# {page.title}", page.about]
        for model, home in homes.items():
            if home == page.name:
                parts += [f"## {titles[model]} {{#{_anchor(model)}}}", _summary(model)]
                parts.append(_table(model, page.name, homes, titles))
        made[f"{page.name}.md"] = "\n\n".join(parts) + "\n"
    return made


def described(model: type[Settings]) -> dict[str, str]:
    """What the docstrings of a model and its bases say of its settings, by name."""
    found: dict[str, str] = {}
    for base in reversed(model.__mro__):
        text = inspect.cleandoc(base.__doc__ or "")
        _, _, attributes = text.partition("Attributes:\n")
        for name, words in re.findall(r"^    (\w+): (.+(?:\n {6,}.+)*)", attributes, re.MULTILINE):
            found[name] = " ".join(words.split())
    return found


def all_models() -> Iterator[type[Settings]]:
    """Every model that a configuration may have in it."""
    for page in PAGES:
        for _, root in page.roots:
            yield from _models(root)


def _own_models(annotation: Any) -> list[type[Settings]]:
    """The models that an annotation names, without those inside of them."""
    if isinstance(annotation, type) and issubclass(annotation, Settings):
        return [annotation]
    return [model for part in typing.get_args(annotation) for model in _own_models(part)]


def _models(root: Any) -> dict[type[Settings], str]:
    """The models of an annotation, and all inside of them, outermost first, with their names.

    A model's name is the key that it stands under and, where there are several, its kind; "" for
    the only model of the root.
    """
    found: dict[type[Settings], str] = {}
    waiting = [("", root)]
    while waiting:
        key, annotation = waiting.pop(0)
        models = _own_models(annotation)
        for model in models:
            if model in found or model is SourceSettings:
                continue
            found[model] = " ".join(filter(None, (key, _kind(model) if len(models) > 1 else "")))
            waiting += [(name, field.annotation) for name, field in model.model_fields.items()]
    return found


def _kind(model: type[Settings]) -> str:
    """What tells a model from its alternatives, such as `kind: lidar`."""
    for name in ("layout", "kind"):
        field = model.model_fields.get(name)
        values = typing.get_args(field.annotation) if field is not None else ()
        if values and all(isinstance(value, str) for value in values):
            return f"{name}: {', '.join(values)}"
    return model.__name__


def _anchor(model: type[Settings]) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "-", model.__name__).lower()


def _summary(model: type[Settings]) -> str:
    text = inspect.cleandoc(model.__doc__ or "")
    return text.partition("\n\nAttributes:")[0].partition("\n\nExample")[0]


def _table(
    model: type[Settings],
    page: str,
    homes: dict[type[Settings], str],
    titles: dict[type[Settings], str],
) -> str:
    words = described(model)
    rows = ["| key | values | default | meaning |", "|---|---|---|---|"]
    for name, field in model.model_fields.items():
        if name in model.internal_fields:
            link = "sources.md" if page != "sources" else "#"
            rows.append(f"| … | | | those of its [source]({link}), beside these |")
            continue
        values = _ELSEWHERE.get((model, name)) or _values(
            field.annotation, field.metadata, page, homes, titles
        )
        meaning = re.sub(r"\bNone\b", "unset", words.get(name, ""))
        cells = (f"`{name}`", values, _default(model, name, field), meaning)
        rows.append(table_row(cells))
    return "\n".join(rows)


def _default(model: type[Settings], name: str, field: FieldInfo) -> str:
    preset = SAMPLER_PRESETS[DEFAULT_PRESET]
    if model is SamplerConfig and name in preset:
        return f"the preset's; of `{DEFAULT_PRESET}` {_shown(preset[name])}"
    if field.default_factory is not None:
        default: Any = field.get_default(call_default_factory=True, validated_data={})
    else:
        default = field.default
    if default is PydanticUndefined:
        return "required"
    if isinstance(default, Settings):
        return "its defaults"
    if default in ({}, ()):
        return "none"
    return "unset" if default is None else _shown(default)


def _shown(value: Any) -> str:
    if isinstance(value, Enum):
        value = value.value
    if isinstance(value, bool):
        value = str(value).lower()
    if isinstance(value, (tuple, list)):
        value = [*value]
    return f"`{value}`"


def _values(
    annotation: Any,
    metadata: Sequence[Any],
    page: str,
    homes: dict[type[Settings], str],
    titles: dict[type[Settings], str],
) -> str:
    """What a setting takes, in words."""

    def say(part: Any) -> str:
        origin, inside = typing.get_origin(part), typing.get_args(part)
        if origin is typing.Annotated:
            return say(inside[0]) + _bounds(inside[1:])
        if origin is typing.Literal:
            return ", ".join(_shown(value) for value in inside)
        if origin in (typing.Union, types.UnionType):
            return " or ".join(dict.fromkeys(say(one) for one in inside if one is not type(None)))
        if origin is tuple:
            if len(inside) == 2 and inside[1] is Ellipsis:
                return f"list of: {say(inside[0])}"
            return f"[{', '.join(map(say, inside))}]"
        if origin is dict or part is dict:
            return "keys and values"
        if not isinstance(part, type):
            return "any"
        if issubclass(part, Settings):
            home = homes.get(part)
            if home is None:
                return "settings"
            file = "" if home == page else f"{home}.md"
            return f"[{titles[part]}]({file}#{_anchor(part)})"
        if issubclass(part, Enum):
            return ", ".join(_shown(member) for member in part)
        return _PLAIN.get(part, part.__name__)

    return say(annotation) + _bounds(metadata)


def _bounds(metadata: Sequence[Any]) -> str:
    found = []
    for rule in metadata:
        match rule:
            case FieldInfo():
                return _bounds(rule.metadata)
            case annotated_types.Ge(ge=bound):
                found.append(f"≥ {bound}")
            case annotated_types.Gt(gt=bound):
                found.append(f"> {bound}")
            case annotated_types.Le(le=bound):
                found.append(f"≤ {bound}")
            case annotated_types.Lt(lt=bound):
                found.append(f"< {bound}")
            case _:
                if pattern := getattr(rule, "pattern", None):
                    found.append(f"`{pattern}`")
    return " " + ", ".join(found) if found else ""
