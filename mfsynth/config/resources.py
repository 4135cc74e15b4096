"""Where the prompt libraries and run configurations that come with mfsynth are."""

from __future__ import annotations

from pathlib import Path

from mfsynth.config.suggestions import nearest
from mfsynth.errors import MfsynthError
from mfsynth.storage.urls import where_sought

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
        MfsynthError: There is no shipped resource of that name; or it is a file that isn't there,
            with the name of one that is shipped.
    """
    if is_path(name_or_path):
        _require_no_shipped_name(kind, name_or_path, suffix)
        return name_or_path
    path = resource_dir(kind) / f"{name_or_path}{suffix}"
    if path.is_file():
        return str(path)
    names = resource_names(kind, suffix)
    hint = nearest(name_or_path, names)
    suggestion = f"did you mean {hint}?" if hint else f"give a path, or one of: {', '.join(names)}"
    raise MfsynthError(f"{name_or_path!r}: no such name in {resource_dir(kind)}; {suggestion}")


def _require_no_shipped_name(kind: str, path: str, suffix: str) -> None:
    """Tells who writes `local.yml` and means `local`."""
    name = path.rpartition(".")[0]
    if "/" in path or name not in resource_names(kind, suffix) or Path(path).exists():
        return
    raise MfsynthError(
        f"{path}: no such file{where_sought(path)}; did you mean {name}, which comes with mfsynth?"
    )
