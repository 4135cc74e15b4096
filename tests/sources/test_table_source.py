"""Rows of tables are items, whoever wrote them."""

from __future__ import annotations

import pickle

import datasets
import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from pydantic import ValidationError
from training_files import codes, image, jpeg, one_line_error, png, source, write

from mfsynth.sources.contents import content_digest
from mfsynth.sources.registry import source_settings

COUNT = 5
MILLIMETRES = {"scale": 0.001, "invalid": [0]}
K = [7.0, 0, 3.4, 0, 6.5, 2.6, 0, 0, 1]
KEYS = {"depth_key": "depth", "caption_key": "text"}


def columns(**more):
    rows = range(COUNT)
    return {
        "image": [{"bytes": png(image(n)), "path": "a.png"} for n in rows],
        "depth": [png(codes(n)) for n in rows],
        "text": [f"a room {n}" for n in rows],
        "id": [f"scene-{n}" for n in rows],
        "K": [K] * COUNT,
        "scale": [0.001 * (n + 1) for n in rows],
        **more,
    }


def parquet(path, made=None, rows=2):
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(made or columns()), path, row_group_size=rows)
    return path


def assert_rows(items, scale=lambda n: 0.001):
    assert len(items) == COUNT
    for n in (4, 0, 2, 3, 1):
        np.testing.assert_array_equal(items[n].rgb, image(n))
        wanted = (codes(n) * scale(n)).astype(np.float32)
        np.testing.assert_allclose(items[n].depth, wanted, rtol=1e-6)
        assert items[n].text == f"a room {n}"


def test_rows_of_parquet_have_their_own_names_cameras_and_scales(tmp_path):
    parquet(tmp_path / "train" / "0.parquet")
    encoding = {
        "metadata": "scale",
        "scale": {"metadata": "scale"},
        "camera": {"file": "K"},
        "invalid": [0],
    }
    settings = {"kind": "table", "path": str(tmp_path), "id_key": "id", "encoding": encoding}
    items = pickle.loads(pickle.dumps(source(**settings, **KEYS)))
    assert_rows(items, lambda n: 0.001 * (n + 1))
    assert items.key(3) == "scene-3"
    assert items[3].intrinsics.fy == 6.5
    unnamed = source(kind="table", path=str(tmp_path / "train" / "0.parquet"))
    assert unnamed.key(3) == "0.parquet/000003"
    assert unnamed[3].depth is None


def test_labels_are_columns_and_rows_come_by_episodes(tmp_path):
    mask = np.zeros((6, 8), np.uint8)
    mask[2:4, 3:6] = 1
    rows = {
        "id": [f"episode-{n % 2}/{n // 2}" for n in range(COUNT)],
        "mask": [png(mask)] * 4 + [None],
        "pose": [np.eye(4).ravel().tolist()] * COUNT,
        "note": [b"a note"] * COUNT,
    }
    parquet(tmp_path / "a.parquet", columns(**rows))
    labels = {
        "mask": "mask",
        "others": {"note.txt": "note"},
        "episode": "(?P<episode>.*)/(?P<frame>[0-9]+)",
    }
    settings = {"kind": "table", "path": str(tmp_path), "id_key": "id", **KEYS}
    items = source(**settings, encoding=MILLIMETRES, labels=labels)
    assert [items.key(i) for i in range(COUNT)] == [
        f"episode-{e}/{f}" for e, f in ((0, 0), (0, 1), (0, 2), (1, 0), (1, 1))
    ]
    assert items.labels == ("mask.png", "episode", "note.txt")
    np.testing.assert_array_equal(items[1].rgb, image(2))
    np.testing.assert_array_equal(items[1].labels.mask, mask)
    assert items[1].labels.files["note.txt"] == b"a note"
    assert items[2].labels.mask is None
    assert items[4].labels.moment.frame == 1


def test_what_datasets_saves_is_read_with_pictures_and_arrays(tmp_path):
    maps = [np.where(codes(n) > 0, codes(n) / 1000, 0).astype(np.float32) for n in range(COUNT)]
    features = datasets.Features(
        {
            "image": datasets.Image(),
            "depth": datasets.Array2D((6, 8), "float32"),
            "coded": datasets.Image(),
            "text": datasets.Value("string"),
        }
    )
    made = datasets.Dataset.from_dict(
        {
            "image": [image(n) for n in range(COUNT)],
            "depth": maps,
            "coded": [Image.fromarray(codes(n)) for n in range(COUNT)],
            "text": [f"a room {n}" for n in range(COUNT)],
        },
        features=features,
    )
    datasets.DatasetDict({"train": made, "test": made.select([0])}).save_to_disk(tmp_path)
    settings = {"kind": "table", "path": str(tmp_path), "files": "train/*.arrow", **KEYS}
    arrays = source(**settings, encoding={"scale": 1})
    pictures = source(**{**settings, "depth_key": "coded"}, encoding=MILLIMETRES)
    assert_rows(arrays)
    assert_rows(pictures)


@pytest.mark.parametrize("has_state", [True, False])
def test_what_datasets_caches_beside_a_table_is_not_read(tmp_path, has_state):
    pictures = [Image.fromarray(image(n)) for n in range(3)]
    made = datasets.Dataset.from_dict({"image": pictures, "text": list("abc")})
    made.save_to_disk(tmp_path)
    datasets.load_from_disk(tmp_path).map(lambda row: {"text": row["text"] + "!"})
    datasets.load_from_disk(tmp_path).filter(lambda row: row["text"] != "a")
    assert len(list(tmp_path.glob("cache-*.arrow"))) == 2
    if not has_state:
        (tmp_path / "state.json").unlink()
    settings = {"kind": "table", "path": str(tmp_path), "caption_key": "text"}
    assert list(source(**settings).texts()) == list("abc")


def own_columns_of(depth):
    """What mfsynth's export has beside `depth`, codes of up to 65535, and a sensor's, in 2 mm."""
    unit = float(depth.max()) / 65535
    near = float(depth[depth > 0].min())
    said = ("linear", unit, near, float(depth.max()), "scale_invariant_z", 7.0, 6.5, 3.4, 2.6)
    names = (
        *("depth_encoding", "depth_unit_per_code", "depth_near", "depth_far", "depth_kind"),
        *("fx", "fy", "cx", "cy"),
    )
    rows = {name: [value] * COUNT for name, value in zip(names, said, strict=True)}
    rows["depth"] = [png(np.rint(depth / unit).astype(np.uint16))] * COUNT
    rows["sensor_depth"] = [png(codes(n)) for n in range(COUNT - 1)] + [None]
    rows["sensor_unit_per_code"] = [0.002] * (COUNT - 1) + [None]
    return rows


def test_a_row_of_the_own_export_says_how_its_two_columns_of_depth_are_stored(tmp_path):
    depth = (codes(7) * 1e-4).astype(np.float32)
    parquet(tmp_path / "a.parquet", columns(**own_columns_of(depth), other=columns()["depth"]))
    settings = {"kind": "table", "path": str(tmp_path), "depth": "optional"}
    stored = source(**settings, depth_key="depth")[1]
    np.testing.assert_allclose(stored.depth, depth, rtol=0, atol=1e-4)
    assert stored.facts.unit == "relative"
    sensor = source(**settings, depth_key="sensor_depth")
    np.testing.assert_allclose(sensor[1].depth, codes(1) * 0.002, rtol=1e-6)
    assert sensor[1].facts.unit == "metres"
    assert sensor[COUNT - 1].depth is None
    assert sensor[COUNT - 1].intrinsics.fx == sensor[1].intrinsics.fx == 7.0
    others = source(**settings, depth_key="other", encoding=MILLIMETRES)
    np.testing.assert_allclose(others[1].depth, codes(1) * 0.001, rtol=1e-6)
    assert others[1].facts.unit == "metres"
    with one_line_error("codes_per_unit is missing"):
        source(**settings, depth_key="other")


@pytest.mark.parametrize("key", ["depth", "sensor_depth"])
@pytest.mark.parametrize(
    ("given", "named"),
    [({"encoding": MILLIMETRES}, "encoding.scale"), ({"codes_per_unit": 1000}, "codes_per_unit")],
)
def test_settings_of_codes_that_rows_of_the_own_export_say_are_refused(tmp_path, key, given, named):
    parquet(tmp_path / "a.parquet", columns(**own_columns_of(codes(7).astype(np.float32))))
    settings = {"kind": "table", "path": str(tmp_path), "depth": "optional", "depth_key": key}
    with one_line_error(f"{key} is mfsynth's own, .* stored; leave {named} out"):
        source(**settings, **given)
    camera = {"fx": 9.0, "fy": 9.0, "cx": 3.0, "cy": 2.0}
    assert source(**settings, encoding={"camera": camera})[0].intrinsics.fx == 9.0


def test_arrays_that_somebody_made_of_the_own_exports_depth_go_by_the_settings(tmp_path):
    rows = own_columns_of(np.float32([[0, 1], [2, 3]])) | {"depth": [[[0.0, 2], [3, 4]]] * COUNT}
    rows["image"] = [png(image(0, 2, 2))] * COUNT
    parquet(tmp_path / "a.parquet", columns(**rows))
    settings = {"kind": "table", "path": str(tmp_path), "depth_key": "depth"}
    item = source(**settings, encoding={"scale": 0.5})[0]
    np.testing.assert_array_equal(item.depth, [[0, 1], [1.5, 2]])
    assert item.intrinsics.fx == 7.0
    with one_line_error("codes_per_unit is missing"):
        source(**settings)


def test_a_photograph_keeps_its_bytes(tmp_path):
    data = jpeg(image(0))
    parquet(tmp_path / "a.parquet", {"image": [data]})
    assert source(kind="table", path=str(tmp_path))[0].origin.jpeg == data


def test_a_table_in_a_store_is_the_one_on_the_disk(tmp_path, s3):
    features = datasets.Features({"image": datasets.Image(), "text": datasets.Value("string")})
    made = datasets.Dataset.from_dict({"image": [image(0)], "text": ["a"]}, features=features)
    made.save_to_disk(tmp_path / "d")
    parquet(tmp_path / "d" / "more.parquet", {"image": [png(image(1))], "text": ["b"]})
    bucket = s3.new_bucket()
    fsspec.filesystem("s3").put(f"{tmp_path}/d/", f"{bucket}/d/", recursive=True)
    both = [
        {"kind": "table", "path": path, "caption_key": "text"}
        for path in (str(tmp_path / "d"), f"{bucket}/d")
    ]
    for number in range(2):
        here, there = (source(**one)[number] for one in both)
        np.testing.assert_array_equal(here.rgb, there.rgb)
        assert here.text == there.text == "ab"[number]
    assert len({content_digest(source_settings(one), source(**one)) for one in both}) == 1


@pytest.mark.parametrize(
    ("made", "settings", "problem"),
    [
        ({}, {"image_key": "imgae"}, "no column 'imgae'; did you mean image"),
        ({}, {"caption_key": "caption"}, "no column 'caption'; did you mean text"),
        ({}, {"depth_key": "depth"}, "codes_per_unit is missing"),
        ({"id": ["a"] * COUNT}, {"id_key": "id"}, "id names two rows alike"),
        ({"text": list(range(COUNT))}, {"caption_key": "text"}, "row 0: text is no text"),
    ],
)
def test_a_table_that_is_not_what_the_settings_say_is_one_line(tmp_path, made, settings, problem):
    parquet(tmp_path / "a.parquet", columns(**made))
    with one_line_error(problem):
        source(kind="table", path=str(tmp_path), **settings)


@pytest.mark.parametrize(
    ("made", "problem"),
    [
        ({"image": [None] * COUNT}, "a.parquet, row 1: no image; leave the row out"),
        ({"image": ["a.png"] * COUNT}, "row 1: no image, but str; set image_key"),
        ({"image": [[[1, 2]]] * COUNT}, r"row 1: an array int64 \(1, 2\), an image is"),
        ({"depth": [None] * COUNT}, "row 1: no depth; leave the row out"),
        ({"depth": [b"x"] * COUNT}, "row 1: depth: not a PNG"),
        ({"depth": [[[1.0], [2.0, 3.0]]] * COUNT}, "row 1: depth: corrupt or not an array"),
        (
            {"image": [{"bytes": None, "path": "/etc/passwd"}] * COUNT},
            "row 1: image: holds only the path of a file",
        ),
    ],
)
def test_a_row_that_can_not_be_used_is_one_line(tmp_path, made, problem):
    parquet(tmp_path / "a.parquet", columns(**made))
    items = source(kind="table", path=str(tmp_path), encoding=MILLIMETRES, **KEYS)
    with one_line_error(problem):
        items[1]


@pytest.mark.parametrize("rows", [[[1.0, 2, 3], [4.0]], [[1.0, 2, 3], None, [4.0, 5, 6]]])
def test_an_array_whose_rows_differ_is_one_line_and_no_other_array(tmp_path, rows):
    parquet(tmp_path / "a.parquet", columns(depth=[rows] * COUNT))
    items = source(kind="table", path=str(tmp_path), encoding=MILLIMETRES, **KEYS)
    with one_line_error("row 2: depth: .*its rows are missing or of several lengths"):
        items[2]


def test_a_table_that_is_broken_or_lacks_a_column_is_left_out_beside_others(tmp_path):
    for name in ("a", "b", "c"):
        parquet(tmp_path / f"{name}.parquet", columns())
    settings = {"kind": "table", "path": str(tmp_path), "encoding": MILLIMETRES, **KEYS}
    whole = source(**settings)
    for broken in ("no table", "no column"):
        if broken == "no table":
            write(tmp_path / "b.parquet", b"PAR1")
        else:
            parquet(tmp_path / "b.parquet", {"other": [1]})
        items = source(**settings)
        assert len(items) == 2 * COUNT
        assert [one.name.rpartition("/")[2] for one in items.skipped] == ["b.parquet"]
        assert items.key(COUNT) == whole.key(2 * COUNT) == f"c.parquet/{0:06d}"
        np.testing.assert_array_equal(items[COUNT].depth, whole[2 * COUNT].depth)
        with one_line_error("b.parquet: "):
            source(**settings, max_skipped=0)
    with one_line_error("a.parquet: no column 'nothing'"):
        source(**{**settings, "image_key": "nothing"})


@pytest.mark.parametrize("name", ["parquet", "rows.parquet", "arrow"])
def test_a_folder_may_be_named_as_tables_or_their_extension_are(tmp_path, name):
    parquet(tmp_path / name / "data" / "000000.parquet")
    for path in (str(tmp_path / name), (tmp_path / name).as_uri()):
        items = source(kind="table", path=path, **KEYS, encoding=MILLIMETRES)
        assert_rows(items)


def test_a_file_that_is_no_table_is_one_line(tmp_path):
    for name in ("a.parquet", "a.arrow"):
        for data in (b"", b"PAR1" * 9):
            path = write(tmp_path / name, data)
            with one_line_error(f"{name}: corrupt or not a table"):
                source(kind="table", path=str(path))
    with one_line_error(r"no tables \*.csv; check the path"):
        source(kind="table", path=str(tmp_path), files="*.csv")
    with one_line_error("b.parquet: no such table"):
        source(kind="table", path=str(tmp_path / "b.parquet"))
    with pytest.raises(ValidationError, match="give image_key, depth_key, or both"):
        source(kind="table", path=str(tmp_path), image_key=None)
