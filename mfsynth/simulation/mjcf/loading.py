"""Reading a model: what it has, and what tells it from another."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np

from mfsynth.config.suggestions import nearest
from mfsynth.errors import MfsynthError
from mfsynth.simulation.gl import load_mujoco

# Of `mujoco.MjModel`, what images and motion come of, in any version of MuJoCo.
_DECISIVE = (
    *("names", "qpos0", "body_parentid", "body_pos", "body_quat", "body_mass", "body_inertia"),
    *("jnt_type", "jnt_pos", "jnt_axis", "jnt_range", "jnt_limited", "jnt_stiffness"),
    *("dof_damping", "dof_armature", "dof_frictionloss"),
    *("geom_type", "geom_size", "geom_pos", "geom_quat", "geom_rgba", "geom_group", "geom_matid"),
    *("geom_friction", "geom_contype", "geom_conaffinity"),
    *("mesh_vert", "mesh_face", "mesh_texcoord", "hfield_data", "tex_data"),
    *("mat_rgba", "mat_texrepeat", "mat_specular", "mat_shininess", "mat_reflectance"),
    *("light_pos", "light_dir", "light_diffuse", "light_ambient", "light_specular"),
    *("cam_pos", "cam_quat", "cam_fovy", "cam_sensorsize", "cam_intrinsic"),
    *("key_qpos", "key_ctrl", "actuator_gainprm", "actuator_biasprm", "actuator_trnid"),
)
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
    """

    model: Any
    path: str
    instances: tuple[Named, ...]
    parts: tuple[Named, ...]

    @classmethod
    def load(cls, path: str) -> OwnModel:
        """Read a model with all files that it names, wherever they are.

        Raises:
            MfsynthError: There is none, or MuJoCo refuses it; or MuJoCo isn't installed.
        """
        if not Path(path).is_file():
            raise MfsynthError(
                f"{path}: no such file; give the path of a MuJoCo model (MJCF, URDF)"
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
        return cls(model, path, tuple(instances), tuple(parts))

    @property
    def digest(self) -> bytes:
        """Of all that decides its images, whatever its files are called."""
        digest = hashlib.sha256()
        for name in _DECISIVE:
            value = getattr(self.model, name)
            data = value if isinstance(value, bytes) else np.ascontiguousarray(value).tobytes()
            digest.update(f"{name} {len(data)}\n".encode() + data)
        options = self.model.opt
        digest.update(f"{options.timestep} {options.integrator} {[*options.gravity]}".encode())
        return digest.digest()

    def camera(self, name: str) -> int:
        """Number of a camera.

        Raises:
            MfsynthError: There is none of this name.
        """
        names = [self.model.camera(i).name for i in range(self.model.ncam)]
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
