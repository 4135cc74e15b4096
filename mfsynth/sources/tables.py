"""Rows of Parquet files and of what `datasets` saves, with files or arrays in their columns."""

from __future__ import annotations

import io
import json
import posixpath
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import model_validator

from mfsynth.config.base import NonEmpty
from mfsynth.config.documents import decode_utf8, strict_json
from mfsynth.config.suggestions import did_you_mean
from mfsynth.errors import MfsynthError
from mfsynth.geometry.rgbd import RgbImage
from mfsynth.shards.labels import Moment
from mfsynth.sources.assembling import Files, assemble
from mfsynth.sources.base import Item
from mfsynth.sources.captions import did_you_mean_caption, first_text
from mfsynth.sources.contents import file_contents
from mfsynth.sources.encoding import Encoding
from mfsynth.sources.folder_layouts import pair_by_wildcards
from mfsynth.sources.local_files import as_text
from mfsynth.sources.own_tables import own_columns, own_depth
from mfsynth.sources.settings import StoredDepthSettings
from mfsynth.sources.table_files import TableFile, cell_of, holds_files
from mfsynth.sources.tolerance import Skipped
from mfsynth.sources.trees import Tree, lone_file, open_tree
from mfsynth.storage.urls import where_sought

EXTENSIONS = ("parquet", "arrow")
_CACHE = "cache-"


@dataclass(frozen=True, slots=True, eq=False)
class _Listed:
    """A table as it is opened: rows of its parts, captions, ids, and its columns of `own`.

    They say how depth is stored in files (`are_files`); of arrays that somebody made of these they
    have the camera.
    """

    counts: list[int]
    texts: list[str]
    ids: list[str]
    own: tuple[str, ...]
    are_files: bool


class TableSettings(StoredDepthSettings):
    """Parquet, or a folder of `Dataset.save_to_disk`: a row is an item.

    Files that `encoding` names are columns here: `camera: {file: K}` is a column of nine numbers.
    The columns `depth` and `sensor_depth` of mfsynth's own export are read as their rows say.

    Attributes:
        path: A file, or a folder, or the URL of either.
        files: Wildcards of the files in the folder, as `train/*.arrow`.
        image_key: The column of the images: files or arrays. None where there is depth alone.
        depth_key: That of the depth maps; None where there is no depth.
        caption_key: That of the captions; None for empty ones.
        id_key: That of the items' names; None for file and number of the row.
    """

    places: ClassVar[frozenset[str]] = frozenset({"path"})

    kind: Literal["table"]
    path: NonEmpty
    files: NonEmpty = "**/*.{" + ",".join(EXTENSIONS) + "}"
    image_key: NonEmpty | None = "image"
    depth_key: NonEmpty | None = None
    caption_key: NonEmpty | None = None
    id_key: NonEmpty | None = None

    @model_validator(mode="after")
    def _has_a_column(self) -> Self:
        if self.image_key is None and self.depth_key is None:
            raise ValueError("give image_key, depth_key, or both: columns of the table")
        if self.labels is not None and self.labels.preset is not None:
            raise ValueError("labels.preset is of folders; name the labels' columns")
        return self

    def open(self) -> TableSource:
        """Count the rows; images and depth are read when they are asked for.

        Raises:
            MfsynthError: There is no such file, more can't be read or have no such columns than may
                be left out, or nobody says what a code of depth is, or settings do where rows do.
        """
        tree, names = self._files()
        readable, broken = self.tolerance.readable(
            [TableFile(tree, name) for name in names], self._listed, lambda file: file.told
        )
        lists = [one for _, one in readable]
        texts, ids = [t for one in lists for t in one.texts], [i for one in lists for i in one.ids]
        own = tuple(name for name in lists[0].own if all(name in one.own for one in lists))
        is_said = bool(own) and all(one.are_files for one in lists)
        if is_said and (ignored := self._of_codes()):
            raise MfsynthError(
                f"{tree.told()}: {self.depth_key} is mfsynth's own, and its rows say how it is "
                f"stored; leave {ignored[0]} out"
            )
        if self.depth_key is not None and not is_said:
            try:
                self.stored.require_complete()
            except ValueError as error:
                raise MfsynthError(f"{tree.told()}: {error}") from error
        if not texts:
            raise MfsynthError(f"{tree.told()}: no rows; check the path")
        if len(set(ids)) < len(ids):
            raise MfsynthError(f"{tree.told()}: {self.id_key} names two rows alike; set id_key")
        found = TableSource(
            settings=self,
            encoding=self.stored,
            files=tuple(file for file, _ in readable),
            rows=_rows([one.counts for one in lists]),
            captions=tuple(texts),
            ids=tuple(ids),
            own=own,
            skipped=tuple(broken),
        )
        if self.labels is None:
            return found
        order = self.labels.in_order([found.key(index) for index in range(len(found))])
        return replace(
            found,
            rows=found.rows[order],
            captions=tuple(texts[row] for row in order),
            ids=tuple(ids[row] for row in order) if ids else (),
        )

    def _listed(self, file: TableFile) -> _Listed:
        """What is known of a table before its images are read.

        Raises:
            MfsynthError: It can't be read, or lacks a column.
        """
        schema = file.schema()
        known = schema.names
        wanted = [self.image_key, self.depth_key, self.caption_key, self.id_key]
        for key in [*(key for key in wanted if key is not None), *sorted(self.columns_beside)]:
            if key not in known:
                caption = key == self.caption_key
                hint = (did_you_mean_caption if caption else did_you_mean)(key, known)
                raise MfsynthError(f"{file.told}: no column {key!r}; {hint}")
        counts = file.counts()
        table = file.columns([key for key in (self.caption_key, self.id_key) if key is not None])
        rows = sum(counts)
        return _Listed(
            counts,
            self._texts(table, file) if self.caption_key is not None else [""] * rows,
            [str(value) for value in table[self.id_key].to_pylist()] if self.id_key else [],
            own_columns(self.depth_key, known),
            self.depth_key is not None and holds_files(schema.field(self.depth_key)),
        )

    @property
    def columns_beside(self) -> frozenset[str]:
        """Columns that are files beside an image elsewhere."""
        labels = frozenset[str]() if self.labels is None else self.labels.files
        return self.stored.files_beside | labels

    def _of_codes(self) -> tuple[str, ...]:
        """Settings that say how depth is stored, as they are to be called."""
        alone = ("codes_per_unit", "ray_camera")
        encoding = () if self.encoding is None else self.encoding.of_codes
        return (
            *(name for name in alone if getattr(self, name) is not None),
            *(f"encoding.{name}" for name in encoding),
        )

    def _files(self) -> tuple[Tree, list[str]]:
        if (lone := lone_file(self.path, EXTENSIONS)) is not None:
            tree, file = lone
            if tree.find(file) is None:
                where = where_sought(self.path)
                raise MfsynthError(f"{tree.told(file)}: no such table{where}; check the path")
            return tree, [file]
        tree = open_tree(self.path)
        names = [name for name, _ in pair_by_wildcards(tree, self.files, None)]
        if not self.files.rpartition("/")[2].startswith(_CACHE):
            names = _without_caches(tree, names)
        if not names:
            raise MfsynthError(f"{tree.told()}: no tables {self.files}; check the path")
        return tree, names

    def _texts(self, table: Any, file: TableFile) -> list[str]:
        found = []
        for row, value in enumerate(table[self.caption_key].to_pylist()):
            text = "" if value is None else first_text(value)
            if text is None:
                raise MfsynthError(
                    f"{file.told}: row {row}: {self.caption_key} is no text; set caption_key"
                )
            found.append(text)
        return found


@dataclass(frozen=True, slots=True, eq=False)
class TableSource:
    """Implements `NamedSource`.

    Attributes:
        settings: What was opened.
        encoding: Of the depth maps.
        files: The tables.
        rows: (N, 4) of each item the file, the part of it, and the row in part and file.
        captions: N texts.
        ids: N names; none where file and row are the name.
        own: Columns that say how depth is stored, where the table is mfsynth's own.
        skipped: Tables that were left out; a row that can't be read is told when it is.
    """

    settings: TableSettings
    encoding: Encoding
    files: tuple[TableFile, ...]
    rows: NDArray[np.int64]
    captions: tuple[str, ...]
    ids: tuple[str, ...]
    own: tuple[str, ...]
    skipped: tuple[Skipped, ...] = ()

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Item:
        settings = self.settings
        number, part, row, _ = self.rows[index].tolist()
        file, name = self.files[number], self.told(index)
        beside = tuple(sorted(settings.columns_beside))
        keys = tuple(key for key in (settings.image_key, settings.depth_key) if key is not None)
        cells = file.row(part, row, tuple(dict.fromkeys((*keys, *beside, *self.own))))
        image_key, depth_key = settings.image_key, settings.depth_key
        rgb = None if image_key is None else cell_of(cells[image_key], f"{name}: {image_key}")
        depth = None if depth_key is None else cell_of(cells[depth_key], f"{name}: {depth_key}")
        if image_key is not None and rgb is None:
            raise MfsynthError(f"{name}: no image; leave the row out")
        if depth_key is not None and depth is None and settings.depth != "optional":
            raise MfsynthError(f"{name}: no depth; leave the row out, or set depth: optional")
        said = {key: cells[key].as_py() for key in self.own}
        files = Files(
            rgb=None if image_key is None else _image(rgb, name),
            rgb_name=name,
            text=self.captions[index],
            beside=_InRow(self.key(index), {key: cells[key] for key in beside}, name),
            depth=np.asarray(depth) if isinstance(depth, list) else depth,
            depth_name=f"{name}: {depth_key}",
            own=own_depth(depth_key, said, name, has_depth=depth is not None) if said else None,
            moment=self.moment(index),
        )
        needs_depth = depth_key is not None and settings.depth != "optional"
        return assemble(files, self.encoding, settings.labels, needs_depth=needs_depth)

    def texts(self) -> Iterator[str]:
        """See `FiniteSource`."""
        return iter(self.captions)

    def key(self, index: int) -> str:
        """Its own name, or that of the file and the number of the row."""
        if self.ids:
            return self.ids[index]
        number, _, _, row = self.rows[index].tolist()
        return f"{as_text(self.files[number].name)}/{row:06d}"

    @property
    def labels(self) -> tuple[str, ...]:
        """See `LabelledSource`: columns that the settings name."""
        return self.settings.label_names

    def moment(self, index: int) -> Moment | None:
        """See `LabelledSource`."""
        return self.settings.moment(self.key(index))

    def told(self, index: int) -> str:
        """Where an item is, for messages."""
        number, _, _, row = self.rows[index].tolist()
        return f"{self.files[number].told}, row {row}"

    def contents(self) -> Iterator[bytes]:
        """Name, size and last bytes of every file: a Parquet's end has the statistics of all."""
        return file_contents((file.tree, file.name, file.name) for file in self.files)


@dataclass(frozen=True, slots=True)
class _InRow:
    """Implements `Beside`: columns of a row."""

    stem: str
    cells: Mapping[str, Any]
    name: str

    def has(self, file: str) -> bool:
        return file in self.cells and self.cells[file].is_valid

    def read(self, file: str) -> tuple[bytes, str]:
        name = f"{self.name}: {file}"
        if file not in self.cells:
            raise MfsynthError(f"{name}: no such column; encoding names it")
        value = cell_of(self.cells[file], name)
        if value is None:
            raise MfsynthError(f"{name}: nothing in it; encoding names it")
        if isinstance(value, bytes):
            return value, name
        if isinstance(value, np.ndarray):
            stream = io.BytesIO()
            np.save(stream, value)
            return stream.getvalue(), name
        # A number is found under its column's name, a document under its own.
        document = value if isinstance(value, dict) else {file: value}
        return (value if isinstance(value, str) else json.dumps(document)).encode(), name


def _without_caches(tree: Tree, names: list[str]) -> list[str]:
    """Tables but those that `datasets` keeps beside them of what it made of them."""
    saved = {folder: _saved(tree, folder) for folder in {posixpath.dirname(n) for n in names}}
    kept = []
    for name in names:
        folder, file = posixpath.split(name)
        files = saved[folder]
        of_datasets = name.lower().endswith(".arrow")
        if not of_datasets or (file in files if files else not file.startswith(_CACHE)):
            kept.append(name)
    return kept


def _saved(tree: Tree, folder: str) -> frozenset[str]:
    """Files of a folder of `save_to_disk`; none where it is no such folder."""
    state = posixpath.join(folder, "state.json")
    if tree.find(state) is None:
        return frozenset()
    try:
        found = strict_json(decode_utf8(tree.read(state), tree.told(state), "description"))
        return frozenset(str(file["filename"]) for file in found.get("_data_files", ()))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise MfsynthError(
            f"{tree.told(state)}: not what datasets writes ({error}); restore it"
        ) from error


def _rows(counts: list[list[int]]) -> NDArray[np.int64]:
    found = [np.empty((0, 4), np.int64)]
    for file, parts in enumerate(counts):
        before = 0
        for part, count in enumerate(parts):
            rows = np.arange(count)
            columns = (np.full(count, file), np.full(count, part), rows, before + rows)
            found.append(np.stack(columns, axis=1))
            before += count
    return np.concatenate(found)


def _image(value: Any, name: str) -> bytes | RgbImage:
    if isinstance(value, bytes):
        return value
    if not isinstance(value, np.ndarray):
        raise MfsynthError(f"{name}: no image, but {type(value).__name__}; set image_key")
    whole = value.astype(np.uint8)
    if value.ndim != 3 or not np.array_equal(whole, value):
        raise MfsynthError(
            f"{name}: an array {value.dtype} {value.shape}, an image is of 0 to 255 and (H, W, 3)"
        )
    return whole
