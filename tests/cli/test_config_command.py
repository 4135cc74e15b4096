"""`mfsynth config`: each setting and where it comes from, as a configuration that can be used."""

from __future__ import annotations

import json

import pytest
import yaml

from mfsynth.cli import main
from mfsynth.config import fingerprint
from mfsynth.runs.origins import settings_of, yaml_lines
from mfsynth.runs.settings import load_run_config

CALIBRATION = {
    "version": 1,
    "made_with": "mfsynth 0.1.0",
    "guarantee": {"alpha": 0.05, "delta": 0.1, "images": 240},
    "checks": {"registration": {"min": 0.7}, "flying_pixels": {"max": 0.5}},
    "limits": {"fused": 2.5, "registration": 0.7, "flying_pixels": 0.5},
    "terms": [
        {
            "score": "registration",
            "middle": 3.0,
            "low": 1.0,
            "high": 1.0,
            "below": [0.5, 0.0, 0.0],
            "above": [0.0, 0.0, 0.0],
        }
    ],
    "bias": -1.0,
    "estimator": None,
    "settings": {},
    "sources": [],
    "figures": {},
}


def called(capsys, *arguments):
    with pytest.raises(SystemExit) as ended:
        main([*map(str, arguments)])
    out, err = capsys.readouterr()
    return ended.value.code, out, err


def origins(*arguments, **more):
    _, found = settings_of(*arguments, **more)
    return {".".join(each.path): each.origin for each in found}


def test_each_setting_says_where_it_comes_from():
    found = origins("local", ["seed=3", "checks.registration={min: 2}"], output="there", pairs=8)
    wanted = {
        "name": "local.yaml",
        "seed": "--set",
        "target.pairs": "--pairs",
        "output": "--out",
        "checks.registration.min": "--set",
        "checks.flying_pixels.max": "default",
        "checks.validity.max_far_fraction": "default",
        "model.few_steps": "local.yaml",
        "sampler.guidance": "preset distilled",
        "sampler.steps": "preset distilled",
        "sampler.guidance_interval": "preset distilled",
        "sampler.mode": "default",
        "shard_size": "local.yaml",
        "runtime.patience": "default",
    }
    assert {key: found[key] for key in wanted} == wanted
    found = origins("retexture")
    assert found["sampler.depth_guidance"] == "as sampler.guidance"


def test_limits_of_a_calibration_say_so_and_one_by_hand_beside_it_does_too(tmp_path):
    path = tmp_path / "mine.json"
    path.write_text(json.dumps(CALIBRATION))
    checks = {"calibration": str(path), "flying_pixels": {"max": 0.2}, "exposure": {}}
    config = tmp_path / "run.yaml"
    values = {"name": "x", "target": {"pairs": 4}, "prompts": {"library": "tabletop"}}
    config.write_text(yaml.safe_dump(values | {"output": "out/x", "checks": checks}))
    found = origins(str(config))
    assert found["checks.registration.min"] == f"calibration {path}"
    assert found["checks.calibration.max_fused"] == f"calibration {path}"
    assert found["checks.flying_pixels.max"] == str(config)
    others = [origin for key, origin in found.items() if key.startswith("checks.exposure.")]
    assert {*others} == {"default"}


@pytest.mark.parametrize(
    "overrides", [[], ["name=x-1", "output='0123 # : x'", "runtime.deadline_s=1e-3"]]
)
def test_what_is_shown_is_the_same_configuration(tmp_path, overrides):
    config, settings = settings_of("local", overrides)
    path = tmp_path / "shown.yaml"
    path.write_text("\n".join(yaml_lines(settings)))
    again = load_run_config(str(path))
    assert again == config
    assert fingerprint(again, "0", "0") == fingerprint(config, "0", "0")


def test_no_secret_is_shown(capsys):
    secrets = ("output=s3://key:geheim@bucket/run", "runtime.on_event=https://hook/geheim")
    settings = [part for secret in secrets for part in ("--set", secret)]
    for form in ([], ["--json"]):
        code, out, _ = called(capsys, "config", "show", *settings, *form)
        assert code == 0
        assert "s3://bucket/run" in out
        assert "geheim" not in out


def test_programs_get_json(capsys):
    code, out, _ = called(capsys, "config", "show", "local", "--pairs", 5, "--json")
    assert code == 0
    assert json.loads(out)["target.pairs"] == {"value": 5, "origin": "--pairs"}


def test_a_good_configuration_is_told_with_its_command_and_fingerprint(capsys):
    code, out, _ = called(capsys, "config", "check", "local")
    assert code == 0
    assert out.startswith("local: good, for mfsynth generate: run local, model embedded, finger")


@pytest.mark.parametrize(
    ("config", "settings", "problem"),
    [
        ("local", "sampler.stepz=3", "did you mean sampler.steps?"),
        ("local", "prompts.file=/nowhere.txt", "/nowhere.txt"),
        ("local", "model.id=/nowhere", "model.id"),
        ("local", "model.few_steps=null", "few_steps"),
        ("local", "output=s3:/b/x", "--set: output: s3:/b/x is neither a URL nor clearly a path"),
        ("local", "output=S3://b/x", "--set: output: S3://b/x: files of S3:// are not opened"),
        ("local.yml", "seed=1", "did you mean local, which comes with mfsynth?"),
        ("annotate", "source.pth=x", "--set: source.pth: unknown key; did you mean source.path?"),
        ("annotate", "source.kind=vidio", "source.kind: unknown kind 'vidio'; did you mean video?"),
        ("annotate", "source={kind: video, pth: x}", "source.pth: unknown key; did you mean sour"),
        ("annotate", "source={kind: folder}", "--set: source.layout: missing; add it, one of tum"),
    ],
)
def test_a_bad_one_is_told_in_one_line(capsys, config, settings, problem):
    code, out, err = called(capsys, "config", "check", config, "--set", settings)
    assert (code, out) == (1, "")
    assert problem in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(("value", "now"), [("false", "none"), ("true", "thumbnails")])
def test_a_setting_by_an_earlier_name_is_taken_with_a_warning(capsys, value, now):
    code, out, err = called(
        capsys, "config", "show", "local", "--set", f"keep_reject_thumbnails={value}"
    )
    assert code == 0
    assert err == (
        "warning: --set: keep_reject_thumbnails is an earlier name, which 0.3 won't know; write "
        f"keep_rejects: {now}\n"
    )
    assert f"keep_reject_thumbnails: {value}" in out
    code, out, err = called(capsys, "config", "show", "local")
    assert (code, err) == (0, "")
    assert "keep_reject_thumbnails" not in out
