from __future__ import annotations

import errno
import hashlib
import os
import pickle
import signal
import subprocess
import sys
import threading
import uuid
import zlib
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tiny_run
from tiny_run import RUN_ID, make_sample

from mfsynth.config.limits import Limit
from mfsynth.datasets import RGBDDataset, ranges
from mfsynth.datasets.frames import BufferPool
from mfsynth.errors import MfsynthError
from mfsynth.geometry import DepthKind, IntrinsicsSource
from mfsynth.shards import layout
from mfsynth.shards.commits import commit, read_commits
from mfsynth.shards.run_manifest import open_run
from mfsynth.shards.tables import take_rows

CANDIDATES = [0, 1, 2, 3, 6, 7, 8, 9]


def assert_is_sample(found, candidate):
    sample = make_sample(candidate)
    assert found.ref == sample.ref
    assert found.sample_id == sample.ref.sample_id
    assert (found.rgb.dtype, found.rgb.shape) == (np.uint8, sample.rgb.shape)
    assert np.abs(found.rgb.astype(int) - sample.rgb).max() < 12
    assert found.depth.dtype == np.float32
    np.testing.assert_allclose(found.depth, sample.depth, rtol=5e-4)
    np.testing.assert_array_equal(found.valid, sample.depth > 0)
    assert found.valid.dtype == bool
    assert (found.prompt, found.prompt_id) == (sample.ref.prompt, sample.ref.prompt_id)
    assert (found.candidate, found.seed) == (candidate, sample.ref.seed)
    assert (found.mode, found.model_id) == ("joint", "embedded")
    assert found.depth_kind is DepthKind.SCALE_INVARIANT_Z
    assert found.scores == pytest.approx(sample.scores, nan_ok=True)
    if sample.intrinsics is None:
        assert found.intrinsics is None
        assert found.intrinsics_source is None
    else:
        assert found.intrinsics.dtype == np.float64
        np.testing.assert_array_equal(found.intrinsics, sample.intrinsics.matrix())
        assert found.intrinsics_source is IntrinsicsSource.ASSUMED


@pytest.mark.parametrize("remote", [False, True])
def test_every_committed_pair_is_read_back_in_order(run_store, remote):
    url = run_store.url
    if remote:
        url = tiny_run.make_run(f"memory://{uuid.uuid4().hex}/run").url
    dataset = RGBDDataset(url)
    assert len(dataset) == 8
    for found, candidate in zip(dataset, CANDIDATES, strict=True):
        assert_is_sample(found, candidate)


def test_a_relative_run_is_read_when_the_working_directory_has_changed(
    run_store, tmp_path, monkeypatch
):
    monkeypatch.chdir(run_store.local_root.parent)
    dataset = RGBDDataset(run_store.local_root.name)
    pickled = pickle.dumps(dataset)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    assert_is_sample(dataset[0], 0)
    assert_is_sample(pickle.loads(pickled)[-1], 9)


def test_it_is_a_sequence(run_store):
    dataset = RGBDDataset(run_store.url)
    assert_is_sample(dataset[-1], 9)
    assert_is_sample(dataset[np.int64(4)], 6)
    assert [sample.candidate for sample in dataset[2:5]] == [2, 3, 6]
    for index in (8, -9):
        with pytest.raises(IndexError):
            dataset[index]


def test_the_index_chooses_samples_without_decoding(run_store):
    dataset = RGBDDataset(run_store.url)
    scores = dataset.index["check_registration"].to_numpy()
    (best,) = np.flatnonzero(scores == scores.max())
    assert dataset[best].candidate == 9


def test_uncommitted_objects_are_not_data(run_store):
    tiny_run.upload_shard(run_store, 3)
    run_store.put_bytes("shards/.tiny-000003.ab.tar.cd.part", b"half")
    run_store.put_bytes("_commits/.000003.json.ab.part", b"{")
    assert len(RGBDDataset(run_store.url)) == 8


def test_an_open_data_set_does_not_change_under_its_reader(run_store):
    dataset = RGBDDataset(run_store.url)
    commit(run_store, tiny_run.upload_shard(run_store, 3))
    assert len(dataset) == 8
    assert len(RGBDDataset(run_store.url)) == 12


def test_a_run_without_a_pair_is_an_empty_data_set(store_url):
    dataset = RGBDDataset(store_url)
    assert len(dataset) == 0
    assert list(dataset) == []


@pytest.fixture
def store_url(tmp_path):
    from mfsynth.storage.store import ObjectStore

    store = ObjectStore.open(tmp_path / "empty")
    open_run(store, tiny_run.make_manifest())
    return store.url


def to_arrays(sample):
    return {"rgb": sample.rgb, "depth": sample.depth, "candidate": sample.candidate}


def test_a_transform_is_applied_to_every_sample(run_store):
    dataset = RGBDDataset(run_store.url, transform=to_arrays)
    assert [item["candidate"] for item in dataset] == CANDIDATES


@pytest.mark.slow
@pytest.mark.parametrize(("workers", "start"), [(0, None), (2, "fork"), (1, "spawn")])
def test_torch_loads_it_with_any_workers(run_store, workers, start):
    from torch.utils.data import DataLoader

    dataset = RGBDDataset(run_store.url, transform=to_arrays)
    assert dataset[0]["candidate"] == 0  # files are open before the workers start
    loader = DataLoader(
        dataset, batch_size=2, num_workers=workers, multiprocessing_context=start, timeout=0
    )
    batches = list(loader)
    assert [c for batch in batches for c in batch["candidate"].tolist()] == CANDIDATES
    assert tuple(batches[0]["rgb"].shape) == (2, 24, 32, 3)


def test_it_pickles_without_its_open_files(run_store):
    dataset = RGBDDataset(run_store.url)
    assert_is_sample(dataset[5], 7)
    assert_is_sample(pickle.loads(pickle.dumps(dataset))[5], 7)


def test_few_files_are_open_at_a_time(run_store, monkeypatch):
    monkeypatch.setattr(ranges, "_MAX_OPEN_FILES", 1)
    dataset = RGBDDataset(run_store.url)
    for _ in range(3):
        assert [dataset[i].candidate for i in (0, 4, 1, 5)] == [0, 6, 1, 7]
    assert len(dataset._reader._files) == 1


def test_threads_may_share_it(run_store, monkeypatch):
    monkeypatch.setattr(ranges, "_MAX_OPEN_FILES", 1)
    dataset = RGBDDataset(run_store.url)
    seen: list[list[int]] = []

    def read():
        seen.append([dataset[i].candidate for _ in range(5) for i in range(8)])

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == [CANDIDATES * 5] * 4


def tar_of(store, shard=0):
    return store.local_root / read_commits(store)[shard].objects["tar"].key


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no forks")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_fork_has_no_locks_of_threads_that_it_has_not(run_store):
    dataset = RGBDDataset(run_store.url)
    pool = BufferPool()
    reader = dataset._reader
    with reader._lock, pool._lock:
        child = os.fork()
        if child == 0:
            # Killed if it waits for somebody who isn't here.
            signal.alarm(60)
            done = dataset[0].candidate == 0 and pool.empty((3,), np.uint8).shape == (3,)
            os._exit(0 if done else 1)
    assert os.waitpid(child, 0)[1] == 0
    # The locks of its parent are as they were.
    assert not reader._lock.locked()


def test_a_file_that_its_server_made_anew_is_opened_again(run_store, monkeypatch):
    dataset = RGBDDataset(run_store.url)
    dataset[0]
    [stale] = [file._descriptor for file in dataset._reader._files.values()]
    preadv, stale_reads = os.preadv, []

    def read(descriptor, *rest):
        if descriptor == stale and len(stale_reads) < 1:
            stale_reads.append(descriptor)
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
        return preadv(descriptor, *rest)

    monkeypatch.setattr(ranges.os, "preadv", read)
    assert [s.candidate for s in dataset.load(range(4))] == CANDIDATES[:4]
    assert stale_reads == [stale]

    def broken(*_: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(ranges.os, "preadv", broken)
    with pytest.raises(MfsynthError, match=rf"{RUN_ID}-000000000: Input/output error"):
        dataset[0]


@pytest.mark.parametrize("kind", ["pipe", "folder"])
def test_what_is_no_file_is_not_waited_for(run_store, kind):
    path = tar_of(run_store)
    path.unlink()
    if kind == "pipe":
        os.mkfifo(path)
    else:
        path.mkdir()
    with pytest.raises(MfsynthError, match=rf"{RUN_ID}-000000000: .*{path.name} is no file"):
        RGBDDataset(run_store.url)[0]


def test_a_truncated_shard_is_one_clear_line_and_the_others_are_read(run_store):
    path = tar_of(run_store, 1)
    os.truncate(path, 600)
    dataset = RGBDDataset(run_store.url)
    where = rf"{RUN_ID}-000001\..*truncated: {RUN_ID}-000000006"
    with pytest.raises(MfsynthError, match=where) as info:
        dataset[4]
    assert "\n" not in str(info.value)
    assert_is_sample(dataset[3], 3)


@pytest.mark.parametrize("part", ["rgb", "depth"])
def test_a_flipped_bit_is_never_returned_as_data(run_store, part):
    dataset = RGBDDataset(run_store.url)
    path = tar_of(run_store)
    data = bytearray(path.read_bytes())
    data[dataset.index[f"{part}_offset"][2].as_py() + 30] ^= 4
    path.write_bytes(data)
    with pytest.raises(MfsynthError, match=f"the {part} of {RUN_ID}-000000002 changed"):
        dataset[2]


def test_a_missing_shard_is_one_clear_line(run_store):
    tar_of(run_store).unlink()
    with pytest.raises(MfsynthError, match=rf"it is missing \(wanted for {RUN_ID}-000000000\)"):
        RGBDDataset(run_store.url)[0]


def test_a_missing_or_truncated_index_is_one_clear_line(run_store):
    key = read_commits(run_store)[1].objects["index"].key
    run_store.put_bytes(key, run_store.read_bytes(key)[:-9])
    with pytest.raises(MfsynthError, match=f"{key}: .* bytes, the receipt says"):
        RGBDDataset(run_store.url)
    run_store.delete(key)
    with pytest.raises(MfsynthError, match=f"{key} is missing"):
        RGBDDataset(run_store.url)


def test_a_place_without_a_run_is_one_clear_line(tmp_path):
    with pytest.raises(MfsynthError, match=f"is not a run: it has no {layout.RUN_KEY}"):
        RGBDDataset(tmp_path)


def test_reading_a_run_needs_no_torch():
    code = "import sys, mfsynth.datasets; print({'torch', 'ray'} & sys.modules.keys())"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "set()"


def test_no_flipped_bit_of_an_index_gives_a_wrong_sample(run_store):
    """100 flips: each is told when the data set is opened, in a line that names the file."""
    receipt = read_commits(run_store)[0]
    path = run_store.local_root / receipt.objects["index"].key
    whole = path.read_bytes()
    generator = np.random.default_rng(0)
    for bit in generator.choice(8 * len(whole), 100, replace=False):
        flipped = bytearray(whole)
        flipped[bit // 8] ^= 1 << (bit % 8)
        path.write_bytes(flipped)
        with pytest.raises(MfsynthError, match=r"index/tiny.*its bytes changed"):
            RGBDDataset(run_store.url)


def reindexed(store, **changes):
    """A run whose index and receipt agree, and are wrong."""

    def change(table):
        for name, value in changes.items():
            field = table.schema.field(name)
            column = value if isinstance(value, pa.Array) else pa.array([value], field.type)
            column = column.take(pa.array([0] * len(table)))
            table = table.set_column(table.schema.get_field_index(name), field, column)
        return table

    rewrite_index(store, change)


def rewrite_index(store, change):
    receipt = read_commits(store)[0]
    stored = receipt.objects["index"]
    path = store.local_root / stored.key
    pq.write_table(change(pq.read_table(path, partitioning=None)), path)
    data = path.read_bytes()
    objects = {
        **receipt.objects,
        "index": replace(stored, size=len(data), sha256=hashlib.sha256(data).hexdigest()),
    }
    changed = replace(receipt, objects=objects)
    (store.local_root / layout.commit_key(0)).write_text(changed.to_json())


@pytest.mark.parametrize(
    "changes",
    [
        {"depth_unit_per_code": float("nan")},
        {"depth_unit_per_code": -1.0},
        {"depth_near": 5.0, "depth_far": 1.0},
        {"depth_unit_per_code": 1e300},
        {"depth_unit_per_code": 1e-320},
        {"depth_encoding": "log", "depth_unit_per_code": 5.0},
        {"depth_near": 0.0, "depth_far": 0.0},
        {"depth_size": 5 * 10**10},
        {"depth_size": 2**62},
        {"depth_offset": 2**63 - 9},
        {"rgb_offset": -5},
        {"fx": 20.0, "fy": 20.0, "cx": None, "cy": 3.0},
        {"depth_kind": "furlongs"},
        {"depth_encoding": "cubic"},
        {"intrinsics_source": "guessed"},
        {"height": 2400},
        {"shard": 77},
        {"sample_id": "../other"},
    ],
    ids=str,
)
def test_a_row_that_makes_no_sense_is_one_line(run_store, changes):
    reindexed(run_store, **changes)
    dataset = RGBDDataset(run_store.url)
    with pytest.raises(MfsynthError, match="`mfsynth verify` says"):
        dataset[0]
    assert_is_sample(dataset[4], 6)


def test_an_image_of_another_size_is_not_decoded(run_store):
    """A header that says 20,000 pixels square would take gigabytes."""
    receipt = read_commits(run_store)[0]
    dataset = RGBDDataset(run_store.url)
    row = dataset.index.slice(0, 1).to_pylist()[0]
    path = run_store.local_root / receipt.objects["tar"].key
    data = bytearray(path.read_bytes())
    start, size = row["depth_offset"], row["depth_size"]
    data[start + 16 : start + 24] = (20_000).to_bytes(4) * 2
    path.write_bytes(data)
    crc = zlib.crc32(data[start : start + size])
    reindexed(run_store, depth_crc32=crc)
    with pytest.raises(MfsynthError, match="is 20000x20000, not 32x24"):
        RGBDDataset(run_store.url)[0]


def test_a_pair_of_too_many_pixels_is_not_decoded(run_store, monkeypatch):
    monkeypatch.setenv(Limit.PIXELS.variable, str(32 * 24 - 1))
    with pytest.raises(MfsynthError, match="is 32x24, more pixels than MFSYNTH_MAX_PIXELS"):
        _ = RGBDDataset(run_store.url)[0]
    monkeypatch.setenv(Limit.PIXELS.variable, str(32 * 24))
    assert RGBDDataset(run_store.url)[0].rgb.shape == (24, 32, 3)


def test_an_index_of_more_rows_than_its_receipt_says_is_not_unfolded(run_store):
    rewrite_index(run_store, lambda table: table.take(pa.array([0] * 1_000_000, pa.int32())))
    with pytest.raises(MfsynthError, match=r"1000000 rows, the receipt says 4; .*verify"):
        RGBDDataset(run_store.url)


@pytest.mark.parametrize("limit", [Limit.ROWS, Limit.BYTES])
def test_an_index_beyond_the_limits_is_not_unfolded(run_store, monkeypatch, limit):
    monkeypatch.setenv(limit.variable, "3")
    with pytest.raises(MfsynthError, match=f"index/tiny.*limit is 3; .* set {limit.variable}"):
        RGBDDataset(run_store.url)


def test_text_of_an_index_that_is_not_utf_8_is_a_clear_error(run_store):
    reindexed(run_store, prompt=pa.array([b"\xff"]).view(pa.string()))
    with pytest.raises(MfsynthError, match="not Parquet"):
        RGBDDataset(run_store.url)


def test_rows_are_taken_of_more_text_than_one_array_has_room_for():
    letters = pa.array(["x" * 2**20, "y" * 2**20])
    texts = pa.chunked_array([letters] * 1100)
    table = pa.table({"text": texts, "number": pa.array(range(2200))})
    found = take_rows(table, np.array([2199, 0, 7, 0]))
    assert found["number"].to_pylist() == [2199, 0, 7, 0]
    assert [text[0] for text in found["text"].to_pylist()] == ["y", "x", "y", "x"]
    assert take_rows(table, np.array([], np.int64)).schema == table.schema
