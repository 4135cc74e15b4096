"""Views of a user's own MuJoCo model, rendered when they are asked for, with exact labels.

The simulator is imported where it is used, so that reading settings doesn't wait for it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from threading import get_ident
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from mfsynth.config.base import Count, Index, Items, NonEmpty, Unset
from mfsynth.config.resources import resource_dir
from mfsynth.errors import MfsynthError
from mfsynth.geometry import IntrinsicsSource
from mfsynth.shards.labels import (
    CAMERA_TO_WORLD,
    EPISODE,
    MASK,
    POSES,
    Labels,
    Moment,
    ObjectPose,
    encode_mask,
    encode_poses,
)
from mfsynth.simulation.mjcf.settings import CameraRule, Randomise, Trajectory
from mfsynth.sources.base import DepthFacts, Item, Origin
from mfsynth.sources.settings import SourceSettings
from mfsynth.sources.simulated import RENDERED_TYPE

if TYPE_CHECKING:
    from mfsynth.simulation.mjcf.cameras import Camera
    from mfsynth.simulation.mjcf.loading import Named, OwnModel
    from mfsynth.simulation.mjcf.rendering import ModelRenderer, ModelView
    from mfsynth.simulation.mjcf.states import Episode

Side = Annotated[int, Field(ge=16, le=4096)]
PARTS, PART_NAMES, NORMALS = "parts.png", "parts.json", "normals.png"
"""Suffixes of labels that are no others' business: a mask of bodies, its poses, normals."""
# What a scene's random numbers are for: its state and lights, or the camera of a number.
_STATE, _CAMERAS = 0, 1


class MujocoSettings(SourceSettings):
    """A MuJoCo model: scenes of it, each from all cameras, each of as many frames as it has.

    Attributes:
        model: Path of an MJCF or URDF file, or the name of one in configs/scenes. MuJoCo reads it,
            and every file that it names.
        scenes: How many states are drawn.
        height: Rows of the images.
        width: Columns.
        seed: Of all that is drawn.
        cameras: Names of the model's cameras, or what `CameraRule` says; all of the model's, or
            where it has none one that sees all of it, unless given.
        keyframe: That states start from; the model's own pose unless given.
        randomise: What is drawn anew for each scene.
        trajectory: Frames of each scene, which are an episode; one state each unless given.
        parts: Whether views have a mask of all bodies, too, and their poses.
        normals: Whether they have normals.
        text: A prompt for all scenes; the names of the bodies that move freely unless given.
    """

    places: ClassVar[frozenset[str]] = frozenset({"model"})

    kind: Literal["mujoco"]
    model: NonEmpty
    scenes: Count
    height: Side = 256
    width: Side = 256
    seed: Index = 0
    cameras: Unset[Annotated[Items[CameraRule], Field(min_length=1)]] = None
    keyframe: Unset[NonEmpty] = None
    randomise: Randomise = Randomise()
    trajectory: Unset[Trajectory] = None
    parts: Unset[Literal[True]] = None
    normals: Unset[Literal[True]] = None
    text: Unset[NonEmpty] = None

    def open(self) -> MujocoSource:
        """See `MujocoSource`."""
        return MujocoSource(self)


class MujocoSource:
    """Implements `NamedSource`: scene by scene, in each camera by camera, in each frame by frame.

    Item i is a function of the settings, the model and i, on one graphics driver.

    Args:
        settings: As in a configuration.

    Raises:
        MfsynthError: There is no such model, camera, body or keyframe, or no MuJoCo.
    """

    def __init__(self, settings: MujocoSettings) -> None:
        from mfsynth.simulation.mjcf.cameras import default_cameras
        from mfsynth.simulation.mjcf.loading import OwnModel

        self._settings = settings
        self._own: OwnModel = OwnModel.load(_path(settings.model))
        self._cameras = settings.cameras or default_cameras(self._own)
        trajectory = settings.trajectory
        self._frames = 1 if trajectory is None else trajectory.frames
        self._renderer: tuple[int, ModelRenderer] | None = None
        self._scene: tuple[int, Episode, list[Camera]] | None = None
        for rule in self._cameras:
            if rule.name is not None:
                self._own.camera(rule.name)
            elif isinstance(rule.around, str):
                self._own.body(rule.around)
        if settings.keyframe is not None:
            self._own.keyframe(settings.keyframe)

    def __reduce__(self) -> tuple[type[MujocoSource], tuple[MujocoSettings]]:
        # What belongs to a thread and a graphics driver stays where it is.
        return MujocoSource, (self._settings,)

    def __len__(self) -> int:
        return self._settings.scenes * len(self._cameras) * self._frames

    def __getitem__(self, index: int) -> Item:
        from mfsynth.simulation.gl import context_is_inherited

        if not 0 <= index < len(self):
            raise IndexError(f"view {index} of {len(self)}")
        if context_is_inherited():
            raise MfsynthError(
                "scenes can't be rendered in a process forked from one that has rendered; start "
                "data loading workers with start_method spawn"
            )
        scene, camera, frame = self._place(index)
        episode, cameras = self._begun(scene)
        data = episode.at(frame)
        pose = cameras[camera].pose(data)
        view = self._drawing().render(
            *(data, pose, cameras[camera].intrinsics, episode.lights),
            normals=self._settings.normals is not None,
        )
        return Item(
            rgb=view.rgb,
            depth=view.depth,
            text=self._text,
            intrinsics=view.intrinsics,
            name=f"{self._settings.model}: {self.key(index)}",
            camera_from="the simulator",
            facts=DepthFacts("metres"),
            origin=Origin(
                self.key(index),
                digital_source_type=RENDERED_TYPE,
                camera=IntrinsicsSource.RENDERED,
            ),
            labels=self._labels(view, index),
        )

    @property
    def labels(self) -> tuple[str, ...]:
        """See `LabelledSource`."""
        episodes = () if self._settings.trajectory is None else (EPISODE,)
        return (CAMERA_TO_WORLD, MASK, POSES, *episodes, *self._others)

    def moment(self, index: int) -> Moment | None:
        """See `LabelledSource`."""
        trajectory = self._settings.trajectory
        if trajectory is None:
            return None
        scene, camera, frame = self._place(index)
        return Moment(f"scene {scene} camera {camera}", frame, frame / trajectory.fps)

    def texts(self) -> Iterator[str]:
        """See `FiniteSource`."""
        return (self._text for _ in range(len(self)))

    def key(self, index: int) -> str:
        """Scene, camera and frame."""
        scene, camera, frame = self._place(index)
        which = f"scene {scene} camera {camera}"
        return which if self._settings.trajectory is None else f"{which} frame {frame}"

    def contents(self) -> Iterator[bytes]:
        """What decides the model's looks and motion; the settings say the rest."""
        yield self._own.digest

    @cached_property
    def _text(self) -> str:
        if self._settings.text is not None:
            return self._settings.text
        model = self._own.model
        free = [one.name for one in self._own.instances if model.body_dofnum[one.body] == 6]
        names = free or [one.name for one in self._own.instances]
        return ", ".join(" ".join(name.replace("_", " ").split()) for name in names)

    @property
    def _others(self) -> tuple[str, ...]:
        parts = (PARTS, PART_NAMES) if self._settings.parts is not None else ()
        return parts if self._settings.normals is None else (*parts, NORMALS)

    def _labels(self, view: ModelView, index: int) -> Labels:
        def poses(of: Sequence[Named]) -> tuple[ObjectPose, ...]:
            return tuple(
                ObjectPose(one.number, one.name, tuple(view.poses[one.body].ravel().tolist()))
                for one in of
            )

        objects = poses(self._own.instances)
        files = {MASK: encode_mask(view.mask), POSES: encode_poses(objects)}
        if self._settings.parts is not None:
            files |= {
                PARTS: encode_mask(view.parts),
                PART_NAMES: encode_poses(poses(self._own.parts)),
            }
        if view.normals is not None:
            files[NORMALS] = _as_png(view.normals)
        pose = tuple(view.camera_to_world.ravel().tolist())
        return Labels(files, view.mask, objects, pose, self.moment(index))

    def scene(self, index: int) -> str:
        """See `SceneSource`: all cameras see one scene, in all frames."""
        return f"scene {self._place(index)[0]}"

    def _place(self, index: int) -> tuple[int, int, int]:
        """Numbers of its scene, camera and frame."""
        view, frame = divmod(index, self._frames)
        scene, camera = divmod(view, len(self._cameras))
        return scene, camera, frame

    def _begun(self, scene: int) -> tuple[Episode, list[Camera]]:
        """A scene, which stays until another is asked for: frames come one after the other."""
        begun = self._scene
        if begun is None or begun[0] != scene:
            from mfsynth.simulation.mjcf.cameras import draw_camera
            from mfsynth.simulation.mjcf.states import begin

            settings = self._settings
            episode = begin(
                self._own,
                settings.randomise,
                settings.keyframe,
                settings.trajectory,
                np.random.default_rng([settings.seed, scene, _STATE]),
            )
            first, height, width = episode.at(0), settings.height, settings.width
            cameras = [
                draw_camera(
                    *(self._own, rule, first, height, width),
                    np.random.default_rng([settings.seed, scene, _CAMERAS, number]),
                )
                for number, rule in enumerate(self._cameras)
            ]
            self._scene = begun = (scene, episode, cameras)
        return begun[1], begun[2]

    def _drawing(self) -> ModelRenderer:
        """This thread's renderer, which keeps the model's meshes and textures on the device."""
        from mfsynth.simulation.mjcf.rendering import ModelRenderer

        drawing = self._renderer
        if drawing is None or drawing[0] != get_ident():
            settings = self._settings
            renderer = ModelRenderer(self._own, settings.height, settings.width)
            self._renderer = drawing = (get_ident(), renderer)
        return drawing[1]


def _as_png(normals: NDArray[np.float32]) -> bytes:
    """Normals as 16-bit RGB: (n + 1) / 2 of 65535; black where there is none."""
    codes = np.rint((normals + 1) / 2 * 65535).astype(np.uint16)
    codes[~normals.any(axis=2)] = 0
    done, png = cv2.imencode(".png", codes[..., ::-1])
    assert done, codes.shape
    return png.tobytes()


def _path(name_or_path: str) -> str:
    if "/" in name_or_path or name_or_path.endswith((".xml", ".urdf", ".mjcf")):
        return name_or_path
    folder = resource_dir("configs") / "scenes"
    path = folder / f"{name_or_path}.xml"
    if not path.is_file():
        known = ", ".join(sorted(one.stem for one in folder.glob("*.xml")))
        raise MfsynthError(f"model: no {name_or_path!r:.80} in {folder}; give a path, or {known}")
    return str(path)
