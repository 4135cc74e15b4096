"""Where the prompt libraries and run configurations that come with mfsynth are."""

from __future__ import annotations

from pathlib import Path

from mfsynth.config.suggestions import nearest
from mfsynth.errors import MfsynthError

_PACKAGE = Path(__file__).resolve().parent.parent


def resource_dir(kind: str) -> Path:
    """The folder of the shipped resources of one kind.

    Args:
        kind: `"prompts"`, `"configs"`, or a folder in one of them.

    Returns:
        `mfsynth/_<kind>` in an installed wheel, the top-level `<kind>/` in a checkout.
    """
    # The packaged folder goes first: next to an installed package, a folder named "prompts"
    # belongs to somebody else.
    packaged = _PACKAGE / f"_{kind}"
    return packaged if packaged.is_dir() else _PACKAGE.parent / kind


def resource_names(kind: str, suffix: str = ".yaml") -> tuple[str, ...]:
    """The names of the shipped resources of one kind, sorted."""
    return tuple(sorted(path.stem for path in resource_dir(kind).glob(f"*{suffix}")))


def is_path(name_or_path: str) -> bool:
    """Whether the argument is a path or URL, not the name of a shipped resource."""
    return "/" in name_or_path or name_or_path.endswith((".yaml", ".yml", ".json"))


def resolve_resource(kind: str, name_or_path: str, suffix: str = ".yaml") -> str:
    """The path or URL of a resource given by its name, its path or its URL.

    Args:
        kind: `"prompts"`, `"configs"`, or a folder in one of them.
        name_or_path: `"tabletop"`, `"my/own.yaml"` or `"s3://bucket/own.yaml"`.
        suffix: Of the files of this kind.

    Raises:
        MfsynthError: There is no shipped resource of that name.
    """
    if is_path(name_or_path):
        return name_or_path
    path = resource_dir(kind) / f"{name_or_path}{suffix}"
    if path.is_file():
        return str(path)
    names = resource_names(kind, suffix)
    hint = nearest(name_or_path, names)
    suggestion = f"did you mean {hint}?" if hint else f"give a path, or one of: {', '.join(names)}"
    raise MfsynthError(f"{name_or_path!r}: no such name in {resource_dir(kind)}; {suggestion}")
