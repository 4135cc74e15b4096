"""Settings of training data are typed: what is wrong is said before anything is read."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from pydantic import BaseModel, ConfigDict, ValidationError
from training_files import one_line_error, write

from mfsynth.config import load_settings
from mfsynth.sources.folders import TumSettings
from mfsynth.sources.registry import source_settings
from mfsynth.training.data import PartSettings
from mfsynth.training.data.sparsity import AtMostPattern, LidarPattern


class Document(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    data: tuple[PartSettings, ...]


EXAMPLE = """
data:
  - kind: folder
    layout: tum
    path: /data/fr1
    weight: 1.0
    sparsity: [{kind: lidar, rings: 16}, {kind: at_most, share: 0.05}]
  - {kind: live_scenes, scenes: 100, size: 64, weight: 3}
"""


def load(folder, text, *overrides):
    path = str(write(Path(folder) / "t.yaml", text))
    return load_settings(Document, "configs/train", path, overrides)


def test_yaml_becomes_settings_and_goes_back(tmp_path):
    first, second = load(tmp_path, EXAMPLE).data
    assert isinstance(first.source, TumSettings)
    assert first.sparsity == (LidarPattern(rings=16), AtMostPattern(share=0.05))
    assert first.source.codes_per_unit == 5000
    assert second.weight == 3
    document = yaml.safe_dump(Document(data=(first, second)).model_dump(mode="json"))
    assert load(tmp_path, document).data == (first, second)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (("weight: 1.0", "weight: 0"), "weight: must be above 0, not 0"),
        (("rings: 16", "rings: many"), "rings: must be an integer, not 'many'"),
        (("share: 0.05", "share: 5"), "share: must be at most 1, not 5"),
        (("kind: lidar", "kind: radar"), r"sparsity\.0\.kind: unknown kind 'radar'"),
        (
            ("layout: tum", "layout: tun"),
            r"layout: unknown layout 'tun'; did you mean tum\?",
        ),
        (("path: /data/fr1", "max_seconds: 1"), "path: missing; add it"),
        (
            ("layout: tum", "layout: generic\n    images: '*.jpg'\n    depths: '*.png'"),
            "codes_per_unit is missing; say how many codes",
        ),
        (
            ("weight: 1.0", "captions: {constant: a, file: b.csv}"),
            "give one of constant, file and beside",
        ),
        (("kind: live_scenes, scenes: 100", "kind: live_scenes"), "scenes: missing; add it"),
    ],
)
def test_a_mistake_is_one_line(tmp_path, change, problem):
    with one_line_error(rf"t\.yaml: data\.\d.*{problem}"):
        load(tmp_path, EXAMPLE.replace(*change))


def test_a_misspelt_key_of_a_part_is_told_with_the_parts_number(tmp_path):
    with one_line_error(r"weigth: unknown key; did you mean data\.0\.weight\?"):
        load(tmp_path, EXAMPLE.replace("weight: 1.0", "weigth: 1.0"))
    with one_line_error(r": data\.1\.miror: unknown key; did you mean data\.1\.mirror\?"):
        load(tmp_path, EXAMPLE.replace("weight: 3", "miror: true"))
    with one_line_error(r": data\.0\.pth: unknown key; did you mean data\.0\.path\?"):
        load(tmp_path, EXAMPLE.replace("path:", "pth:", 1))


def test_a_key_of_a_part_that_is_set_on_the_command_line_is_told_of_it(tmp_path):
    with one_line_error(r"^--set: data\.0\.pth: unknown key; did you mean data\.0\.path\?"):
        load(tmp_path, EXAMPLE, "data.0.pth=x")


@pytest.mark.parametrize("key", ["source", "sources"])
def test_no_file_is_told_of_the_field_that_is_put_together_of_a_parts_other_keys(tmp_path, key):
    with one_line_error(rf"\.{key}: unknown key; (?!did you mean data\.1\.source\b)"):
        load(tmp_path, EXAMPLE.replace("weight: 3", f"{key}: 3"))


def test_a_unit_must_be_given_with_depth_and_not_without():
    tar = {"kind": "webdataset", "shards": "a.tar"}
    source_settings(tar)
    with pytest.raises(ValidationError, match="codes_per_unit is missing"):
        source_settings({**tar, "depth_key": "png"})


def test_an_unknown_key_is_refused():
    with pytest.raises(ValidationError, match="mirorr"):
        PartSettings.model_validate({"kind": "mfsynth", "url": "x", "mirorr": True})
