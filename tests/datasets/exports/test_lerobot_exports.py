"""A LeRobot folder, read as its own reader reads it; `tests/peers/lerobot.py` has that reader."""

from __future__ import annotations

import io
import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tiny_run
from metric_run import make_episode_run, metric_sample
from PIL import Image
from training_files import one_line_error

from mfsynth.datasets import RGBDDataset
from mfsynth.datasets.exports.episodes import Episodes
from mfsynth.datasets.exports.exporting import export
from mfsynth.datasets.exports.pairs import Pairs
from mfsynth.datasets.exports.registry import open_exporter
from mfsynth.errors import MfsynthError
from mfsynth.shards.commits import commit
from mfsynth.shards.frame_columns import FrameColumn, decode_frame, encode_frame
from mfsynth.shards.labels import Moment
from mfsynth.shards.run_manifest import open_run
from mfsynth.sources.registry import source_settings
from mfsynth.storage.store import ObjectStore

RGB, DEPTH = "observation.images.rgb", "observation.images.depth"


@pytest.fixture
def exported(metric_run, out):
    pairs = Pairs(RGBDDataset(metric_run.url))
    export(pairs, "lerobot", open_exporter("lerobot", ["pairs_per_file=3"]), out)
    return out


def read_frames(folder):
    """Frames in the order of episodes, from the files that the episodes name."""
    info = json.loads((folder / "meta" / "info.json").read_text())
    episodes = [
        row
        for path in sorted((folder / "meta" / "episodes").glob("*/*.parquet"))
        for row in pq.read_table(path, partitioning=None).to_pylist()
    ]
    assert [row["episode_index"] for row in episodes] == [*range(info["total_episodes"])]
    for row in episodes:
        chunk, file = row["data/chunk_index"], row["data/file_index"]
        path = folder / info["data_path"].format(chunk_index=chunk, file_index=file)
        frames = pq.read_table(path, partitioning=None).to_pylist()
        of = [frame for frame in frames if frame["episode_index"] == row["episode_index"]]
        assert len(of) == row["length"] == 1
        assert row["dataset_from_index"] == of[0]["index"] == row["dataset_to_index"] - 1
        yield row, of[0]


def test_frames_have_their_depth_in_metres_their_image_camera_and_task(exported, metric_pairs):
    info = json.loads((exported / "meta" / "info.json").read_text())
    assert info["features"][DEPTH]["info"] == {"is_depth_map": True, "depth_unit": "m"}
    assert info["features"][DEPTH]["shape"] == [24, 32, 1]
    tasks = pd.read_parquet(exported / "meta" / "tasks.parquet")
    frames = [*read_frames(exported)]
    for (row, frame), (sample, files) in zip(frames, metric_pairs, strict=True):
        assert frame.keys() == info["features"].keys()
        assert frame[RGB]["bytes"] == files["rgb"]
        depth = Image.open(io.BytesIO(frame[DEPTH]["bytes"]))
        assert depth.mode == "F"
        np.testing.assert_array_equal(np.asarray(depth), sample.depth)
        assert b"trainedAlgorithmicMedia" in frame[DEPTH]["bytes"]
        k = sample.intrinsics
        assert frame["camera.intrinsics"] == [k[0, 0], k[1, 1], k[0, 2], k[1, 2]]
        assert frame["sample_id"] == sample.sample_id
        assert row["tasks"] == [sample.prompt]
        assert tasks.loc[sample.prompt].task_index == frame["task_index"]
    assert tasks.index.name == "task"


def test_a_jpeg_in_grey_that_an_older_run_kept_has_three_channels_too(tmp_path, out):
    sample = metric_sample(0)
    grey, stream = Image.fromarray(sample.rgb).convert("L"), io.BytesIO()
    grey.save(stream, "JPEG")
    kept = replace(sample, mode="i2d", digital_source_type="", jpeg=stream.getvalue())
    store = ObjectStore.open(str(tmp_path / "run"))
    open_run(store, tiny_run.make_manifest())
    rest = [tiny_run.make_reject(i) for i in range(2, tiny_run.SHARD_SIZE)]
    assert commit(store, tiny_run.upload_shard(store, 0, [kept, metric_sample(1), *rest]))
    dataset = RGBDDataset(store.url)
    export(Pairs(dataset), "lerobot", open_exporter("lerobot", ()), out)
    info = json.loads((out / "meta" / "info.json").read_text())
    pictures = [frame[RGB] for _, frame in read_frames(out)]
    opened = [np.asarray(Image.open(io.BytesIO(each["bytes"]))) for each in pictures]
    assert [list(each.shape) for each in opened] == [info["features"][RGB]["shape"]] * 2
    np.testing.assert_array_equal(opened[0], dataset[0].rgb)
    assert [each["path"].rpartition(".")[2] for each in pictures] == ["png", "jpg"]
    items = source_settings({"kind": "lerobot", "path": str(out)}).open()
    np.testing.assert_array_equal(items[0].rgb, dataset[0].rgb)


def test_statistics_of_small_pictures_are_those_of_all_stored_values(exported, metric_pairs):
    stats = json.loads((exported / "meta" / "stats.json").read_text())
    rgb = np.stack([sample.rgb for sample, _ in metric_pairs]) / 255
    depth = np.stack([sample.depth for sample, _ in metric_pairs]).astype(np.float64)[..., None]
    for name, values in ((RGB, rgb), (DEPTH, depth)):
        for key in ("min", "max", "mean", "std"):
            assert np.shape(stats[name][key]) == (values.shape[-1], 1, 1)
            wanted = getattr(values, key)(axis=(0, 1, 2))
            np.testing.assert_allclose(np.ravel(stats[name][key]), wanted, rtol=1e-6)
        assert stats[name]["count"] == [4]
    assert stats["index"]["max"] == [3]
    np.testing.assert_allclose(stats["index"]["std"], [np.std(range(4))])


def test_episodes_are_stretches_of_frames_without_a_gap_whatever_stands_between_them():
    rows = [("a-0", "x", 6, 0.2), ("a-1", None, None, None), ("a-2", "x", 0, 0.0), ("b-3", "x", 3)]
    rows += [("a-4", "x", 3, 0.1), ("a-5", "x", 12, 0.4), ("a-6", "y", 1, 7.0)]
    names = ("sample_id", "episode", "frame", "timestamp")
    table = pa.Table.from_pylist([dict(zip(names, row, strict=False)) for row in rows])
    found = Episodes.of(table)
    assert [ids.tolist() for ids in np.split(found.order, found.starts[1:-1])] == [
        *([2, 4, 0], [5], [3], [6], [1])
    ]
    assert found.steps.tolist() == [3, 3, 1, 3, 3]
    assert found.seconds == (pytest.approx(0.1),)
    assert found.episode_of(2) == (0, 2)
    assert len(Episodes.of(table.select(["sample_id"]))) == len(rows)


def test_episodes_are_of_frames_that_follow_each_other_and_come_back_so(tmp_path, out):
    moments = [Moment("pour", 2, 0.2), Moment("stack", 0), Moment("pour", 9, 0.9), None]
    moments += [Moment("pour", 10, 1.0), Moment("stack", 1)]
    store = make_episode_run(str(tmp_path / "run"), moments)
    exporter = open_exporter("lerobot", ["pairs_per_file=2"])
    export(Pairs(RGBDDataset(store.url)), "lerobot", exporter, out)
    info = json.loads((out / "meta/info.json").read_text())
    assert (info["fps"], info["total_episodes"], info["total_frames"]) == (10, 4, 6)
    # Frames 3 to 8 of the first are missing, so it is two.
    wanted = [("pour", [0]), ("pour", [2, 4]), ("stack", [1, 5]), ("", [3])]
    tables = [pq.read_table(path) for path in sorted((out / "meta/episodes").glob("*/*.parquet"))]
    index = 0
    for number, row in enumerate(row for table in tables for row in table.to_pylist()):
        episode, pairs = wanted[number]
        ends = row["dataset_from_index"], row["dataset_to_index"]
        assert (row["episode_index"], row["length"]) == (number, len(pairs))
        assert ends == (index, index + len(pairs))
        chunk, file = row["data/chunk_index"], row["data/file_index"]
        path = out / info["data_path"].format(chunk_index=chunk, file_index=file)
        frames = pq.read_table(path, partitioning=None).to_pylist()
        frames = [frame for frame in frames if frame["episode_index"] == number]
        assert [frame["index"] for frame in frames] == [*range(*ends)]
        assert [frame["frame_index"] for frame in frames] == [*range(len(pairs))]
        times = [frame["timestamp"] for frame in frames]
        np.testing.assert_allclose(times, np.arange(len(pairs)) / 10, rtol=1e-6)
        at = [0 if moments[pair] is None else moments[pair].frame for pair in pairs]
        assert [frame["source_frame"] for frame in frames] == at
        assert {frame["source_episode"] for frame in frames} == {episode}
        assert row["stats/frame_index/max"] == [len(pairs) - 1]
        assert frames[0].keys() == info["features"].keys()
        index += len(pairs)
    told = json.loads((out / "meta/provenance.json").read_text())
    assert [(e["episode"], e["frames"]) for e in told["episodes"]] == [
        (episode or None, len(pairs)) for episode, pairs in wanted
    ]
    assert {e["run"] for e in told["episodes"]} == {told["runs"][0]["run"]}
    back = source_settings({"kind": "lerobot", "path": str(out)}).open()
    made = RGBDDataset(store.url)
    for frame, pair in zip(back, [pair for _, pairs in wanted for pair in pairs], strict=True):
        np.testing.assert_array_equal(frame.depth, made[pair].depth)
        np.testing.assert_array_equal(frame.rgb, made[pair].rgb)
    places = [(one.episode, one.frame) for one in map(back.moment, range(4))]
    assert places == [("0", 0), ("1", 0), ("1", 1), ("2", 0)]


def runs_of_steps(tmp_path, seconds):
    """Runs over recordings of which one takes each frame, the other every third."""
    counts = {"each": (5, 1), "third": (4, 3)}
    for seed, (name, (count, step)) in enumerate(counts.items()):
        moments = [Moment(name, step * n, seconds[seed] * n) for n in range(count)]
        make_episode_run(str(tmp_path / name), moments, seed=seed)
    return Pairs(RGBDDataset([str(tmp_path / name) for name in counts]))


def test_each_run_has_its_own_step_between_frames(tmp_path, out):
    # 10.2 frames a second are 10 for sensors whose times jitter.
    pairs = runs_of_steps(tmp_path, (0.1, 0.098))
    export(pairs, "lerobot", open_exporter("lerobot"), out)
    info = json.loads((out / "meta/info.json").read_text())
    assert (info["fps"], info["total_episodes"], info["total_frames"]) == (10, 2, 9)
    told = json.loads((out / "meta/provenance.json").read_text())["episodes"]
    assert [(e["episode"], e["frames"], e["step"]) for e in told] == [
        ("each", 5, 1),
        ("third", 4, 3),
    ]


def test_runs_of_several_rates_are_refused_unless_one_is_given(tmp_path, out):
    pairs = runs_of_steps(tmp_path, (0.1, 0.3))
    with one_line_error("runs of 3, 10 frames a second, and a LeRobot data set has one rate"):
        export(pairs, "lerobot", open_exporter("lerobot"), out)
    assert not out.exists()
    export(pairs, "lerobot", open_exporter("lerobot", ["fps=10"]), out)
    info = json.loads((out / "meta/info.json").read_text())
    assert (info["fps"], info["total_episodes"]) == (10, 2)


def test_pairs_of_two_sizes_are_refused(tmp_path, out):
    store = tiny_run.make_run(str(tmp_path / "run"), shards=1)
    larger = [tiny_run.make_sample(6 + i, height=48) for i in range(2)]
    rejects = [tiny_run.make_reject(6 + i) for i in range(2, 6)]
    commit(store, tiny_run.upload_shard(store, 1, [*larger, *rejects]))
    pairs = Pairs(RGBDDataset(store.url), metres_per_unit=1.0)
    with pytest.raises(MfsynthError, match="pairs of 32x24, 32x48 pixels"):
        export(pairs, "lerobot", open_exporter("lerobot"), out)


MOMENTS = [Moment("pour", n) for n in range(3)]
ACTION = FrameColumn("float32", (2,), ["x", "y"])
REWARD, GRID = FrameColumn("float64", (1,)), FrameColumn("int16", (2, 3))
DONE, NOTE = FrameColumn("bool", (1,)), FrameColumn("string", (1,))


def frame_file(number, **columns):
    """What a frame has: an action, and these columns."""
    plain = {"float32": [0.1 * number, -0.0], "float64": number / 3, "bool": number == 1}
    plain |= {"string": f"note {number}", "int16": [[number, 0, -1], [2, 3, 4]]}
    columns = {"action": ACTION, **columns}
    found = {
        name: column.value(np.zeros(column.shape).tolist() if column.shape == (3,) else value)
        for name, column in columns.items()
        for value in [plain[column.dtype]]
    }
    return encode_frame(columns, found)


def make_frames(tmp_path, name, files, **more):
    return RGBDDataset(make_episode_run(str(tmp_path / name), MOMENTS, files, **more).url)


def pq_rows(paths):
    return [row for path in paths for row in pq.read_table(path, partitioning=None).to_pylist()]


def rows_in(out):
    return pq_rows(sorted((out / "data").glob("*/*.parquet")))


def exported_columns(dataset, out, *options):
    """What is said to be left out, features that pairs brought, and rows."""
    done = export(Pairs(dataset), "lerobot", open_exporter("lerobot", options), out)
    features = json.loads((out / "meta/info.json").read_text())["features"]
    rows = rows_in(out)
    assert all(row.keys() == features.keys() for row in rows)
    return done.left_out, features, rows


def test_columns_of_a_lerobot_source_are_columns_again_with_statistics(tmp_path, out):
    more = {"reward": REWARD, "grid": GRID, "done": DONE, "note": NOTE, "licence": NOTE}
    files = [frame_file(number, **more) for number in range(3)]
    files[2] = files[2].replace(b'"value": 0.6666666666666666', b'"value": "NaN"')
    left_out, features, rows = exported_columns(make_frames(tmp_path, "run", files), out)
    assert left_out == ""
    wanted = {"action": ACTION, **more}
    del wanted["licence"]
    for name, column in wanted.items():
        assert features[name] == column.described
        for file, row in zip(files, rows, strict=True):
            value = decode_frame(file)[1][name]
            np.testing.assert_array_equal(np.array(row[name], value.dtype), value)
    # The export's own.
    assert {row["licence"] for row in rows} == {"apache-2.0"}
    schema = pq.read_schema(next((out / "data").glob("*/*.parquet")))
    assert schema.field("action").type == pa.list_(pa.float32(), 2)
    assert schema.field("reward").type == pa.float64()
    assert schema.field("grid").type == pa.list_(pa.list_(pa.int16()))
    stats = json.loads((out / "meta/stats.json").read_text())
    np.testing.assert_allclose(stats["action"]["mean"], [0.1, 0], rtol=1e-6)
    assert stats["grid"]["max"] == [[2, 0, -1], [2, 3, 4]]
    assert (stats["reward"]["count"], stats["done"]["count"]) == ([2], [3])
    assert not stats.keys() & {"note", "licence"}


def test_episodes_that_lack_a_feature_are_of_one_table_with_those_that_have_it(tmp_path, out):
    import datasets

    def has(*action):
        return encode_frame({"action": ACTION}, {"action": np.float32(action)})

    moments = [Moment(name, number) for name in "abc" for number in range(2)]
    # NaN in all frames of the first episode, in one of the second, and in none of the third.
    files = [has(np.nan, 1), has(np.nan, 2), has(1, 2), has(np.nan, 4), has(5, 6), has(7, 8)]
    store = make_episode_run(str(tmp_path / "run"), moments, files)
    dataset = RGBDDataset(store.url)
    exporter = open_exporter("lerobot", ["pairs_per_file=2"])
    export(Pairs(dataset), "lerobot", exporter, out)
    paths = sorted((out / "meta/episodes").glob("*/*.parquet"))
    assert len(paths) == 3
    assert len({pq.read_schema(path) for path in paths}) == 1
    told = datasets.Dataset.from_parquet([*map(str, paths)], cache_dir=str(tmp_path / "cache"))
    assert told["stats/action/count"] == [None, [1], [2]]
    assert told["stats/action/min"] == [None, [1.0, 2.0], [5.0, 6.0]]
    assert json.loads((out / "meta/stats.json").read_text())["action"]["count"] == [3]


def test_cameras_that_some_pairs_lack_are_null_in_the_statistics_of_their_episodes(tmp_path, out):
    store = ObjectStore.open(str(tmp_path / "run"))
    open_run(store, tiny_run.make_manifest())
    unknown = {"intrinsics": None, "intrinsics_source": None, "camera": None}
    made = [replace(metric_sample(n), **(unknown if n < 2 else {})) for n in range(4)]
    rejects = [tiny_run.make_reject(n) for n in range(4, tiny_run.SHARD_SIZE)]
    commit(store, tiny_run.upload_shard(store, 0, [*made, *rejects]))
    pairs = Pairs(RGBDDataset(store.url))
    export(pairs, "lerobot", open_exporter("lerobot", ["pairs_per_file=2"]), out)
    paths = sorted((out / "meta/episodes").glob("*/*.parquet"))
    assert len({pq.read_schema(path) for path in paths}) == 1
    of_cameras = [row["stats/camera.intrinsics/count"] for row in pq_rows(paths)]
    assert of_cameras == [None, None, [1], [1]]


QUANTILES = {"q01": 0.01, "q10": 0.1, "q50": 0.5, "q90": 0.9, "q99": 0.99}


def test_quantiles_are_those_of_an_episodes_frames_and_means_of_episodes_by_their_frames(
    tmp_path, out
):
    actions = np.array([[-7, 1], [0, 5], [1, 2], [4, 0], [100, -3]], np.float64)
    files = [
        encode_frame({"action": ACTION}, {"action": action.astype(np.float32)})
        for action in actions
    ]
    moments = [*(Moment("pour", n) for n in range(3)), *(Moment("stack", n) for n in range(2))]
    store = make_episode_run(str(tmp_path / "run"), moments, files)
    export(Pairs(RGBDDataset(store.url)), "lerobot", open_exporter("lerobot"), out)
    [path] = (out / "meta/episodes").glob("*/*.parquet")
    rows = pq.read_table(path, partitioning=None).to_pylist()
    told = json.loads((out / "meta/stats.json").read_text())
    for name, share in QUANTILES.items():
        wanted = [np.quantile(part, share, axis=0) for part in (actions[:3], actions[3:])]
        for row, quantile in zip(rows, wanted, strict=True):
            np.testing.assert_allclose(row[f"stats/action/{name}"], quantile)
        np.testing.assert_allclose(told["action"][name], np.average(wanted, axis=0, weights=[3, 2]))
        # Of pictures, whose quantiles are taken one by one.
        pictures = [row[f"stats/{DEPTH}/{name}"] for row in rows]
        np.testing.assert_allclose(told[DEPTH][name], np.average(pictures, axis=0, weights=[3, 2]))
    assert [row["stats/action/count"] for row in rows] == [[3], [2]]
    assert [row[f"stats/{RGB}/count"] for row in rows] == [[3], [2]]
    assert told["action"]["min"] == [-7, -3]


def test_columns_that_pairs_do_not_share_are_left_out_and_named(tmp_path, out):
    here = make_frames(tmp_path, "a", [frame_file(n, reward=REWARD, grid=GRID) for n in range(3)])
    renamed = FrameColumn("float64", (1,), ["r"])
    other = {"grid": FrameColumn("float32", (3,)), "reward": renamed, "done": DONE}
    make_frames(tmp_path, "b", [frame_file(n, **other) for n in range(3)], seed=1)
    both = RGBDDataset([str(tmp_path / "a"), str(tmp_path / "b")])
    left_out, features, _ = exported_columns(both, out)
    assert left_out.startswith("grid, done of a LeRobot source: not in the export, for not all")
    assert features["action"] == ACTION.described
    assert features["reward"] == REWARD.described
    assert not features.keys() & {"grid", "done"}
    # Of pairs of which some have no columns at all, none are left.
    make_frames(tmp_path, "c", (), seed=2)
    three = RGBDDataset([str(tmp_path / "a"), str(tmp_path / "c")])
    left_out, features, _ = exported_columns(three, tmp_path / "c-out")
    assert left_out.startswith("action, reward, grid of a LeRobot source: not in the export")
    assert "action" not in features
    left_out, features, _ = exported_columns(here, tmp_path / "none", "columns=false")
    assert left_out == ""
    assert "action" not in features


@pytest.mark.parametrize(
    ("file", "problem"),
    [
        (encode_frame({}, {}), "lerobot.json has no action of float32 .2., as others of its run"),
        (b"{", "lerobot.json: not valid JSON"),
        (b"[]", "lerobot.json: no object of columns by name"),
        (b'{"action": 1}', "lerobot.json: action: no object with dtype, shape and value"),
        (b'{"action": {"dtype": "image"}}', "action: dtype is 'image', which is none of a column"),
        (
            b'{"action": {"dtype": "float32", "shape": [2], "value": [1, "2"]}}',
            "action: is no whole float32 of the shape .2.; leave it out, or set columns=false",
        ),
    ],
)
def test_a_pair_that_has_not_what_others_of_its_run_have_is_one_line(tmp_path, out, file, problem):
    dataset = make_frames(tmp_path, "run", [frame_file(0), file, frame_file(2)])
    with one_line_error(f"{dataset[1].sample_id}: .*{problem}"):
        export(Pairs(dataset), "lerobot", open_exporter("lerobot"), out)
