"""What is exported comes back in millimetres, through the settings that read such files."""

from __future__ import annotations

import json
import struct
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import tiny_run
from metric_run import metric_sample

from mfsynth.datasets import RGBDDataset
from mfsynth.datasets.exports.exporting import export
from mfsynth.datasets.exports.pairs import Pairs
from mfsynth.datasets.exports.registry import FORMATS, open_exporter
from mfsynth.shards.commits import commit
from mfsynth.shards.marks import source_type
from mfsynth.shards.records import DIGITAL_SOURCE_TYPE
from mfsynth.shards.run_manifest import open_run
from mfsynth.sources.registry import source_settings
from mfsynth.storage.store import ObjectStore

# Half a millimetre, and half of TUM's and BOP's steps.
MILLIMETRE, TUM, BOP = 0.5e-3, 0.1e-3, 0.05e-3
CAPTURED = "http://cv.iptc.org/newscodes/digitalsourcetype/digitalCapture"


def exported(run, folder, name, *options, **settings):
    pairs = Pairs(RGBDDataset(run.url), **settings)
    return export(pairs, name, open_exporter(name, options), folder)


def opened(**settings):
    return source_settings({"kind": "folder", **settings}).open()


def assert_depth(found, sample, tolerance, *, furthest=np.inf, factor=1.0):
    """Equal to half a step; a hole where there is one, or no code so far away, and nowhere else."""
    depth = sample.depth.astype(np.float64) * factor
    np.testing.assert_array_equal(found == 0, ~sample.valid | (depth > furthest))
    kept = found > 0
    np.testing.assert_allclose(found[kept], depth[kept], rtol=1e-6, atol=tolerance * 1.001)


def assert_camera(found, sample):
    np.testing.assert_array_equal(found.matrix(), sample.intrinsics)


def test_tum_is_read_by_its_layout_with_the_calibration_beside_it(metric_run, metric_pairs, out):
    done = exported(metric_run, out, "tum")
    # 20 m and 70 m in four pixels each: TUM ends at 13.1 m.
    assert done.lost == 8
    for camera in range(2):
        root = out / f"sequence_{camera:04d}"
        fx, fy, cx, cy = map(float, (root / "calibration.txt").read_text().split())
        given = {"fx": fx, "fy": fy, "cx": cx, "cy": cy}
        items = opened(layout="tum", path=str(root), encoding={"camera": given})
        assert len(items) == 2
        for place, item in enumerate(items):
            number = 2 * place + camera
            sample, _ = metric_pairs[number]
            assert item.facts.unit == "metres"
            np.testing.assert_array_equal(item.rgb, sample.rgb)
            assert_depth(item.depth, sample, TUM, furthest=13.1068)
            assert_camera(item.intrinsics, sample)
        associated = (root / "associations.txt").read_text().split()
        assert associated[:4] == ["0.000000", "rgb/0.000000.png", "0.000000", "depth/0.000000.png"]


def test_scannet_is_read_by_its_layout_with_the_matrix_of_its_scene(metric_run, metric_pairs, out):
    assert exported(metric_run, out, "scannet").lost == 4
    camera = {"file": "../intrinsic/intrinsic_color.txt"}
    items = opened(
        layout="scannet",
        path=str(out),
        encoding={"camera": camera},
        captions={"file": "metadata.jsonl"},
    )
    for item, number in zip(items, (0, 2, 1, 3), strict=True):
        sample, files = metric_pairs[number]
        assert Path(item.name).read_bytes() == files["rgb"]
        assert item.text == sample.prompt
        assert_depth(item.depth, sample, MILLIMETRE, furthest=65.534)
        assert_camera(item.intrinsics, sample)


def test_bop_is_read_by_its_preset_with_each_images_camera_and_scale(metric_run, metric_pairs, out):
    options = ("images_per_scene=3", "split=train")
    assert exported(metric_run, out, "bop", *options).lost == 4
    items = opened(layout="bop", path=str(out), captions={"file": "metadata.jsonl"})
    for number, item in enumerate(items):
        sample, files = metric_pairs[number]
        assert Path(item.name).read_bytes() == files["rgb"]
        assert item.text == sample.prompt
        step = BOP if number < 2 else MILLIMETRE
        assert_depth(item.depth, sample, step, furthest=65.534)
        assert_camera(item.intrinsics, sample)
    scenes = sorted(path.name for path in (out / "train").iterdir())
    assert scenes == ["000000", "000001"]


def test_lerobot_is_read_by_its_own_kind_of_source(metric_run, metric_pairs, out):
    exported(metric_run, out, "lerobot")
    items = source_settings({"kind": "lerobot", "path": str(out)}).open()
    assert len(items) == len(metric_pairs)
    for number, (item, (sample, _)) in enumerate(zip(items, metric_pairs, strict=True)):
        np.testing.assert_array_equal(item.rgb, sample.rgb)
        np.testing.assert_array_equal(item.depth, np.where(sample.valid, sample.depth, 0))
        assert item.text == sample.prompt
        assert (item.labels.moment.episode, item.labels.moment.frame) == (str(number), 0)
        assert_camera(item.intrinsics, sample)


def test_mcap_is_read_as_a_recording(metric_run, metric_pairs, out):
    exported(metric_run, out, "mcap")
    settings = {"kind": "recording", "path": str(out / "000000.mcap")}
    items = source_settings(settings).open()
    assert len(items) == len(metric_pairs)
    for item, (sample, files) in zip(items, metric_pairs, strict=True):
        assert item.origin.jpeg == files["rgb"]
        np.testing.assert_array_equal(item.depth, np.where(sample.valid, sample.depth, 0))
        assert_camera(item.intrinsics, sample)


def test_parquet_is_read_as_its_columns_say_and_no_scale_is_wanted(metric_run, metric_pairs, out):
    exported(metric_run, out, "parquet", "pairs_per_file=3")
    keys = {"depth_key": "depth", "caption_key": "prompt", "id_key": "sample_id"}
    items = source_settings({"kind": "table", "path": str(out), **keys}).open()
    for number, (item, (sample, files)) in enumerate(zip(items, metric_pairs, strict=True)):
        assert items.key(number) == sample.sample_id
        assert item.origin.jpeg == files["rgb"]
        np.testing.assert_array_equal(item.depth, np.where(sample.valid, sample.depth, 0))
        assert (item.facts.unit, item.text) == ("metres", sample.prompt)
        assert_camera(item.intrinsics, sample)


def test_a_plain_folder_is_exact_and_keeps_relative_depth_that_says_so(run_store, out):
    exported(run_store, out, "folder", assume_fov=60.0)
    dataset = RGBDDataset(run_store.url)
    items = opened(
        layout="generic",
        path=str(out),
        images="rgb/*.jpg",
        depths="depth/*.npy",
        captions={"file": "metadata.jsonl"},
        encoding={
            "scale": 1.0,
            "unit": "relative",
            "camera": {"file": "../camera/{name}.json", "path": "K"},
        },
    )
    assert len(items) == len(dataset)
    for item, sample in zip(items, dataset, strict=True):
        np.testing.assert_array_equal(item.depth, sample.depth)
        assert item.text == sample.prompt
        about = json.loads((out / "camera" / f"{sample.sample_id}.json").read_text())
        assert about["depth_unit"] == "relative"
        assert about["source"] == "assumed"
        if sample.intrinsics is None:
            np.testing.assert_allclose(about["K"][0], [16 / np.tan(np.pi / 6), 0, 15.5])
        else:
            np.testing.assert_array_equal(item.intrinsics.matrix(), sample.intrinsics)


@pytest.mark.parametrize("name", ["scannet", "bop"])
def test_relative_depth_is_brought_to_metres_by_the_factor_that_is_given(run_store, out, name):
    exported(run_store, out, name, metres_per_unit=0.7, assume_fov=60.0)
    items = {
        item.text: item
        for item in opened(layout=name, path=str(out), captions={"file": "metadata.jsonl"})
    }
    for sample in RGBDDataset(run_store.url):
        assert_depth(items[sample.prompt].depth, sample, MILLIMETRE, factor=0.7)


def test_hdf5_holds_both_arrays_and_its_camera(metric_run, metric_pairs, out):
    h5py = pytest.importorskip("h5py")
    exported(metric_run, out, "hdf5")
    for number, (sample, _) in enumerate(metric_pairs):
        with h5py.File(out / f"{number}.hdf5") as file:
            np.testing.assert_array_equal(file["colors"], sample.rgb)
            np.testing.assert_array_equal(file["depth"], sample.depth)
            np.testing.assert_array_equal(file.attrs["K"], sample.intrinsics)
            said = {name: file.attrs[name] for name in ("depth_unit", "pixel_centres", "prompt")}
        assert said == {
            "depth_unit": "metres",
            "pixel_centres": "integer",
            "prompt": sample.prompt,
        }


@pytest.mark.parametrize("name", [name for name in FORMATS if name != "coco"])
def test_every_format_takes_every_text(tmp_path, out, name):
    if (module := FORMATS[name].needs_module) is not None:
        pytest.importorskip(module)
    text = "a \0 in\nthe \u2028 \x1b[31m \N{PILE OF POO} end"
    sample = metric_sample(0)
    sample = replace(sample, ref=replace(sample.ref, prompt=text), licence=text)
    store = ObjectStore.open(str(tmp_path / "run"))
    open_run(store, tiny_run.make_manifest())
    rejects = [tiny_run.make_reject(i) for i in range(1, tiny_run.SHARD_SIZE)]
    assert commit(store, tiny_run.upload_shard(store, 0, [sample, *rejects]))
    exported(store, out, name)
    if name == "hdf5":
        import h5py

        with h5py.File(out / "0.hdf5") as file:
            assert file.attrs["prompt"] == text.replace("\0", "\N{REPLACEMENT CHARACTER}")
    if (document := out / "metadata.jsonl").exists():
        assert json.loads(document.read_bytes())["text"] == text


def test_mcap_is_read_by_its_own_reader_with_nan_where_there_is_no_depth(
    metric_run, metric_pairs, out
):
    pytest.importorskip("mcap_protobuf")
    from mcap.reader import make_reader
    from mcap_protobuf.decoder import DecoderFactory

    exported(metric_run, out, "mcap", "pairs_per_file=3")
    found = []
    for path in sorted(out.glob("*.mcap")):
        with path.open("rb") as file:
            reader = make_reader(file, decoder_factories=[DecoderFactory()])
            for schema, channel, message, decoded in reader.iter_decoded_messages():
                found.append((message.log_time // 10**9 - 1, schema.name, channel.topic, decoded))
    assert len(found) == 16
    for number, schema, topic, message in found:
        sample, files = metric_pairs[number]
        match topic, schema:
            case "/rgb", "foxglove.CompressedImage":
                assert (message.format, message.data) == ("jpeg", files["rgb"])
            case "/depth", "foxglove.RawImage":
                assert (message.encoding, message.width, message.step) == ("32FC1", 32, 128)
                depth = np.frombuffer(message.data, "<f4").reshape(message.height, message.width)
                np.testing.assert_array_equal(np.isnan(depth), ~sample.valid)
                np.testing.assert_array_equal(np.nan_to_num(depth), sample.depth)
            case "/calibration", "foxglove.CameraCalibration":
                assert [*message.K] == sample.intrinsics.ravel().tolist()
                assert (message.width, message.height) == (32, 24)
            case "/prompt", "foxglove.Log":
                assert (message.name, message.message) == (sample.sample_id, sample.prompt)
            case other:
                pytest.fail(str(other))


def test_mcap_of_ros_2_is_read_by_its_own_reader_on_the_topics_that_its_packages_expect(
    metric_run, metric_pairs, out
):
    from mcap.reader import make_reader
    from mcap_ros2.decoder import DecoderFactory

    exported(metric_run, out, "mcap", "pairs_per_file=3", "messages=ros2")
    found = {}
    for path in sorted(out.glob("*.mcap")):
        with path.open("rb") as file:
            reader = make_reader(file, decoder_factories=[DecoderFactory()])
            assert reader.get_header().profile == "ros2"
            for schema, channel, message, decoded in reader.iter_decoded_messages():
                assert channel.message_encoding == "cdr"
                number = message.log_time // 10**9 - 1
                found[number, channel.topic] = (schema.name, decoded)
    assert len(found) == 4 * 5
    for number, (sample, files) in enumerate(metric_pairs):
        kind, image = found[number, "/rgb/image/compressed"]
        assert (kind, image.format) == ("sensor_msgs/msg/CompressedImage", "jpeg")
        assert bytes(image.data) == files["rgb"]
        kind, depth = found[number, "/depth/image"]
        assert (kind, depth.encoding, depth.is_bigendian) == ("sensor_msgs/msg/Image", "32FC1", 0)
        assert (depth.header.frame_id, depth.header.stamp.sec) == (
            "camera_optical_frame",
            number + 1,
        )
        metres = np.frombuffer(bytes(depth.data), "<f4").reshape(depth.height, depth.step // 4)
        np.testing.assert_array_equal(np.isnan(metres), ~sample.valid)
        np.testing.assert_array_equal(np.nan_to_num(metres), sample.depth)
        for topic in ("/rgb/camera_info", "/depth/camera_info"):
            kind, camera = found[number, topic]
            assert kind == "sensor_msgs/msg/CameraInfo"
            assert [*camera.k] == sample.intrinsics.ravel().tolist()
            assert [*camera.p][:3] == sample.intrinsics[0].tolist()
            assert (camera.height, camera.width, camera.roi.do_rectify) == (24, 32, False)
        assert found[number, "/prompt"][1].data == sample.prompt


@pytest.mark.parametrize("factor", [None, 0.7, 1.0])
def test_parquet_is_opened_by_datasets_with_16_bits_and_a_coloured_preview(
    metric_run, run_store, out, tmp_path, factor
):
    import datasets

    run = metric_run if factor is None else run_store
    exported(run, out, "parquet", "pairs_per_file=3", metres_per_unit=factor)
    rows = datasets.load_dataset(str(out), split="train", cache_dir=str(tmp_path / "cache"))
    stored = RGBDDataset(run.url)
    assert len(rows) == len(stored)
    for row, sample in zip(rows, stored, strict=True):
        assert row["sample_id"] == sample.sample_id
        assert row["depth_unit"] == "metres"
        assert (row["licence"], row["model_licence"]) == ("apache-2.0", "apache-2.0")
        assert row["estimator_licence"] is row["source_licence"] is None
        assert np.abs(np.asarray(row["image"]).astype(int) - sample.rgb).max() < 6
        assert np.ptp(np.asarray(row["preview"]), axis=2).max() > 100
        codes = np.asarray(row["depth"]).astype(np.float64)
        if row["depth_encoding"] == "linear":
            depth = codes * row["depth_unit_per_code"]
        else:
            depth = row["depth_near"] * np.exp((codes - 1) * row["depth_unit_per_code"])
        assert_depth(np.where(codes > 0, depth, 0), sample, 0, factor=factor or 1.0)
        assert row["metres_per_unit"] == factor
        assert row["depth_kind"] == ("metric_z" if factor is None else "estimated_metric_z")
        camera = [row[name] for name in ("fx", "fy", "cx", "cy")]
        if sample.intrinsics is None:
            assert camera == [None] * 4
        else:
            assert camera == sample.intrinsics[[0, 1, 0, 1], [0, 1, 2, 2]].tolist()


def test_parquet_of_relative_depth_keeps_its_kind(run_store, out):
    exported(run_store, out, "parquet")
    (path,) = out.glob("data/*.parquet")
    rows = pq.read_table(path, columns=["depth_kind", "depth_unit", "metres_per_unit"])
    assert rows.to_pylist() == [
        {"depth_kind": "scale_invariant_z", "depth_unit": "relative", "metres_per_unit": None}
    ] * len(rows)


def read_ply(path):
    header, _, body = path.read_bytes().partition(b"end_header\n")
    lines = header.decode().splitlines()
    about = dict(line.split(" ", 2)[1:] for line in lines if line.startswith("comment"))
    vertices = np.frombuffer(body, [("p", "<f4", 3), ("c", "u1", 3)])
    assert f"element vertex {len(vertices)}" in lines
    return vertices["p"], vertices["c"], about


def read_glb(path):
    data = path.read_bytes()
    magic, version, size = struct.unpack_from("<4sII", data)
    assert (magic, version, size) == (b"glTF", 2, len(data))
    length, kind = struct.unpack_from("<I4s", data, 12)
    assert kind == b"JSON"
    scene = json.loads(data[20 : 20 + length])
    found = []
    for accessor in scene["accessors"]:
        assert (accessor["componentType"], accessor["type"]) == (5126, "VEC3")
        view = scene["bufferViews"][accessor["bufferView"]]
        part = data[28 + length + view["byteOffset"] :][: view["byteLength"]]
        found.append(np.frombuffer(part, "<f4").reshape(accessor["count"], -1))
    points, light = found
    np.testing.assert_array_equal(scene["accessors"][0]["min"], points.min(axis=0))
    # Of linear light, so that what a viewer shows is the image's.
    shown = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    # Metres, y up, z towards the viewer.
    return points * (1, -1, -1), np.rint(255 * shown), scene["asset"]["extras"]


@pytest.mark.parametrize(("name", "read"), [("ply", read_ply), ("glb", read_glb)])
def test_points_project_to_their_pixels_with_their_depth_and_colour(
    metric_run, metric_pairs, out, name, read
):
    exported(metric_run, out, name)
    for sample, _ in metric_pairs:
        points, colours, about = read(out / f"{sample.sample_id}.{name}")
        fx, fy, cx, cy = map(float, about["fx_fy_cx_cy"].split())
        assert [fx, fy, cx, cy] == sample.intrinsics[[0, 1, 0, 1], [0, 1, 2, 2]].tolist()
        assert about["unit"] == "metres"
        columns = points[:, 0] / points[:, 2] * fx + cx
        rows = points[:, 1] / points[:, 2] * fy + cy
        pixels = np.rint(rows).astype(int), np.rint(columns).astype(int)
        np.testing.assert_allclose((rows, columns), pixels, atol=1e-3)
        assert len(points) == np.count_nonzero(sample.valid)
        np.testing.assert_array_equal(points[:, 2], sample.depth[pixels])
        np.testing.assert_array_equal(colours, sample.rgb[pixels])


def test_every_second_row_and_column_is_a_quarter_of_the_points(metric_run, out):
    exported(metric_run, out, "ply", "stride=2")
    points, _, _ = read_ply(next(out.glob("*.ply")))
    assert len(points) == 24 * 32 // 4 - 2


def test_pictures_that_are_made_anew_keep_the_mark(metric_run, out):
    exported(metric_run, out / "tum", "tum")
    exported(metric_run, out / "scannet", "scannet")
    pictures = [*out.rglob("*.png"), *out.rglob("*.jpg")]
    assert len(pictures) == 16
    for path in pictures:
        assert b"trainedAlgorithmicMedia" in path.read_bytes()


def marks_of(path):
    """Of all pictures of a file: of tables those of their columns."""
    if path.suffix != ".parquet":
        return {(path.parent.name, source_type(path.read_bytes()))}
    return {
        (name, source_type(row[name]["bytes"]))
        for row in pq.read_table(path).to_pylist()
        for name in row
        if isinstance(row[name], dict) and "bytes" in row[name]
    }


IMAGE, DEPTH = "observation.images.rgb", "observation.images.depth"


@pytest.mark.parametrize("said", ["", CAPTURED])
@pytest.mark.parametrize(
    ("name", "images", "depths"),
    [
        ("tum", ["rgb"], ["depth"]),
        ("scannet", ["color"], ["depth"]),
        ("bop", ["rgb"], ["depth"]),
        ("parquet", ["image"], ["depth", "preview"]),
        ("lerobot", [IMAGE], [DEPTH]),
    ],
)
def test_of_an_annotated_photograph_only_depth_is_marked_as_made(
    tmp_path, out, name, images, depths, said
):
    photograph = replace(metric_sample(0), mode="i2d", digital_source_type=said)
    store = ObjectStore.open(str(tmp_path / "run"))
    open_run(store, tiny_run.make_manifest())
    rejects = [tiny_run.make_reject(i) for i in range(1, tiny_run.SHARD_SIZE)]
    assert commit(store, tiny_run.upload_shard(store, 0, [photograph, *rejects]))
    exported(store, out, name)
    files = [
        path for path in out.rglob("*") if path.suffix in (".png", ".jpg", ".parquet", ".tiff")
    ]
    found = set().union(*map(marks_of, files))
    assert found == {
        *((image, said or None) for image in images),
        *((depth, DIGITAL_SOURCE_TYPE) for depth in depths),
    }
