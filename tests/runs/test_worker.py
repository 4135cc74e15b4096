from __future__ import annotations

import errno
import itertools
import os
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import cv2
import numpy as np
import pyarrow.parquet as pq
import pytest
import tiny_recognisers
from standin import Behaviour, StandInPipeline, accepted
from started import plan_of, start

from mfsynth.checks import Check, Score, registry
from mfsynth.checks.self_agreement import self_agreement
from mfsynth.datasets import RGBDDataset
from mfsynth.errors import MfsynthError
from mfsynth.geometry.colour import INVALID_RGB, colour_depth
from mfsynth.models import load_pipeline
from mfsynth.models.recognition.opening import open_detector
from mfsynth.runs.making import joint, with_own_depth
from mfsynth.runs.pool import open_shard_worker
from mfsynth.runs.protocol import Assignment, Failed, FailureCause, Made, Progress, Waiting
from mfsynth.runs.thumbnails import MAX_HEIGHT, pair_thumbnail
from mfsynth.runs.worker import QUIET_ATTEMPTS, ShardWorker
from mfsynth.shards import layout
from mfsynth.shards.commits import commit
from mfsynth.shards.marks import source_type
from mfsynth.shards.records import DIGITAL_SOURCE_TYPE
from mfsynth.shards.run_manifest import run_sha256
from mfsynth.shards.verify import verify_run
from mfsynth.storage.errors import StoreError, StoreFullError, StoreRefusedError
from mfsynth.storage.store import ObjectStore


def worker_of(config, pipeline) -> ShardWorker:
    start(config)
    return ShardWorker(config, pipeline)


def standin(config, **behaviour) -> ShardWorker:
    return worker_of(config, StandInPipeline(config, Behaviour(**behaviour)))


def make(worker, config, shard=0, attempt="a", batch_size=4, **assignment):
    candidates = plan_of(config).shard(shard)
    task = Assignment(shard, attempt, batch_size, **assignment)
    return list(worker.make_shard(task, candidates))


def test_a_shard_accounts_for_every_candidate(run_folder):
    config = run_folder.config()
    *progress, made = make(standin(config), config, shard=1)
    assert progress == [Progress(8, 0), Progress(12, 4), Progress(None, 8)]
    assert isinstance(made, Made)
    receipt = made.receipt
    good = sum(accepted(c.seed) for c in plan_of(config).shard(1))
    assert (receipt.first_candidate, receipt.candidates) == (8, 8)
    assert (receipt.accepted, receipt.rejected, receipt.quarantined) == (good, 8 - good, 0)
    assert receipt.reasons == {"dynamic_range": 8 - good}
    assert {"generate", "check", "encode", "write", "upload", "total"} <= {*receipt.seconds}


def test_a_receipt_counts_what_the_model_makes_of_prompts_and_names_the_device(run_folder):
    """The tiny model reads twelve tokens, and knows the words of one sentence."""
    (run_folder.folder / "prompts.txt").write_text("a red cube\na saucepan\n" + "a cube " * 20)
    config = run_folder.config()
    start(config)
    receipt = make(open_shard_worker(config, "cpu"), config)[-1].receipt
    # Of prompts 0 to 7 the second, and the third, of three that come in turn.
    assert (receipt.prompts_unknown, receipt.prompts_cut) == (3, 2)
    assert receipt.device == "cpu"
    assert receipt.device_name


def test_a_worker_that_can_not_tell_counts_nothing(run_folder):
    receipt = make(standin(config := run_folder.config()), config)[-1].receipt
    assert (receipt.prompts_unknown, receipt.prompts_cut, receipt.device) == (None, None, "")


def test_checks_see_the_prompt_and_what_it_took_for_its_slots(run_folder):
    models = {
        "prompt_agreement": tiny_recognisers.clip(run_folder.folder / "clip"),
        "prompt_objects": tiny_recognisers.judge(run_folder.folder / "judge"),
    }
    library = run_folder.folder / "shapes.yaml"
    library.write_text("templates: ['a {shape} on a table']\nslots: {shape: [cube, cone, ball]}\n")
    run_folder.values["prompts"] = {"library": str(library)}
    run_folder.values["checks"] = {name: {"model": str(at)} for name, at in models.items()}
    run_folder.values["checks"]["prompt_objects"]["things"] = ["red {shape}"]
    config = run_folder.config()
    receipt = make(standin(config), config)[-1].receipt
    assert receipt.accepted == 8
    index = pq.read_table(run_folder.output / receipt.objects["index"].key)
    assert index["check_prompt_agreement"].null_count == 0
    # Of the shapes the tiny judge knows two; one that it doesn't know may be absent.
    seen = [value is not None for value in index["check_objects_found"].to_pylist()]
    assert seen == [{*shapes} <= {"cube", "ball"} for shapes in index["slot_shape"].to_pylist()]
    assert {*seen} == {True, False}
    shutil.rmtree(models["prompt_objects"])
    open_detector.cache_clear()
    with pytest.raises(MfsynthError, match=r"^checks\.prompt_objects: "):
        ShardWorker(config, StandInPipeline(config, Behaviour()))


def test_what_is_made_is_in_the_store_and_not_committed(run_folder):
    config = run_folder.config()
    receipt = make(standin(config), config)[-1].receipt
    store = ObjectStore.open(config.output)
    assert {"run.json", *(o.key for o in receipt.objects.values())} == {*store.list()}
    assert receipt.run_sha256 == run_sha256(store)
    assert commit(store, receipt)


def test_two_attempts_with_one_batch_size_give_the_same_bytes(run_folder):
    config = run_folder.config()
    first, second = (make(standin(config), config, attempt=name)[-1].receipt for name in "ab")
    assert first.objects["tar"].key != second.objects["tar"].key
    assert first.objects["tar"].sha256 == second.objects["tar"].sha256
    assert first.objects["index"].sha256 == second.objects["index"].sha256


def test_the_next_shard_is_made_while_one_is_uploaded(run_folder, monkeypatch):
    config = run_folder.config()
    worker = standin(config)
    may_upload, put_file = threading.Event(), ObjectStore.put_file

    def put_file_later(self, local_path, key):
        assert may_upload.wait(60)
        put_file(self, local_path, key)

    monkeypatch.setattr(ObjectStore, "put_file", put_file_later)
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(make, worker, config, shard=0)
        second = worker.make_shard(Assignment(1, "b", 4), plan_of(config).shard(1))
        while next(second) != Progress(None, 8):
            pass
        assert not first.done()
        may_upload.set()
        receipts = [first.result()[-1].receipt, next(second).receipt]
    alone = make(standin(config), config, shard=1, attempt="c")[-1].receipt
    assert [receipt.shard for receipt in receipts] == [0, 1]
    assert receipts[1].objects["tar"].sha256 == alone.objects["tar"].sha256


def test_isolation_announces_every_candidate_before_it_begins(run_folder):
    config = run_folder.config()
    messages = make(standin(config), config, isolate=True)
    assert messages[:-1] == [*(Progress(i, i) for i in range(8)), Progress(None, 8)]


def test_batches_of_a_compiled_model_have_one_size_for_which_it_warms_up_once(run_folder):
    config = run_folder.config()
    plain = make(standin(config), config, batch_size=3)[-1].receipt
    sizes = []

    class Compiled(StandInPipeline):
        def encode_prompts(self, prompts, batch_size):
            sizes.append((len(prompts), batch_size))
            return super().encode_prompts(prompts, batch_size)

        def __call__(self, *, seeds, **given):
            sizes.append(len(seeds))
            return super().__call__(seeds=seeds, **given)

    @contextmanager
    def warm_up():
        sizes.append("warm-up")
        yield

    worker = ShardWorker(config, Compiled(config, Behaviour()), warm_up)
    receipt = make(worker, config, batch_size=3)[-1].receipt
    assert sizes == [(9, 3), "warm-up", 3, 3, 3, 3]
    assert receipt.seconds["compile"] >= 0
    sizes.clear()
    make(worker, config, shard=1, batch_size=3)
    make(worker, config, shard=1, batch_size=8)
    assert sizes == [(9, 3), 3, 3, 3, (8, 8), "warm-up", 8, 8]
    assert receipt.objects["tar"].sha256 == plain.objects["tar"].sha256


def test_quarantined_candidates_are_recorded_and_not_made(run_folder):
    config = run_folder.config()
    worker = standin(config, raises=[3])
    messages = make(worker, config, isolate=True, quarantined={3: "it died"})
    receipt = messages[-1].receipt
    assert receipt.quarantined == 1
    assert receipt.accepted + receipt.rejected == 7
    assert Progress(3, 3) not in messages


def test_an_exception_is_a_failure_with_its_words(run_folder):
    config = run_folder.config()
    failed = make(standin(config, raises=[5]), config)[-1]
    assert failed == Failed(FailureCause.ERROR, "ValueError: candidate 5 is impossible")
    assert [*ObjectStore.open(config.output).list()] == ["run.json"]


@pytest.mark.parametrize("culprit", ["run_checks", "encode_sample", "model"])
def test_what_a_part_refuses_is_no_trouble_of_the_store(run_folder, monkeypatch, culprit):
    def refuse(*_, **__):
        raise MfsynthError("an image of 64x64 can't be brought to the network")

    config = run_folder.config()
    worker = standin(config)
    if culprit == "model":
        monkeypatch.setattr(StandInPipeline, "__call__", refuse)
    else:
        monkeypatch.setattr(f"mfsynth.runs.worker.{culprit}", refuse)
    failed = make(worker, config)[-1]
    assert failed.cause is FailureCause.ERROR
    assert failed.message.endswith("an image of 64x64 can't be brought to the network")


def test_a_full_spool_disk_is_waited_for_as_a_full_store_is(run_folder, monkeypatch):
    def fail(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    config = run_folder.config()
    worker = standin(config)
    monkeypatch.setattr(os, "fsync", fail)
    failed = make(worker, config)[-1]
    # Any other cause would kill the worker, and with it a shard that it keeps.
    assert (failed.cause, failed.may_pass) == (FailureCause.STORE, True)
    assert "no space left in the spool folder" in failed.message


def test_running_out_of_memory_is_told_apart_and_the_worker_goes_on(run_folder):
    config = run_folder.config()
    worker = standin(config, memory=2)
    assert make(worker, config)[-1].cause is FailureCause.OUT_OF_MEMORY
    assert isinstance(make(worker, config, batch_size=2)[-1], Made)


def test_an_output_that_cannot_be_written_is_a_failure_of_the_environment(run_folder):
    config = run_folder.config()
    worker = standin(config)
    shutil.rmtree(run_folder.output)
    run_folder.output.write_text("a file where the folder should be")
    failed = make(worker, config)[-1]
    assert (failed.cause, failed.may_pass) == (FailureCause.STORE, False)
    assert str(run_folder.output) in failed.message


@pytest.mark.parametrize("error", [StoreError, StoreFullError])
@pytest.mark.parametrize(("failures", "waits"), [(1, 0), (QUIET_ATTEMPTS + 4, 5)])
def test_a_shard_is_kept_until_it_can_be_uploaded(run_folder, monkeypatch, error, failures, waits):
    config = run_folder.config()
    worker = standin(config)
    upload, tries = ObjectStore.put_file, itertools.count()

    def flaky(self, path, key):
        if next(tries) < failures:
            raise error("slow down")
        upload(self, path, key)

    monkeypatch.setattr(ObjectStore, "put_file", flaky)
    monkeypatch.setattr("mfsynth.runs.worker.time.sleep", lambda seconds: None)
    *said, made = make(worker, config)
    assert said[-waits:] == [Waiting("slow down")] * waits if waits else Waiting not in said
    assert isinstance(made, Made)
    assert commit(ObjectStore.open(config.output), made.receipt)


def test_an_upload_that_waiting_does_not_help_is_not_tried_again(run_folder, monkeypatch):
    tries = []

    def refuse(self, path, key):
        tries.append(key)
        raise StoreRefusedError("renew the store's credentials")

    monkeypatch.setattr(ObjectStore, "put_file", refuse)
    config = run_folder.config()
    failed = make(standin(config), config)[-1]
    assert failed == Failed(FailureCause.STORE, "renew the store's credentials", may_pass=False)
    assert len(tries) == 1


def test_rejects_keep_a_picture_if_asked(run_folder):
    import pyarrow.parquet as pq

    for keep in (True, False):
        config = run_folder.config(
            keep_reject_thumbnails=keep, output=str(run_folder.folder / f"keep-{keep}")
        )
        receipt = make(standin(config), config)[-1].receipt
        table = pq.read_table(f"{config.output}/{receipt.objects['rejects'].key}").to_pylist()
        assert table
        assert all((row["thumbnail"] is not None) is keep for row in table)


@pytest.mark.parametrize("keep", ["none", "thumbnails", "all"])
def test_rejects_keep_what_is_asked_and_are_the_same_candidates(run_folder, keep):
    config = run_folder.config(keep_rejects=keep)
    receipt = make(standin(config), config)[-1].receipt
    assert commit(ObjectStore.open(config.output), receipt)
    assert verify_run(ObjectStore.open(config.output)).problems == ()
    table = pq.read_table(f"{config.output}/{receipt.objects['rejects'].key}")
    assert table["phash"].null_count == 0
    assert (table["thumbnail"].null_count == 0) is (keep != "none")
    assert (layout.REJECTED_TAR in receipt.objects) is (keep == "all")
    assert ("rgb_offset" in table.column_names) is (keep == "all")
    if keep == "all":
        assert table["rgb_offset"].null_count == 0
        assert {*table["mode"].to_pylist()} == {"joint"}


def test_a_reject_whose_depth_is_none_has_no_pixels(run_folder):
    class NoDepth(StandInPipeline):
        def __call__(self, **asked):
            pairs = super().__call__(**asked)
            pairs.depth[0] = np.nan
            return pairs

    config = run_folder.config(keep_rejects="all")
    worker = worker_of(config, NoDepth(config, Behaviour()))
    receipt = make(worker, config, batch_size=8)[-1].receipt
    table = pq.read_table(f"{config.output}/{receipt.objects['rejects'].key}")
    first = table.to_pylist()[0]
    # Whatever else is wrong with it, it counts once.
    assert first["reasons"].count("valid_fraction") == 1
    assert (first["rgb_offset"], first["width"]) == (None, None)
    assert first["phash"] is not None


@pytest.mark.parametrize("shape", [(16, 16), (40, 60), (700, 500)])
def test_a_thumbnail_shows_image_and_depth_side_by_side(shape):
    rgb = np.full((*shape, 3), 200, np.uint8)
    depth = np.linspace(1, 5, shape[0] * shape[1], dtype=np.float32).reshape(shape)
    depth[0, 0] = np.nan
    jpeg = pair_thumbnail(rgb, depth, DIGITAL_SOURCE_TYPE)
    assert source_type(jpeg) == DIGITAL_SOURCE_TYPE
    image = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
    assert image.shape[0] == min(shape[0], MAX_HEIGHT)
    assert abs(image.shape[1] / image.shape[0] - 2 * shape[1] / shape[0]) < 0.02
    left, right = np.split(image, 2, axis=1)
    assert abs(left.mean() - 200) < 3
    assert right.std() > 20


def test_a_thumbnail_has_the_colours_that_depth_has_elsewhere():
    depth = np.repeat(np.linspace(1, 3, 64, dtype=np.float32)[:, None], 64, axis=1)
    depth[48:] = 0
    jpeg = pair_thumbnail(np.full((64, 64, 3), 255, np.uint8), depth, DIGITAL_SOURCE_TYPE)
    image = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
    difference = np.abs(image[:, 64:].astype(int) - colour_depth(depth))
    assert difference[:, 8:].mean() < 8
    assert np.abs(image[56:, 72:].astype(int) - INVALID_RGB).max() < 12


JOINT_DEPTH = {"steps": 2, "refine_steps": 0}


class TwoDepths(StandInPipeline):
    """Depth that is made with the image is a wall; of the finished image it has a step."""

    def __init__(self, config):
        super().__init__(config, Behaviour())
        self.modes = []

    def __call__(self, *, mode, **asked):
        self.modes.append(mode)
        pairs = super().__call__(mode=mode, **asked)
        pairs.depth[:] = 1.0
        if mode == "i2d":
            pairs.depth[:, :, pairs.depth.shape[2] // 2 :] = 2.0
        return pairs


def index_of(config, receipt):
    return pq.read_table(f"{config.output}/{receipt.objects['index'].key}")


def test_a_check_sees_the_prompt_and_both_depths(run_folder, monkeypatch):
    class Letters(Check):
        inputs = ("text", "joint_depth")
        scores = (Score("letters", "letters", "higher", "in the prompt", limit="min"),)
        min: float = 11

        def measure(self, pair):
            assert (pair.joint_depth == 1).all()
            assert pair.depth.max() == 2
            return {"letters": len(pair.text)}

    monkeypatch.setattr(registry, "BUILT_IN", {"letters": Letters})
    config = run_folder.config(checks={"letters": {}}, sampler=JOINT_DEPTH)
    candidates = plan_of(config).shard(0)
    receipt = make(worker_of(config, TwoDepths(config)), config)[-1].receipt
    letters = [len(candidate.item.text) for candidate in candidates]
    kept = index_of(config, receipt)["check_letters"]
    assert kept.to_pylist() == [count for count in letters if count > 10]
    assert receipt.reasons == {"letters": letters.count(10)}


def test_the_depth_of_the_finished_image_is_kept_and_is_what_all_checks_judge(run_folder):
    checks = {"validity": {}, "self_agreement": {"max": 0.5}}
    config = run_folder.config(checks=checks, sampler=JOINT_DEPTH)
    model = TwoDepths(config)
    receipt = make(worker_of(config, model), config)[-1].receipt
    assert model.modes == ["joint", "i2d"] * 2
    assert receipt.accepted == 8
    table = index_of(config, receipt)
    assert table["check_dynamic_range"].to_pylist() == pytest.approx([2.0] * 8)
    # The best scale of a wall of 1 against halves of 1 and 2 is 1: half of the pixels are 1/2 off.
    assert table["check_self_agreement"].to_pylist() == pytest.approx([0.25] * 8)


@pytest.mark.parametrize("sampler", [{"steps": 2}, {"preset": "image_then_depth"}])
def test_nothing_is_made_again_where_depth_is_of_the_finished_image(run_folder, sampler):
    checks = {"validity": {"min_dynamic_range": 1.0}, "self_agreement": {"max": 0.0}}
    config = run_folder.config(checks=checks, sampler=sampler)
    model = TwoDepths(config)
    receipt = make(worker_of(config, model), config)[-1].receipt
    assert model.modes == ["joint"] * 2
    assert receipt.accepted == 8
    assert "self_agreement" not in receipt.seconds
    assert index_of(config, receipt)["check_self_agreement"].null_count == 8


def test_a_model_makes_pairs_with_its_own_depth_and_scores_them(run_folder):
    config = run_folder.config(
        shard_size=3,
        sampler=JOINT_DEPTH,
        checks={"validity": {"min_dynamic_range": 1.0}, "self_agreement": {"max": 1e9}},
    )
    store = start(config)
    pipeline = load_pipeline(config.model, "cpu")
    receipt = make(ShardWorker(config, pipeline), config, batch_size=3)[-1].receipt
    assert receipt.accepted == 3
    assert receipt.seconds["self_agreement"] > 0
    assert commit(store, receipt)
    candidates = plan_of(config).shard(0)
    embeds = pipeline.encode_prompts([candidate.item.text for candidate in candidates])
    made = joint(pipeline, config.sampler, candidates, embeds)
    again = with_own_depth(pipeline, made, embeds, steps=10)
    samples = list(RGBDDataset(config.output))
    assert len(samples) == 3
    for sample in samples:
        row = sample.candidate
        np.testing.assert_allclose(sample.depth, again.depth[row], rtol=1e-3)
        score = self_agreement(made.depth[row], again.depth[row])
        assert sample.scores["self_agreement"] == pytest.approx(score, rel=1e-4)
