"""`mfsynth evaluate`, from a configuration to tables, and what it says of what is wrong."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import tiny_run

from mfsynth.cli import main
from mfsynth.config import ModelConfig
from mfsynth.config.resources import resource_names
from mfsynth.errors import MfsynthError
from mfsynth.evaluation.config import load_evaluate_config
from mfsynth.models import model_info
from mfsynth.shards.commits import commit
from mfsynth.shards.run_manifest import open_run
from mfsynth.storage.store import ObjectStore

REAL = Path(__file__).parents[1] / "data" / "real_rgbd" / "ycb_posecnn"


@pytest.fixture
def evaluate(capsys):
    def run(*arguments):
        with pytest.raises(SystemExit) as ended:
            main(["evaluate", *(str(argument) for argument in arguments)])
        return ended.value.code or 0, capsys.readouterr()

    return run


def setting(key, value):
    return "--set", f"{key}={json.dumps(value)}"


@pytest.fixture
def real_scannet(tmp_path) -> Path:
    """Three real frames in ScanNet's layout."""
    scene = tmp_path / "scannet" / "scene0000_00"
    for part, kind in (("color", "rgb.jpg"), ("depth", "depth.png")):
        (scene / part).mkdir(parents=True)
        for path in REAL.glob(f"*.{kind}"):
            shutil.copy(path, scene / part / f"{path.name[4:10]}{path.suffix}")
    return scene.parent


def test_the_embedded_model_on_scenes_real_frames_and_a_run(evaluate, real_scannet, tmp_path):
    pytest.importorskip("mujoco")
    run = tmp_path / "run"
    store = ObjectStore.open(str(run))
    # As a run that samples by few-step weights of the same model.
    revision = f"{model_info(ModelConfig()).revision}+few"
    open_run(store, replace(tiny_run.make_manifest(), model={"id": "x", "revision": revision}))
    commit(store, tiny_run.upload_shard(store, 0))
    render = {"scenes": 2, "views": 2, "size": 64, "seed": 1001}
    data = [
        {"kind": "cached_scenes", "path": str(tmp_path / "scenes"), "render": render},
        {"kind": "scannet", "path": str(real_scannet)},
        {"kind": "mfsynth", "url": str(run)},
    ]
    out = tmp_path / "out"
    status, shown = evaluate(
        *("--out", out),
        *setting("data", data),
        *setting("alignments", ["affine", "scale"]),
        *setting("steps", 2),
    )
    assert status == 0
    rows = json.loads((out / "results.json").read_text())
    names = ["tabletop scenes, seed 1001", "scannet", str(run)]
    assert [row["data_set"] for row in rows] == [name for name in names for _ in range(2)]
    assert [row["alignment"] for row in rows] == ["affine", "scale"] * 3
    for row in rows:
        assert (row["model"], row["steps"], row["input_size"]) == ("embedded", 2, [128, 128])
        assert len(row["revision"]) == 64
        assert 0 < row["abs_rel"] < 1
        assert 0 < row["delta1"] <= row["delta2"] <= row["delta3"] <= 1
    scenes, real, generated = rows[1], rows[3], rows[5]
    assert (scenes["images"], scenes["complete"]) == (4, None)
    assert (real["images"], real["complete"], real["protocol"]) == (3, False, "marigold/scannet")
    assert real["truth_sizes"] == [[480, 640]]
    assert (generated["images"], generated["protocol"]) == (4, "plain")
    assert [row["truth_by"] for row in rows] == [None] * 4 + ["this model itself"] * 2

    table = (out / "results.md").read_text()
    assert "| 3, not the protocol's 800 |" in table
    assert table.count(f"{run}: its depth was made by this model itself. The figures say how") == 2
    assert table.strip() in shown.out
    assert shown.out.rstrip().endswith(f"results: {out / 'results.json'}, {out / 'results.md'}")
    assert "scannet: images 3 of 3" in shown.err


def test_an_unreadable_frame_is_named_in_one_line(evaluate, real_scannet, tiny_model_dir, tmp_path):
    broken = real_scannet / "scene0000_00" / "color" / "000002.jpg"
    broken.write_bytes(broken.read_bytes()[:5000])
    status, shown = evaluate(
        *("--out", tmp_path / "out"),
        *setting("data", [{"kind": "scannet", "path": str(real_scannet)}]),
        *setting("model", {"id": str(tiny_model_dir)}),
        *setting("steps", 1),
    )
    assert status == 1
    (line,) = [line for line in shown.err.splitlines() if line.startswith("error: ")]
    assert line.startswith(f"error: {broken}: corrupt")
    assert not (tmp_path / "out").exists()


def test_every_shipped_evaluation_is_valid():
    names = resource_names("configs/evaluate")
    assert set(names) == {"embedded", "published"}
    published = load_evaluate_config("published")
    assert {one.kind for one in published.data} == {
        "nyu_v2",
        "kitti_eigen",
        "eth3d",
        "scannet",
        "diode",
    }
    assert published.alignments[0] == "affine"
    embedded = load_evaluate_config("embedded", output="elsewhere")
    assert (embedded.model.id, embedded.output) == ("embedded", Path("elsewhere"))


@pytest.mark.parametrize(
    ("override", "problem"),
    [
        ("step=3", "step: unknown key; did you mean steps"),
        ("alignments=[]", "alignments"),
        ("alignments=[metric]", "must be 'scale', 'affine', 'disparity' or 'median'"),
        ("data=[{kind: nyu, path: x}]", "data.0.kind: unknown kind 'nyu'; did you mean nyu_v2?"),
        ("data.0.pth=x", "--set: data.0.pth: unknown key; did you mean data.0.path?"),
        ("data=[{kind: kitti_eigen, path: x}]", "split: missing; add it"),
        ("height=64", "give both height and width"),
        (
            "model={kind: two_models, image: embedded}",
            "model.kind is two_models, which has no depth of its own; name a joint model",
        ),
    ],
)
def test_a_wrong_setting_is_told_in_one_line(override, problem):
    with pytest.raises(MfsynthError) as caught:
        load_evaluate_config("embedded", [override])
    assert problem in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_configuration_is_refused_before_anything_heavy_is_loaded():
    import subprocess
    import sys

    code = (
        "import sys\n"
        "from mfsynth.evaluation.config import load_evaluate_config\n"
        "heavy = {'torch', 'diffusers', 'ray', 'pyarrow', 'cv2', 'simplejpeg', 'mujoco'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"
