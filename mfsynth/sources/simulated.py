"""Images of the simulator, rendered before or on demand.

The simulator is imported where it is used, so that reading settings doesn't wait for it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property, partial
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np

from mfsynth.config.base import Count, Index, NonEmpty, Settings, Unset
from mfsynth.errors import MfsynthError
from mfsynth.geometry import Intrinsics, IntrinsicsSource
from mfsynth.processes import usable_cores
from mfsynth.prompts import load_library
from mfsynth.shards.labels import CAMERA_TO_WORLD, EPISODE, MASK, POSES, Labels, Moment
from mfsynth.sources.base import DepthFacts, Item, Origin
from mfsynth.sources.prompts import PromptItems
from mfsynth.sources.settings import SourceSettings

if TYPE_CHECKING:
    from mfsynth.simulation import CachedScenes, CacheSettings

RENDERED_TYPE = "http://cv.iptc.org/newscodes/digitalsourcetype/algorithmicMedia"
"""The IPTC's term for what an algorithm made, and no model that was trained."""

# Of `mfsynth.simulation.STYLES`.
StyleName = Literal["plain", "close", "varied", "roaming"]


class RenderSettings(Settings):
    """Simulator scenes to render into a folder.

    Attributes:
        library: Name or path of the prompt library.
        style: Within which limits scenes and cameras vary: plain is what the shipped models
            were trained on; close has larger things in the frame; varied is near to far, with
            any room, light, height, size and field of view (35° to 75°); roaming has things that
            are cut or hidden, too, and cameras that aren't level.
        scenes: How many.
        views: Of each scene.
        seed: Of prompts and scenes.
    """

    library: NonEmpty = "tabletop"
    style: StyleName = "plain"
    scenes: Count
    views: Count
    seed: Index = 0

    def render(
        self, folder: str, size: int, progress: Callable[[int, int], None] | None = None
    ) -> CachedScenes:
        """Render what isn't in the folder yet; see `render_dataset`.

        Args:
            folder: Where to.
            size: Rows and columns of the images.
            progress: Called with scenes rendered and scenes in total.
        """
        from mfsynth.simulation import STYLES, render_dataset

        return render_dataset(
            folder,
            library=self.library,
            style=STYLES[self.style],
            scenes=self.scenes,
            views=self.views,
            size=size,
            seed=self.seed,
            workers=usable_cores(),
            progress=progress,
        )


class CachedScenesSettings(SourceSettings):
    """Simulator images on disk.

    Attributes:
        path: The folder.
        render: What is rendered into it first, as far as it isn't there yet; None where the folder
            has been filled before.
        episodes: Whether the views of a scene are one episode, for runs to make them look alike.
    """

    places: ClassVar[frozenset[str]] = frozenset({"path", "render"})

    kind: Literal["cached_scenes"]
    path: NonEmpty
    render: RenderSettings | None = None
    episodes: Unset[Literal[True]] = None

    def open(self) -> CachedScenesSource:
        """See `CachedScenesSource`."""
        return CachedScenesSource(self.path, episodes=self.episodes is not None)


class LiveScenesSettings(SourceSettings):
    """Simulator images rendered when they are asked for, one view of each scene.

    Attributes:
        library: Name or path of the prompt library.
        style: As in `RenderSettings`.
        scenes: How many different ones.
        size: Rows and columns.
        seed: Of prompts and scenes.
        masks: Whether to render which object a pixel shows, too, and to say where objects are.
    """

    kind: Literal["live_scenes"]
    library: NonEmpty = "tabletop"
    style: StyleName = "plain"
    scenes: Count
    size: Count
    seed: Index = 0
    masks: Unset[Literal[True]] = None

    def open(self) -> LiveScenesSource:
        """See `LiveScenesSource`."""
        masks = self.masks is not None
        return LiveScenesSource(self.library, self.scenes, self.size, self.seed, self.style, masks)


class CachedScenesSource:
    """Implements `FiniteSource`: images in the order of their scenes, depth in metres.

    Args:
        folder: What `mfsynth.simulation.render_dataset` wrote.
        episodes: Whether the views of a scene are one episode.

    Raises:
        MfsynthError: The folder holds no rendered scenes, or rendering hasn't finished.
    """

    def __init__(self, folder: str, *, episodes: bool = False) -> None:
        from mfsynth.simulation import CachedScenes

        self._folder, self._episodes = folder, episodes
        self._scenes = CachedScenes.open(folder)

    def __reduce__(self) -> tuple[Callable[..., CachedScenesSource], tuple[str]]:
        # A mapped array would be pickled with all its content.
        return partial(CachedScenesSource, episodes=self._episodes), (self._folder,)

    @property
    def rendered(self) -> CacheSettings:
        """What decided the images."""
        return self._scenes.settings

    def __len__(self) -> int:
        return len(self._scenes)

    def __getitem__(self, index: int) -> Item:
        images = self._scenes
        return Item(
            rgb=np.asarray(images.rgb[index]),
            depth=np.asarray(images.depth[index]),
            text=images.captions[index],
            slots=self._slots(index),
            intrinsics=Intrinsics.from_matrix(images.intrinsics[index]),
            name=f"{self._folder}: image {index}",
            camera_from="the simulator",
            facts=DepthFacts("metres"),
            origin=_origin(self.key(index)),
            labels=Labels(
                camera_to_world=tuple(images.camera_to_world[index].ravel().tolist()),
                moment=self.moment(index),
            ),
        )

    def _slots(self, index: int) -> Mapping[str, tuple[str, ...]]:
        return {} if self._prompts is None else self._prompts[index // self.rendered.views].slots

    @cached_property
    def _prompts(self) -> PromptItems | None:
        """What the scenes show, where their library is still what it was."""
        made = self.rendered
        try:
            library = load_library(made.library, made.seed)
        except MfsynthError:
            return None
        return PromptItems(library) if library.digest == made.library_digest else None

    @property
    def labels(self) -> tuple[str, ...]:
        """See `LabelledSource`."""
        return (CAMERA_TO_WORLD, EPISODE) if self._episodes else (CAMERA_TO_WORLD,)

    def moment(self, index: int) -> Moment | None:
        """See `LabelledSource`."""
        view = index % self.rendered.views
        return Moment(self.scene(index), view) if self._episodes else None

    def scene(self, index: int) -> str:
        """See `SceneSource`."""
        return f"scene {index // self.rendered.views}"

    def texts(self) -> Iterator[str]:
        """See `FiniteSource`."""
        return iter(self._scenes.captions)

    def key(self, index: int) -> str:
        """Its number."""
        return f"image {index}"

    def contents(self) -> Iterator[bytes]:
        """What decided the images."""
        yield json.dumps(self.rendered.document(), sort_keys=True).encode()


class LiveScenesSource:
    """Implements `FiniteSource`: scene i, from one side, as `render_dataset` with one view has it.

    Args:
        library: Name or path of the prompt library.
        count: How many scenes.
        size: Rows and columns of the images.
        seed: Of prompts and scenes.
        style: As in `RenderSettings`.
        masks: Whether items have masks and poses of their objects.

    Raises:
        MfsynthError: There is no such library.
    """

    def __init__(
        self,
        library: str,
        count: int,
        size: int,
        seed: int,
        style: StyleName = "plain",
        masks: bool = False,
    ) -> None:
        # Of which the source is made again in other processes.
        self._arguments = (library, count, size, seed, style, masks)
        self._library = load_library(library, seed)
        self._count, self._size, self._seed, self._style = count, size, seed, style
        self._masks = masks

    def __reduce__(
        self,
    ) -> tuple[type[LiveScenesSource], tuple[str, int, int, int, StyleName, bool]]:
        return LiveScenesSource, self._arguments

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> Item:
        if not 0 <= index < self._count:
            raise IndexError(f"scene {index} of {self._count}")
        from mfsynth.simulation import STYLES, render_scene, scenes
        from mfsynth.simulation.gl import context_is_inherited

        if context_is_inherited():
            raise MfsynthError(
                "scenes can't be rendered in a process forked from one that has rendered; start "
                "data loading workers with start_method spawn"
            )
        ((_, scene),) = scenes(self._library, self._seed, [index], STYLES[self._style])
        (view,) = render_scene(scene, 1, self._size, self._size, labels=self._masks)
        pose = tuple(view.pose.camera_to_world().ravel().tolist())
        return Item(
            rgb=view.rgb,
            depth=view.depth,
            text=view.caption,
            slots=PromptItems(self._library)[index].slots,
            intrinsics=view.intrinsics,
            name=f"{self._arguments[0]}: scene {index}",
            camera_from="the simulator",
            facts=DepthFacts("metres"),
            origin=_origin(self.key(index)),
            labels=view.labels if self._masks else Labels(camera_to_world=pose),
        )

    @property
    def labels(self) -> tuple[str, ...]:
        """See `LabelledSource`."""
        return (CAMERA_TO_WORLD, MASK, POSES) if self._masks else (CAMERA_TO_WORLD,)

    def moment(self, index: int) -> None:
        """See `LabelledSource`: scenes don't follow each other."""

    def texts(self) -> Iterator[str]:
        """See `FiniteSource`."""
        return (self._library.prompt(index).text for index in range(self._count))

    def key(self, index: int) -> str:
        """The scene's number."""
        return f"scene {index}"

    def contents(self) -> Iterator[bytes]:
        """What decides the prompts; the settings say the rest."""
        yield self._library.digest.encode()


def _origin(key: str) -> Origin:
    return Origin(key, digital_source_type=RENDERED_TYPE, camera=IntrinsicsSource.RENDERED)
