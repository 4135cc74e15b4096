"""Reading a model: what it has, and what tells it from another."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np

from mfsynth.config.suggestions import nearest
from mfsynth.errors import MfsynthError
from mfsynth.simulation.gl import load_mujoco
from mfsynth.storage.credentials import without_credentials
from mfsynth.storage.urls import where_sought

# Of `mujoco.MjModel`: where its files lie, and sizes and sums over that.
_OF_PLACES = ("paths", "npaths", "nbuffer", "narena", "signature")
_SHOWN = 12


@dataclass(frozen=True, slots=True)
class Named:
    """A body, and the number that it has in a mask.

    Attributes:
        number: From 1.
        name: That the model gives it, or `body` and its number in the model.
        body: Its number in the model.
        instance: Number of the instance that it is of.
    """

    number: int
    name: str
    body: int
    instance: int


@dataclass(frozen=True, slots=True, eq=False)
class OwnModel:
    """A model that is compiled.

    Attributes:
        model: mujoco.MjModel.
        path: Where it lies.
        instances: What stands or moves by itself: the bodies that hang on the world, each with all
            that hangs on it. What is fixed to the world without a body is none.
        parts: All bodies.
        digest: Of the model as it was read, wherever its files lie.
    """

    model: Any
    path: str
    instances: tuple[Named, ...]
    parts: tuple[Named, ...]
    digest: bytes

    @classmethod
    def load(cls, path: str) -> OwnModel:
        """Read a model with all files that it names, wherever they are.

        Raises:
            MfsynthError: There is none, or MuJoCo refuses it; or MuJoCo isn't installed.
        """
        if not Path(path).is_file():
            raise MfsynthError(
                f"{without_credentials(path)}: no such file{where_sought(path)}; give the path "
                "of a MuJoCo model (MJCF, URDF) on this machine"
            )
        mujoco = load_mujoco()
        try:
            model = mujoco.MjModel.from_xml_path(path)
        except (ValueError, mujoco.FatalError) as error:
            said = " ".join(str(error).split())
            raise MfsynthError(f"{path}: MuJoCo can't read it ({said}); mend it there") from error
        parts = []
        roots: dict[int, int] = {}
        for body in range(1, model.nbody):
            root = int(model.body_rootid[body])
            instance = roots.setdefault(root, len(roots) + 1)
            parts.append(Named(body, model.body(body).name or f"body{body}", body, instance))
        instances = [Named(n, parts[root - 1].name, root, n) for root, n in roots.items()]
        return cls(model, path, tuple(instances), tuple(parts), _digest(model))

    @property
    def cameras(self) -> list[str]:
        """Names of all cameras, or `camera` and their numbers in the model."""
        return [self.model.camera(i).name or f"camera{i}" for i in range(self.model.ncam)]

    def camera(self, name: str) -> int:
        """Number of a camera.

        Raises:
            MfsynthError: There is none of this name.
        """
        names = self.cameras
        return names.index(name) if name in names else self._none("camera", name, names)

    def body(self, name: str) -> int:
        """Number of a body.

        Raises:
            MfsynthError: There is none of this name.
        """
        names = [part.name for part in self.parts]
        return names.index(name) + 1 if name in names else self._none("body", name, names)

    def keyframe(self, name: str) -> int:
        """Number of a keyframe.

        Raises:
            MfsynthError: There is none of this name.
        """
        names = [self.model.key(i).name for i in range(self.model.nkey)]
        return names.index(name) if name in names else self._none("keyframe", name, names)

    def matching(self, kind: str, pattern: str, names: dict[str, int]) -> list[int]:
        """Numbers of those whose names fit a pattern; `*` may fit none.

        Raises:
            MfsynthError: None fits.
        """
        found = [number for name, number in names.items() if fnmatchcase(name, pattern)]
        return found if found or pattern == "*" else [self._none(kind, pattern, [*names])]

    def _none(self, kind: str, name: str, names: list[str]) -> int:
        hint = nearest(name, names)
        named = ", ".join([n for n in names if n][:_SHOWN]) or "none with a name"
        known = f"did you mean {hint}?" if hint else f"it has {named}"
        raise MfsynthError(f"{self.path}: no {kind} {name!r:.80}; {known}")


def _digest(model: Any) -> bytes:
    """Of all that a model holds.

    `mujoco.mj_saveModel` would do, but it writes the absolute paths of meshes and textures, too.
    """
    digest = hashlib.sha256()
    for name, data in _values(model):
        if name not in _OF_PLACES and not name.endswith("_pathadr"):
            digest.update(f"{name} {len(data)}\n".encode() + data)
    return digest.digest()


def _values(struct: Any, prefix: str = "") -> Iterator[tuple[str, bytes]]:
    """All members of one of MuJoCo's structures and of those in it, by their names."""
    for name in sorted(dir(struct)):
        value = getattr(struct, name)
        if name.startswith("_") or callable(value):
            continue
        if isinstance(value, bytes):
            yield prefix + name, value
        elif isinstance(value, np.ndarray):
            yield prefix + name, f"{value.shape}".encode() + np.ascontiguousarray(value).tobytes()
        elif isinstance(value, int | float):
            yield prefix + name, repr(value).encode()
        else:
            yield from _values(value, f"{prefix}{name}.")
