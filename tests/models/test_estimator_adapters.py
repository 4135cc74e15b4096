"""Depth models of others behind one interface: transformers' with tiny random weights."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_estimators
import torch
from safetensors.torch import load_file, save_file

from mfsynth.config.estimators import DepthEstimatorConfig
from mfsynth.errors import MfsynthError
from mfsynth.geometry import EstimateKind, Intrinsics
from mfsynth.models.estimators.catalogue import estimator_info, find_estimator
from mfsynth.models.estimators.opening import open_estimator, require_estimator

HEIGHT, WIDTH = 40, 60
EMBEDDED = find_estimator(DepthEstimatorConfig()).path
KNOWN = Intrinsics(fx=45.0, fy=45.0, cx=29.5, cy=19.5)


@dataclass(frozen=True)
class Case:
    make: Callable[..., Path]
    gives: EstimateKind
    sees: bool = False
    settings: dict[str, Any] = field(default_factory=dict)


CASES = {
    "depth_anything": Case(tiny_estimators.depth_anything, EstimateKind.AFFINE_INVARIANT_DISPARITY),
    "depth_anything_metric": Case(
        tiny_estimators.depth_anything,
        EstimateKind.METRIC_Z,
        settings={"depth_estimation_type": "metric", "max_depth": 20},
    ),
    "dpt": Case(tiny_estimators.dpt, EstimateKind.AFFINE_INVARIANT_DISPARITY),
    "zoedepth": Case(tiny_estimators.zoedepth, EstimateKind.METRIC_Z),
    "depth_pro": Case(tiny_estimators.depth_pro, EstimateKind.METRIC_Z, sees=True),
    "embedded": Case(lambda folder: Path("embedded"), EstimateKind.SCALE_INVARIANT_Z),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made: dict[str, Path] = {}

    def of(name: str) -> Path:
        if name not in made:
            place = tmp_path_factory.mktemp(name) / "model"
            made[name] = CASES[name].make(place, **CASES[name].settings)
        return made[name]

    return of


@pytest.fixture(scope="module")
def opened(folder):
    known: dict[str, Any] = {}

    def of(name: str) -> Any:
        if name not in known:
            known[name] = open_estimator(DepthEstimatorConfig(id=str(folder(name))), "cpu")
        return known[name]

    return of


def images(count: int = 3) -> np.ndarray:
    smooth = np.random.default_rng(0).integers(0, 256, (count, 5, 6, 3), dtype=np.uint8)
    return smooth.repeat(HEIGHT // 5, axis=1).repeat(WIDTH // 6, axis=2)


@pytest.mark.parametrize("name", CASES)
def test_what_an_estimator_gives_is_told_before_its_weights_are_read(name, folder):
    info = estimator_info(DepthEstimatorConfig(id=str(folder(name))))
    assert (info.gives, info.gives_camera) == (CASES[name].gives, CASES[name].sees)
    assert len(info.revision) == 64


@pytest.mark.parametrize("name", CASES)
def test_estimates_are_on_the_grid_of_the_image_and_of_the_kind_that_was_told(name, opened):
    estimates = opened(name)(images())
    assert len(estimates) == 3
    for each in estimates:
        assert each.values.shape == (HEIGHT, WIDTH)
        assert each.kind is CASES[name].gives
        assert each.valid.mean() > 0.9
        assert (each.intrinsics is not None) == CASES[name].sees
    assert np.ptp(estimates[0].values) > 0


@pytest.mark.parametrize("name", CASES)
def test_what_is_said_of_an_image_does_not_depend_on_the_others(name, opened):
    estimator = opened(name)
    for together, image in zip(estimator(images()), images(), strict=True):
        [alone] = estimator(image[None])
        # Sums of another order differ by their last bits.
        np.testing.assert_allclose(together.values, alone.values, rtol=2e-5, atol=2e-5)
        assert np.array_equal(together.valid, alone.valid)


@pytest.mark.parametrize("name", CASES)
def test_an_image_of_one_colour_or_one_pixel_has_an_estimate_and_a_ribbon_is_one_line(name, opened):
    estimator = opened(name)
    for height, width in ((1, 1), (16, 16)):
        [estimate] = estimator(np.full((1, height, width, 3), 127, np.uint8))
        assert estimate.valid.shape == (height, width)
    if name in ("depth_anything", "dpt", "embedded"):
        with pytest.raises(MfsynthError, match=r"200x20 pixels .* cut it into parts"):
            estimator(np.full((1, 20, 200, 3), 127, np.uint8))


def test_depth_lies_where_the_image_has_it(folder):
    """A network that gives brightness back finds a bright square in its place, unsqueezed."""

    class Brightness(torch.nn.Module):
        device, dtype = torch.device("cpu"), torch.float32

        def forward(self, pixel_values):
            seen = pixel_values.mean(dim=1)
            smaller = torch.nn.functional.avg_pool2d(seen, 2)
            return type("Output", (), {"predicted_depth": smaller})()

    rgb = np.zeros((1, HEIGHT, WIDTH, 3), np.uint8)
    rgb[0, 10:20, 40:56] = 255
    for name in ("depth_anything", "dpt"):
        estimator = open_estimator(DepthEstimatorConfig(id=str(folder(name))), "cpu")
        object.__setattr__(estimator, "model", Brightness())
        [estimate] = estimator(rgb)
        bright = estimate.values > (estimate.values.min() + estimate.values.max()) / 2
        rows, columns = np.nonzero(bright)
        found = rows.min(), rows.max(), columns.min(), columns.max()
        np.testing.assert_allclose(found, (10, 19, 40, 55), atol=2)


def test_a_known_camera_scales_metres_and_one_that_is_seen_is_told(opened):
    estimator = opened("depth_pro")
    [seen] = estimator(images(1))
    [known] = estimator(images(1), [KNOWN])
    assert seen.intrinsics is not None
    assert known.intrinsics == seen.intrinsics
    free = (seen.values > 2e-4) & (seen.values < 5e3) & (known.values > 2e-4)
    ratio = KNOWN.fx / seen.intrinsics.fx
    np.testing.assert_allclose(known.values[free], ratio * seen.values[free], rtol=1e-3)


def test_depth_pro_without_its_angle_is_metric_only_where_the_camera_is_known(tmp_path):
    folder = tiny_estimators.depth_pro(tmp_path / "model", use_fov_model=False)
    config = DepthEstimatorConfig(id=str(folder))
    info = estimator_info(config)
    assert (info.gives, info.metric_with_camera) == (EstimateKind.SCALE_INVARIANT_Z, True)
    estimator = open_estimator(config, "cpu")
    assert estimator(images(1))[0].kind is EstimateKind.SCALE_INVARIANT_Z
    assert estimator(images(1), [KNOWN])[0].kind is EstimateKind.METRIC_Z


def test_a_licence_is_the_cards_or_the_known_one_and_else_unknown(folder, tmp_path, monkeypatch):
    path = folder("dpt")
    info = estimator_info(DepthEstimatorConfig(id=str(path)))
    assert info.licence == "unknown"
    assert "ask whoever made them" in info.warning
    (path / "README.md").write_text("---\nlicense: mit\n---\n")
    with_card = estimator_info(DepthEstimatorConfig(id=str(path)))
    assert (with_card.licence, with_card.warning) == ("mit", "")
    assert with_card.revision == info.revision
    (path / "README.md").unlink()
    where = "mfsynth.models.estimators.catalogue.download"
    monkeypatch.setattr(where, lambda name, *_: folder("depth_anything_metric"))
    hub = "depth-anything/Depth-Anything-V2-Metric-Indoor-Small-hf"
    assert estimator_info(DepthEstimatorConfig(id=hub)).licence == "none stated"
    assert "contradict" in estimator_info(DepthEstimatorConfig(id=str(folder("depth_pro")))).warning


def test_weights_that_are_not_the_models_are_one_line(tmp_path):
    path = tiny_estimators.dpt(tmp_path / "model")
    config = DepthEstimatorConfig(id=str(path))
    weights = load_file(path / "model.safetensors")
    weights.pop("head.head.0.weight")
    save_file(weights, path / "model.safetensors", {"format": "pt"})
    with pytest.raises(MfsynthError, match=r"^estimator\.id: .*1 missing \(head\.head\.0\.weight"):
        open_estimator(config, "cpu")
    (path / "model.safetensors").write_bytes(b"none")
    with pytest.raises(MfsynthError, match="not a whole safetensors file"):
        require_estimator(config)


def test_a_pickle_is_not_read(tmp_path):
    path = tiny_estimators.dpt(tmp_path / "model")
    weights = load_file(path / "model.safetensors")
    (path / "model.safetensors").unlink()
    torch.save(weights, path / "pytorch_model.bin")
    with pytest.raises(MfsynthError, match="no weights"):
        open_estimator(DepthEstimatorConfig(id=str(path)), "cpu")


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"_class_name": "UNet2DModel"}, "is of none of embedded, transformers, moge"),
        ({"architectures": ["BertModel"], "model_type": "bert"}, "isn't known here"),
        (
            {
                "architectures": ["DPTForDepthEstimation"],
                "model_type": "dpt",
                "backbone_config": {"model_type": "dinov2"},
            },
            "whether it gives disparity or depth",
        ),
    ],
)
def test_a_model_whose_numbers_are_not_known_is_one_line(config, message, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(MfsynthError, match=message) as caught:
        estimator_info(DepthEstimatorConfig(id=str(tmp_path)))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "file", "key", "value"),
    [
        ("dpt", "config.json", "backbone_config", "dinov2"),
        ("dpt", "config.json", "architectures", 5),
        ("embedded", "config.json", "focal", "x"),
        ("embedded", "config.json", "focal", -1.0),
        *(
            (name, "preprocessor_config.json", key, value)
            for name in ("depth_anything", "dpt", "zoedepth", "depth_pro")
            for key, value in (
                ("size", {"shortest_edge": 32}),
                ("size", None),
                ("size", "x"),
                ("size", 0),
                ("ensure_multiple_of", 0),
                ("resample", 99),
                ("image_mean", [0.5]),
                ("image_std", [0.5, 0.5, 0]),
                ("do_resize", "no"),
            )
        ),
    ],
)
def test_a_file_with_a_value_that_is_none_is_one_line_before_any_image(
    name, file, key, value, folder, tmp_path
):
    path = tmp_path / "model"
    source = EMBEDDED if name == "embedded" else folder(name)
    shutil.copytree(source, path)
    values = json.loads((path / file).read_text())
    (path / file).write_text(json.dumps(values | {key: value}))
    config = DepthEstimatorConfig(id=str(path))
    with pytest.raises(MfsynthError) as caught:
        open_estimator(config, "cpu")
    said = str(caught.value)
    assert "\n" not in said
    assert said.startswith(f"estimator.id: {path / file}: {key}")
    assert said.endswith("; take the file that came with the weights")
    # A run knows it before it starts.
    with pytest.raises(MfsynthError, match=key):
        estimator_info(config)


@pytest.mark.parametrize("name", ["dpt", "depth_anything", "zoedepth"])
def test_a_null_of_the_image_processor_is_the_default_of_its_class(name, folder, tmp_path):
    rgb = np.random.default_rng(0).integers(0, 256, (1, 56, 56, 3), np.uint8)
    nulls = ("image_mean", "image_std", "rescale_factor", "ensure_multiple_of")
    found = []
    for given in ({}, dict.fromkeys(nulls)):
        path = tmp_path / str(len(given))
        shutil.copytree(folder(name), path)
        file = path / "preprocessor_config.json"
        values = {k: v for k, v in json.loads(file.read_text()).items() if k not in nulls}
        file.write_text(json.dumps(values | given))
        found += open_estimator(DepthEstimatorConfig(id=str(path)), "cpu")(rgb)
    np.testing.assert_array_equal(found[0].values, found[1].values)


def test_depth_pro_leaves_no_colour_to_a_default(folder, tmp_path):
    path = tmp_path / "model"
    shutil.copytree(folder("depth_pro"), path)
    file = path / "preprocessor_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"image_mean": None}))
    with pytest.raises(MfsynthError, match="image_mean"):
        estimator_info(DepthEstimatorConfig(id=str(path)))


def test_a_kind_that_the_files_are_not_of_is_one_line(folder):
    with pytest.raises(MfsynthError, match=r"is of transformers, not of moge; set kind to auto"):
        estimator_info(DepthEstimatorConfig(id=str(folder("dpt")), kind="moge"))


@pytest.mark.parametrize(
    ("config", "gives", "package"),
    [
        (
            {"encoder": {}, "neck": {}, "points_head": {}, "scale_head": {}},
            EstimateKind.METRIC_Z,
            "MoGe",
        ),
        ({"model_name": "da3metric-large"}, EstimateKind.SCALE_INVARIANT_Z, "Depth Anything 3"),
        ({"model_name": "da3nested-giant-large"}, EstimateKind.METRIC_Z, "Depth Anything 3"),
    ],
)
def test_a_package_that_is_not_installed_is_one_line(config, gives, package, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(config))
    settings = DepthEstimatorConfig(id=str(tmp_path))
    assert estimator_info(settings).gives is gives
    pattern = rf"needs the package of {package} .*docs/how-to/estimators\.md"
    with pytest.raises(MfsynthError, match=pattern):
        open_estimator(settings, "cpu")
