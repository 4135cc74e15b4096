"""The plain depth network: its loss, its training, and what comes out."""

from __future__ import annotations

import json
import math
import re
import shutil
from dataclasses import replace

import numpy as np
import pytest
import tiny_run
import torch
from click.testing import CliRunner
from tiny_training import InMemory, mixture
from torch.testing import assert_close
from training_files import image, one_line_error, png, write

import mfsynth
from mfsynth.cli.train import train
from mfsynth.config.estimators import DepthEstimatorConfig
from mfsynth.datasets.loader import Loader
from mfsynth.errors import MfsynthError
from mfsynth.evaluation import score_depth
from mfsynth.geometry import DepthKind, EstimateKind, Intrinsics
from mfsynth.models.estimators.catalogue import estimator_info
from mfsynth.models.estimators.embedded import DepthEstimator, estimate_depth, load_estimator
from mfsynth.models.estimators.opening import open_estimator
from mfsynth.processes import usable_cores
from mfsynth.shards.commits import commit
from mfsynth.shards.refilter import refilter
from mfsynth.shards.views import Bound, Rules
from mfsynth.simulation import STYLES, render_dataset
from mfsynth.sources.base import DepthFacts
from mfsynth.training.checkpoints import latest_checkpoint
from mfsynth.training.data import Fitted
from mfsynth.training.data.mixture import Mixture, Part
from mfsynth.training.data.sparsity import AtMostPattern
from mfsynth.training.estimator import (
    EstimatorTrainer,
    _loader,
    _mixture,
    middle_focal,
    train_estimator,
)
from mfsynth.training.estimator_config import load_estimator_config
from mfsynth.training.estimator_losses import log_depth_loss, metric_log_depth_loss
from mfsynth.training.processes import join_processes
from mfsynth.training.progress import quiet

TINY = (
    *("size=16", "estimator.widths=[8, 16]", "estimator.blocks=1", "batch_size=4"),
    *("precision=float32", "workers=null"),
)


def ramp_mixture(**part):
    """Images whose brightness is their depth."""
    ramps = np.linspace(0, 255, 16) * np.linspace(0.5, 1, 8)[:, None]
    rgb = np.broadcast_to(ramps[:, None, :, None], (8, 16, 16, 3)).astype(np.uint8)
    return mixture(rgb, (1 + rgb[..., 0] / 85).astype(np.float32), **part)


def tiny_config(output, *changes):
    return load_estimator_config("estimator", [*TINY, f"output={output}", *changes])


def trainer_of(data, output, *changes, focal=None):
    return EstimatorTrainer(tiny_config(output, *changes), join_processes(), data, focal)


def random_maps(seed=0):
    generator = torch.Generator().manual_seed(seed)
    depth = torch.rand(3, 16, 16, generator=generator) + 0.5
    return torch.randn(3, 16, 16, generator=generator), depth


def test_the_loss_is_zero_for_the_right_depth_in_any_unit():
    _, depth = random_maps()
    assert_close(log_depth_loss((7 * depth).log(), depth), torch.zeros(3), atol=1e-6, rtol=0)


def test_a_constant_scale_of_depth_or_of_the_prediction_changes_nothing():
    prediction, depth = random_maps()
    expected = log_depth_loss(prediction, depth)
    assert_close(log_depth_loss(prediction, 1000 * depth), expected)
    assert_close(log_depth_loss(prediction + 3, depth), expected)


def test_invalid_pixels_have_no_gradient():
    prediction, depth = random_maps()
    depth[:, ::2] = 0
    prediction.requires_grad_()
    log_depth_loss(prediction, depth).sum().backward()
    assert (prediction.grad[:, ::2] == 0).all()
    assert (prediction.grad[:, 1::2] != 0).any()


def test_an_image_with_few_valid_pixels_weighs_less_and_one_with_none_nothing():
    prediction, depth = random_maps()
    depth[0] = 0
    depth[1:, 2:] = 0  # 32 of 64 pixels that count in full
    errors = prediction[1, :2] - depth[1, :2].log()
    losses = log_depth_loss(prediction, depth)
    assert losses[0] == 0
    assert losses[1].item() == pytest.approx((errors - errors.mean()).abs().sum().item() / 64)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_training_learns_depth_from_one_pixel_in_twenty(tmp_path, precision):
    data = ramp_mixture(sparsity=(AtMostPattern(share=0.05),))
    changes = ("steps=150", "warmup_steps=5", "ema=0.9", f"precision={precision}")
    trainer = trainer_of(data, tmp_path, *changes)
    said: list[str] = []
    trainer.run(said.append)
    trainer.export(tmp_path / "model")
    model = load_estimator(str(tmp_path / "model"))
    samples = [data.parts[0].source[index] for index in range(8)]
    depth = estimate_depth(model, np.stack([sample.rgb for sample in samples]))
    for found, sample in zip(depth, samples, strict=True):
        error = np.log(found / sample.depth)
        assert np.abs(error - np.median(error)).mean() < 0.1
    assert said[-1].startswith("step 150/150 depth")


def dies_at(trainer, step):
    """As if it were killed."""
    update = trainer._update

    def dies() -> None:
        if trainer.state.step == step:
            raise KeyboardInterrupt
        update()

    trainer._update = dies
    with pytest.raises(KeyboardInterrupt):
        trainer.run(quiet)


def run_loader(url, batch_size=4):
    """Of a run of eight pairs, in two steps an epoch."""
    augment = [Fitted(16, 16, mirror=True)]
    return mfsynth.open_dataset(url).loader(batch_size, seed=3, augment=augment)


@pytest.mark.parametrize("kind", ["mixture", "loader"])
def test_a_training_killed_in_mid_epoch_and_resumed_equals_one_that_was_not(tmp_path, kind):
    tiny_run.make_run(str(tmp_path / "run"))

    def trainer(output):
        data = ramp_mixture() if kind == "mixture" else run_loader(tmp_path / "run")
        return trainer_of(data, tmp_path / output, "steps=8", "checkpoint_every=3")

    whole = trainer("whole")
    whole.run(quiet)
    dies_at(trainer("parts"), 5)
    resumed = trainer("parts")
    assert resumed.resume()
    assert resumed.state.step == 3
    resumed.run(quiet)
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, resumed.model.state_dict()[name]), name
    for name, value in whole.state.average.items():
        assert torch.equal(value, resumed.state.average[name]), name


def test_what_workers_load_is_what_is_loaded_without(tmp_path):
    trainers = [
        trainer_of(ramp_mixture(), tmp_path / workers, "steps=2", f"workers={workers}")
        for workers in ("null", "1")
    ]
    for trainer in trainers:
        trainer.run(quiet)
    alone, loaded = (trainer.model.state_dict() for trainer in trainers)
    for name, value in alone.items():
        assert torch.equal(value, loaded[name]), name


def test_a_training_of_other_settings_or_data_is_refused(tmp_path):
    trainer_of(ramp_mixture(), tmp_path, "steps=2", "checkpoint_every=2").run(quiet)
    assert trainer_of(ramp_mixture(), tmp_path, "steps=2", "name=other").resume()
    # Every rate of an estimator depends on the end.
    with one_line_error(r"of other settings \(steps: 2 -> 3\); set them back"):
        trainer_of(ramp_mixture(), tmp_path, "steps=3").resume()
    [part] = ramp_mixture().parts
    fewer = Mixture((Part(InMemory([*part.source][:7])),), 16, 16)
    with one_line_error(r"of other settings \(items\.0: 8 -> 7\)"):
        trainer_of(fewer, tmp_path, "steps=2").resume()
    with one_line_error(r"learning_rate: .*; weight_decay: "):
        changes = ("steps=2", "learning_rate=1", "weight_decay=0.5")
        trainer_of(ramp_mixture(), tmp_path, *changes).resume()
    with one_line_error(r"estimator\.widths: \[8, 16\] -> \[8, 8\]"):
        trainer_of(ramp_mixture(), tmp_path, "steps=2", "estimator.widths=[8, 8]").resume()


def test_a_training_on_a_run_that_has_changed_is_refused(tmp_path):
    url, out = str(tmp_path / "run"), tmp_path / "out"
    store = tiny_run.make_run(url, shards=2)
    trainer_of(run_loader(url), out, "steps=2").run(quiet)
    assert commit(store, tiny_run.upload_shard(store, 3))
    with one_line_error("out: the state is of other samples, .* or give this training another"):
        trainer_of(run_loader(url), out, "steps=2").resume()


def test_runs_alone_are_learnt_from_through_their_loader(tmp_path, monkeypatch):
    urls = [str(tmp_path / name) for name in ("one", "two")]
    for url in urls:
        refilter(tiny_run.make_run(url), "strict", Rules({"registration": Bound(4, True)}))
    parts = [{"kind": "mfsynth", "url": url, "mirror": True} for url in urls]
    parts[1] |= {"view": "strict", "weight": 3.0}
    data = f"data={json.dumps(parts)}"
    config = tiny_config(tmp_path / "out", "steps=3", "batch_size=2", "workers=1", data)
    workers = []
    begin = Loader.__init__

    def noted(self, *args, **settings):
        workers.append(settings["workers"])
        begin(self, *args, **settings)

    monkeypatch.setattr(Loader, "__init__", noted)
    said: list[str] = []
    folder = train_estimator(config, said.append)
    assert "by mfsynth's loader: 14 pairs" in said
    assert workers == [1]
    assert load_estimator(str(folder)).config.size == 16
    assert latest_checkpoint(tmp_path / "out").record.loader["position"] == 6
    with one_line_error(r"data\.1: mirror is not that of data\.0"):
        parts[1]["mirror"] = False
        train_estimator(tiny_config(tmp_path / "out", f"data={json.dumps(parts)}"), quiet)


def test_runs_alone_are_loaded_by_threads_as_many_as_cores_if_none_are_set(tmp_path):
    data = f"data=[{{kind: mfsynth, url: {tiny_run.make_run(str(tmp_path / 'run')).url}}}]"
    for workers, expected in (("null", min(4, usable_cores())), ("3", 3)):
        config = tiny_config(tmp_path / "out", data, f"workers={workers}")
        loader = _loader(config, join_processes(), _mixture(config), quiet)
        assert (loader._workers, loader._spawns) == (expected, False)


@pytest.fixture
def spoilt(tmp_path):
    """A run of twelve pairs: the first can't be read, two have no valid depth."""
    store = tiny_run.ObjectStore.open(str(tmp_path / "run"))
    tiny_run.open_run(store, tiny_run.make_manifest())
    for shard in range(2):
        samples = [tiny_run.make_sample(6 * shard + i) for i in range(6)]
        samples[3] = replace(samples[3], depth=np.zeros_like(samples[3].depth))
        samples = [replace(each, depth_kind=DepthKind.METRIC_Z) for each in samples]
        commit(store, tiny_run.upload_shard(store, shard, samples))
    row = mfsynth.open_dataset(store.url).index.slice(0, 1).to_pylist()[0]
    [tar] = store.local_root.glob("shards/*-000000.*.tar")
    data = bytearray(tar.read_bytes())
    data[row["rgb_offset"] + 200] ^= 1
    tar.write_bytes(data)
    return f"data=[{{kind: mfsynth, url: {store.url}}}]"


@pytest.mark.parametrize("metric", ["metric=true", "metric=null"])
def test_a_pair_without_depth_teaches_nothing_and_a_damaged_one_ends_it_or_is_skipped(
    tmp_path, spoilt, metric
):
    settings = (spoilt, metric, "steps=6", "checkpoint_every=1")
    with one_line_error(r"the rgb of tiny-.*-000000000 changed"):
        train_estimator(tiny_config(tmp_path / "out", *settings), quiet)
    said: list[str] = []
    config = tiny_config(tmp_path / "out", *settings, "on_error=skip")
    folder = train_estimator(config, said.append)
    assert load_estimator(str(folder)).config.size == 16
    lost = [line for line in said if line.startswith("since step ")]
    assert re.fullmatch(r"since step \d, \d samples had no valid depth and taught .*", lost[0])
    assert re.fullmatch(r"since step \d, others stood in for [12] samples .* changed .*", lost[1])


def test_of_data_that_is_not_runs_alone_on_error_says_nothing(tmp_path, spoilt):
    write(tmp_path / "a.png", png(image(0)))
    images = f"{{kind: folder, layout: generic, path: {tmp_path}, images: '*.png'}}"
    data = spoilt.replace("]", f", {images}]")
    with one_line_error("on_error: is for data of runs alone; of others max_skipped"):
        train_estimator(tiny_config(tmp_path / "out", data, "on_error=skip"), quiet)


def test_a_training_that_meets_no_depth_at_all_is_stopped(tmp_path):
    data = ramp_mixture()
    blind = [replace(item, depth=0 * item.depth) for item in data.parts[0].source]
    trainer = trainer_of(Mixture((Part(InMemory(blind)),), 16, 16), tmp_path, "steps=2")
    with one_line_error("no sample of the first 2 steps has valid depth, so nothing was learnt"):
        trainer.run(quiet)
    assert latest_checkpoint(tmp_path) is None


def test_pairs_of_a_run_are_fitted_as_items_of_a_mixture_are(tmp_path):
    tiny_run.make_run(str(tmp_path))
    fitted = Fitted(16, 16, sparsity=(AtMostPattern(share=0.05),))
    pairs = mfsynth.open_dataset(tmp_path)
    one, again = (fitted(pairs[1], np.random.default_rng(seed)) for seed in (0, 0))
    assert one.rgb.shape == (16, 16, 3)
    assert 0 < np.count_nonzero(one.depth) <= 0.05 * 256
    np.testing.assert_array_equal(one.depth, again.depth)
    np.testing.assert_array_equal(one.valid, one.depth > 0)
    masked = replace(pairs[1], mask=np.ones((24, 32), np.uint16), camera_to_world=np.eye(4))
    moved = fitted(masked, np.random.default_rng(0))
    assert (moved.mask, moved.camera_to_world) == (None, None)
    # Of 24 rows, 32 columns and any window of them, the camera keeps its vertical angle.
    assert one.intrinsics[1, 1] == pytest.approx(pairs[1].intrinsics[1, 1] * 16 / 24)


def test_a_loss_that_is_no_number_stops_with_the_remedy(tmp_path):
    trainer = trainer_of(ramp_mixture(), tmp_path, "steps=2")
    next(iter(trainer.model.parameters())).data.fill_(math.nan)
    with pytest.raises(MfsynthError, match="lower learning_rate"):
        trainer.run(quiet)


def spoil_gradients(trainer, steps: range) -> None:
    """Make gradients of some steps infinite, whose losses are numbers."""

    def spoilt(gradient):
        return torch.full_like(gradient, math.inf) if trainer.state.step in steps else gradient

    trainer.model.head.weight.register_hook(spoilt)


def test_a_step_without_a_finite_gradient_is_left_out(tmp_path):
    trainer = trainer_of(ramp_mixture(), tmp_path, "steps=1")
    spoil_gradients(trainer, range(1))
    before = {name: weight.detach().clone() for name, weight in trainer.state.trained.items()}
    trainer.run(quiet)
    assert trainer.state.step == latest_checkpoint(tmp_path).step == 1
    for name, weight in before.items():
        assert torch.equal(trainer.state.trained[name], weight)
        assert torch.equal(trainer.state.average[name], weight)


def test_a_training_whose_gradients_stay_infinite_ends_with_what_to_do(tmp_path):
    trainer = trainer_of(ramp_mixture(), tmp_path, "steps=40", "checkpoint_every=4")
    spoil_gradients(trainer, range(2, 40))
    with one_line_error("in 10 steps in a row, to step 12; lower learning_rate, and begin anew"):
        trainer.run(quiet)
    assert all(weight.isfinite().all() for weight in trainer.state.average.values())


def test_estimated_depth_is_positive_with_a_geometric_mean_of_one():
    torch.manual_seed(0)
    model = DepthEstimator((8, 16), 1, 32)
    rgb = np.random.default_rng(0).integers(0, 256, (2, 32, 48, 3), dtype=np.uint8)
    depth = estimate_depth(model, rgb)
    assert depth.shape == (2, 32, 48)
    assert depth.dtype == np.float32
    assert (depth > 0).all()
    np.testing.assert_allclose(np.log(depth).mean(axis=(1, 2)), 0, atol=1e-5)


def test_an_unknown_estimator_is_one_line(tmp_path):
    with pytest.raises(MfsynthError, match="no depth estimator: name embedded") as caught:
        load_estimator(str(tmp_path))
    assert "\n" not in str(caught.value)


def test_the_command_trains_what_the_configuration_describes(tmp_path):
    pytest.importorskip("mujoco")
    render = "{library: tabletop_rooms, scenes: 2, views: 2, seed: 1}"
    data = f"data=[{{kind: cached_scenes, path: {tmp_path / 's'}, render: {render}}}]"
    settings = [*TINY, data, "steps=1", f"output={tmp_path / 'out'}"]
    arguments = ["estimator", *(part for setting in settings for part in ("--set", setting))]
    CliRunner().invoke(train, arguments, catch_exceptions=False)
    assert load_estimator(str(tmp_path / "out/model")).config.size == 16


def test_a_training_begins_as_another_estimator_with_more_levels_or_none(tmp_path):
    data = ramp_mixture()
    first = trainer_of(data, tmp_path / "first", "steps=2", "estimator.widths=[8]")
    first.run(quiet)
    first.export(tmp_path / "initial")
    began = load_estimator(str(tmp_path / "initial"))
    images = torch.rand(2, 3, 16, 16) * 2 - 1
    for widths in ("[8]", "[8, 16, 24]"):
        changes = ("seed=5", f"estimator.widths={widths}", f"initial={tmp_path / 'initial'}")
        trainer = trainer_of(data, tmp_path / widths, *changes, "steps=3")
        with torch.no_grad():
            assert_close(trainer.model(images), began(images))
        before = {name: value.clone() for name, value in trainer.model.state_dict().items()}
        trainer.run(quiet)
        # All of it learns.
        after = trainer.model.state_dict()
        assert all(not torch.equal(value, after[name]) for name, value in before.items())


def test_an_initial_estimator_may_move_but_not_change(tmp_path):
    for seed in range(2):
        torch.manual_seed(seed)
        DepthEstimator(widths=(8, 16), blocks=1, size=16).save_pretrained(tmp_path / f"{seed}")
    shutil.copytree(tmp_path / "0", tmp_path / "moved")
    data, out = ramp_mixture(), tmp_path / "out"
    first = trainer_of(data, out, f"initial={tmp_path / '0'}", "steps=2")
    first.run(quiet)
    assert trainer_of(data, out, f"initial={tmp_path / 'moved'}", "steps=2").resume()
    with pytest.raises(MfsynthError, match=r"of other settings \(initial: "):
        trainer_of(data, out, f"initial={tmp_path / '1'}", "steps=2").resume()


def test_an_initial_estimator_of_other_sizes_or_none_is_told(tmp_path):
    initial = DepthEstimator(widths=(8, 16), blocks=1, size=16)
    initial.save_pretrained(tmp_path / "initial")
    given = f"initial={tmp_path / 'initial'}"
    for sizes in ("estimator.widths=[8, 24]", "estimator.widths=[8]", "estimator.blocks=2"):
        with pytest.raises(MfsynthError, match=r"^initial: .* has widths \[8, 16\] and blocks 1;"):
            trainer_of(ramp_mixture(), tmp_path, given, sizes)
    with pytest.raises(MfsynthError, match=r"^initial: .*nowhere"):
        trainer_of(ramp_mixture(), tmp_path, f"initial={tmp_path / 'nowhere'}")


def test_a_dry_run_is_not_for_estimators():
    with pytest.raises(MfsynthError, match="--dry-run is for transformers"):
        CliRunner().invoke(train, ["estimator", "--dry-run"], catch_exceptions=False)


def test_the_embedded_estimator_knows_scenes_that_it_has_not_seen(tmp_path):
    pytest.importorskip("mujoco")
    of = {"library": "tabletop_shapes", "style": STYLES["close"], "size": 64}
    held_out = render_dataset(tmp_path / "scenes", scenes=12, views=1, seed=1001, **of)
    depth = estimate_depth(load_estimator(), held_out.rgb)
    assert score_depth(depth, held_out.depth).abs_rel < 0.06
    others = np.roll(depth, 1, axis=0)
    assert score_depth(others, held_out.depth).abs_rel > 0.1


FOCALS = (0.7, 1.4)


def metric_mixture() -> Mixture:
    """Ramps before two cameras: the same image is twice as far before the longer lens."""
    ramps = ramp_mixture().parts[0].source
    cameras = [Intrinsics(16 * FOCALS[n % 2], 16 * FOCALS[n % 2], 7.5, 7.5) for n in range(8)]
    items = [
        replace(
            item,
            depth=item.depth * np.float32(camera.fx / 16),
            intrinsics=camera,
            facts=DepthFacts(unit="metres"),
        )
        for item, camera in zip(ramps, cameras, strict=True)
    ]
    return Mixture((Part(InMemory(items)),), 16, 16)


def test_the_metric_loss_is_zero_for_the_right_metres_and_for_no_others():
    _, depth = random_maps()
    focals = torch.tensor([0.7, 1.0, 1.4])
    right = (depth / focals[:, None, None]).log()
    assert_close(metric_log_depth_loss(right, depth, focals), torch.zeros(3), atol=1e-6, rtol=0)
    off = metric_log_depth_loss(right, 2 * depth, focals)
    assert_close(off, torch.full((3,), math.log(2)))


def test_an_image_of_an_unknown_camera_teaches_a_metric_estimator_nothing():
    prediction, depth = random_maps()
    prediction.requires_grad_()
    losses = metric_log_depth_loss(prediction, depth, torch.tensor([math.nan, 1.0, 1.0]))
    losses.sum().backward()
    assert losses[0] == 0
    assert (prediction.grad[0] == 0).all()
    assert prediction.grad[1:].isfinite().all()


@pytest.mark.parametrize(("metric", "focal"), [("true", None), ("false", 1.0)])
def test_a_metric_training_is_given_a_focal_length_and_no_other_is(tmp_path, metric, focal):
    with pytest.raises(MfsynthError, match="wants the focal length of cameras"):
        trainer_of(metric_mixture(), tmp_path, f"metric={metric}", focal=focal)


def test_a_metric_training_learns_metres_behind_lenses_of_several_angles(tmp_path):
    steps = ("steps=120", "warmup_steps=5", "ema=0.9", "metric=true")
    data = metric_mixture()
    focal = middle_focal(data, 0)
    assert min(FOCALS) <= focal <= max(FOCALS)
    trainer = trainer_of(data, tmp_path, *steps, focal=focal)
    trainer.run(quiet)
    trainer.export(tmp_path / "model")
    settings = DepthEstimatorConfig(id=str(tmp_path / "model"))
    assert estimator_info(settings).gives is EstimateKind.METRIC_Z
    items = [*data.parts[0].source]
    rgb = np.stack([item.rgb for item in items])
    estimator = open_estimator(settings, "cpu")
    known = estimator(rgb, [item.intrinsics for item in items])
    guessed = estimator(rgb)
    for item, sure, unsure in zip(items, known, guessed, strict=True):
        error = np.log(sure.values / item.depth)
        assert np.abs(error).mean() < 0.15
        # What is left of the camera is one factor.
        ratio = item.intrinsics.fx / 16 / focal
        np.testing.assert_allclose(sure.values, ratio * unsure.values, rtol=1e-4)


def test_metres_are_not_learnt_of_data_that_has_none():
    with one_line_error(r"data\.0: metric is set, and its first image has no metres; leave"):
        middle_focal(ramp_mixture(), 0)
    [part] = metric_mixture().parts
    blind = InMemory(replace(item, intrinsics=None) for item in part.source)
    with one_line_error("has no camera"):
        middle_focal(Mixture((Part(blind),), 16, 16), 0)
    seldom = InMemory([next(iter(part.source)), *(4000 * [blind[1]])])
    with one_line_error("none of the first 256 samples of data has a camera"):
        middle_focal(Mixture((Part(seldom),), 16, 16), 0)


def test_a_metric_estimator_sees_letterboxed_images_through_their_own_lens():
    torch.manual_seed(0)
    model = DepthEstimator((8, 16), 1, 32, focal=1.0)
    rgb = np.random.default_rng(0).integers(0, 256, (1, 16, 64, 3), dtype=np.uint8)
    at_width, at_half = (Intrinsics(f, f, 31.5, 7.5) for f in (64.0, 32.0))
    wide, narrow = (estimate_depth(model, rgb, [camera]) for camera in (at_width, at_half))
    np.testing.assert_allclose(wide, 2 * narrow, rtol=1e-5)
    # The image fills the frame's width: its camera is the frame's.
    np.testing.assert_allclose(wide, estimate_depth(model, rgb), rtol=1e-5)
