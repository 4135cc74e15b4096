"""Configurations of runs with the checks that they name, those of other packages included."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import tiny_recognisers
import yaml
from standin import Behaviour, as_arguments

import mfsynth.checks.base
from mfsynth.checks import check_names, open_checks, score_infos
from mfsynth.config import ModelConfig, RunConfig, SamplerConfig, differences, fingerprint
from mfsynth.errors import MfsynthError
from mfsynth.models import ModelInfo
from mfsynth.models.few_steps.files import FewSteps
from mfsynth.prompts import open_prompts
from mfsynth.reports.collect import collect_report
from mfsynth.runs.items import RunItems
from mfsynth.runs.settings import (
    abstaining_checks,
    complete,
    load_run_config,
    own_depth_steps,
    require_trained_for,
    run_fingerprint,
    run_scores,
)
from mfsynth.runs.understanding import (
    PROMPTS_LOOKED_AT,
    require_understood,
    understanding,
    vocabulary_of,
)
from mfsynth.shards.commits import read_commits
from mfsynth.shards.run_manifest import ScoreInfo, read_run
from mfsynth.storage.store import ObjectStore

MINIMAL = {
    "name": "x",
    "target": {"pairs": 4},
    "prompts": {"library": "tabletop"},
    "output": "out/x",
}
# The check that shows in the documentation how to write one.
BRIGHTNESS = mfsynth.checks.base.__doc__.split("```python\n")[1].split("```")[0]


@pytest.fixture
def save(tmp_path: Path) -> Callable[[Any], str]:
    def _save(values: Any) -> str:
        path = tmp_path / "run.yaml"
        path.write_text(yaml.safe_dump(values))
        return str(path)

    return _save


@pytest.fixture
def install(tmp_path: Path, monkeypatch) -> Callable[..., Path]:
    """Installs a package with a check, for this process."""

    def _install(
        name: str = "brightness",
        code: str = BRIGHTNESS,
        distribution: str = "my-checks",
        value: str = "my_checks:Brightness",
        version: str = "1.0",
    ) -> Path:
        folder = tmp_path / "site"
        about = folder / f"{distribution.replace('-', '_')}.dist-info"
        about.mkdir(parents=True, exist_ok=True)
        (about / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n"
        )
        (about / "entry_points.txt").write_text(f"[mfsynth.checks]\n{name} = {value}\n")
        (folder / "my_checks.py").write_text(code)
        monkeypatch.syspath_prepend(str(folder))
        monkeypatch.delitem(sys.modules, "my_checks", raising=False)
        return folder

    return _install


def error(path: str, *overrides: str) -> str:
    with pytest.raises(MfsynthError) as caught:
        load_run_config(path, overrides)
    message = str(caught.value)
    assert "\n" not in message
    return message.replace(path, "FILE")


def digest(config: RunConfig) -> str:
    return run_fingerprint(config, "p", "r").digest


def test_the_default_run_checks_all_that_its_depth_leaves_to_check() -> None:
    config = load_run_config("local")
    assert [*config.checks] == ["validity", "registration", "flying_pixels"]
    assert not config.sampler.keeps_joint_depth


def test_a_check_that_is_not_named_or_null_is_off(save) -> None:
    path = save({**MINIMAL, "checks": {"validity": {}, "registration": {}}})
    checks = load_run_config(path, ["checks.registration=null"]).checks
    assert [name for name, settings in checks.items() if settings is not None] == ["validity"]


def test_defaults_are_filled_in_whatever_the_order(save) -> None:
    checks = {"self_agreement": {"max": 0.2}, "flying_pixels": {}}
    config = load_run_config(save({**MINIMAL, "checks": checks}))
    assert list(config.checks.items()) == [
        ("flying_pixels", {"max": 0.4}),
        ("self_agreement", {"max": 0.2, "steps": 10}),
    ]
    assert complete(config) == config
    infos = score_infos(open_checks(config.checks).values())
    assert list(infos) == ["flying_pixels", "self_agreement"]
    assert infos["self_agreement"].limit == 0.2


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("checks=null", "--set: checks: must be a mapping of keys to values, not nothing"),
        ("checks.validity=3", "--set: checks.validity: must be a mapping of keys to values, not 3"),
        (
            "checks.validity.min_valid_fraction=2",
            "--set: checks.validity.min_valid_fraction: must be at most 1, not 2",
        ),
        ("checks.registration.min=high", "--set: checks.registration.min: must be a number, not "),
        (
            "checks.flying_pixel.max=1",
            "--set: checks.flying_pixel: unknown key; did you mean checks.flying_pixels?",
        ),
        (
            "checks.validity.min_valid=1",
            "unknown key; did you mean checks.validity.min_valid_fraction?",
        ),
        (
            "registration.min=1",
            "--set: registration: unknown key; did you mean checks.regis",
        ),
        ("max_far_fraction=1", "unknown key; did you mean checks.validity.max_far_fraction?"),
        ("sampler.step=3", "--set: sampler.step: unknown key; did you mean sampler.steps?"),
    ],
)
def test_each_bad_setting_is_one_line_with_the_key(save, override, message) -> None:
    assert message in error(save(MINIMAL), override)


def test_an_unknown_check_is_told_with_those_that_there_are_and_how_to_get_more(save) -> None:
    name = "whether_it_is_any_good"
    assert error(save({**MINIMAL, "checks": {name: {}}})) == (
        f"FILE: checks.{name}: unknown key; known here: {', '.join(check_names())}; for another "
        "check, install a package that has it as an entry point in the group mfsynth.checks"
    )


def test_a_configuration_that_was_not_loaded_is_completed_with_the_same_errors() -> None:
    config = RunConfig.model_validate(MINIMAL | {"checks": {"registration": {"max": 1}}})
    with pytest.raises(MfsynthError, match=r"^checks\.registration\.max: unknown key; did you"):
        complete(config)


def test_the_fingerprint_is_the_same_on_every_machine(save, install) -> None:
    """Who changes it, also by a new setting that is not unset, ends all earlier runs."""
    recorded = "55385956f52d70619e59704b9ae12ab29f8d45859d084388d8e099c380014b48"
    assert digest(load_run_config(save(MINIMAL))) == recorded
    install()
    assert digest(load_run_config(save(MINIMAL))) == recorded


def test_that_prompts_may_be_unknown_is_no_part_of_what_a_run_is(save) -> None:
    allowed = {**MINIMAL, "prompts": {**MINIMAL["prompts"], "allow_unknown": True}}
    assert digest(load_run_config(save(allowed))) == digest(load_run_config(save(MINIMAL)))


def test_the_default_run_has_prompts_that_its_model_knows() -> None:
    config = load_run_config("local")
    prompts = open_prompts(config.prompts, config.seed)
    read = understanding(
        vocabulary_of(config.model), [prompts.prompt(i).text for i in range(PROMPTS_LOOKED_AT)]
    )
    assert read is not None
    require_understood(read, config.prompts)


def test_a_tokenizer_that_cannot_be_asked_fails_no_run_and_is_told_of_once(
    tmp_path, caplog
) -> None:
    model = ModelConfig(id=str(tmp_path / "nowhere"))
    assert vocabulary_of(model) is vocabulary_of(model) is None
    [told] = caplog.messages
    assert told.startswith("what the model knows of its prompts can't be told: ")
    assert "nowhere" in told

    class Refuses:
        length = 8

        def read(self, prompts: list[str]) -> None:
            raise ValueError("no\ntemplate")

    assert understanding(Refuses(), ["a cup"]) is None
    assert caplog.messages[1].endswith(r"ValueError: no\ntemplate")
    assert understanding(None, ["a cup"]) is None
    assert len(caplog.messages) == 2


def test_defaults_that_are_written_out_do_not_change_the_fingerprint(save) -> None:
    implied = load_run_config(save({**MINIMAL, "checks": {"registration": {}}}))
    stated = load_run_config(save({**MINIMAL, "checks": {"registration": {"min": 1.5}}}))
    changed = load_run_config(save({**MINIMAL, "checks": {"registration": {"min": 1.6}}}))
    assert digest(implied) == digest(stated) != digest(changed)


def test_what_becomes_of_a_pair_without_a_score_counts_where_it_is_not_the_default(save) -> None:
    def loaded(settings: dict[str, Any]) -> RunConfig:
        return load_run_config(save({**MINIMAL, "checks": {"registration": settings}}))

    assert digest(loaded({"on_abstain": "pass"})) == digest(loaded({}))
    assert "on_abstain" not in loaded({"on_abstain": "pass"}).checks["registration"]
    assert digest(loaded({"on_abstain": "reject"})) != digest(loaded({}))
    path = save({**MINIMAL, "checks": {"self_agreement": {"on_abstain": "reject"}}})
    assert "checks.self_agreement.on_abstain: reject turns every pair down" in error(path)


def test_a_package_adds_a_check_which_counts_with_its_version(save, install) -> None:
    install()
    path = save({**MINIMAL, "checks": {"brightness": {"min": 0.2}, "validity": {}}})
    config = load_run_config(path)
    assert list(config.checks) == ["validity", "brightness"]
    assert list(score_infos(open_checks(config.checks).values()))[-1] == "brightness"
    identity = run_fingerprint(config, "p", "r")
    assert identity.settings["plugins"] == {"checks.brightness": "my-checks 1.0"}
    install(version="1.1")
    assert run_fingerprint(config, "p", "r").digest != identity.digest
    assert "checks.brightness.min: must be a number, not " in error(path, "checks.brightness.min=x")
    assert "did you mean checks.brightness?" in error(save(MINIMAL), "checks.bright.min=1")


def test_packages_of_checks_that_are_not_named_are_not_imported(save, install) -> None:
    install(code="raise ImportError('no such luck')")
    assert "brightness" not in load_run_config(save(MINIMAL)).checks


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (
            "raise ImportError('no\\nluck')",
            "checks.brightness: my-checks 1.0 can't be imported (ImportError: no luck); mend or",
        ),
        ("", "can't be imported (AttributeError: module 'my_checks' has no attribute 'Bright"),
        ("Brightness = 3", "my_checks:Brightness of my-checks 1.0 is not a subclass of mfsynth.ch"),
        (
            BRIGHTNESS.replace('Score("brightness"', 'Score("registration"'),
            "checks.brightness: gives a score 'registration', as registration does; leave one out",
        ),
        (
            BRIGHTNESS.replace('inputs = ("rgb",)', 'inputs = ("rgb", "intrinsics")'),
            "checks.brightness: looks at intrinsics, which a run does not have; set camera, or ",
        ),
        (
            BRIGHTNESS.replace("def measure", "def gauge"),
            "checks.brightness: my_checks:Brightness of my-checks 1.0 lacks measure; mend or",
        ),
        (
            BRIGHTNESS.replace('limit="min"', 'limit="least"'),
            "of my-checks 1.0 names the limit 'least' of a score, but has no such setting; mend",
        ),
        (
            BRIGHTNESS.replace('inputs = ("rgb",)', ""),
            "my_checks:Brightness of my-checks 1.0 has no inputs; mend or uninstall it",
        ),
        (
            BRIGHTNESS.replace(
                "min: float = 0.1", "min: float = 0.1\n    bounds: tuple[float, float] = (0, 1)"
            ),
            "checks.brightness.bounds: Input should be a valid tuple",
        ),
    ],
)
def test_a_check_that_cannot_be_used_is_told(save, install, code, message) -> None:
    install(code=code)
    path = save({**MINIMAL, "checks": {"registration": {}, "brightness": {}}})
    assert message in error(path)


def test_two_checks_of_one_name_are_told(save, install) -> None:
    install(name="registration")
    message = "checks.registration: my-checks 1.0 has one of this name, and so has mfsynth"
    assert message in error(save(MINIMAL))
    install(name="brightness")
    install(name="brightness", distribution="other-checks")
    assert "other-checks 1.0" in error(save(MINIMAL))


def test_a_worker_that_lacks_a_check_says_so() -> None:
    with pytest.raises(MfsynthError, match=r"checks\.brightness: there is no such check here"):
        open_checks({"validity": {}, "brightness": {"min": 0.1}})


def test_a_check_asks_for_as_many_steps_of_own_depth_as_it_needs(install) -> None:
    install(code=BRIGHTNESS.replace('inputs = ("rgb",)', 'inputs = ("rgb", "joint_depth")'))
    checks = open_checks({"validity": {}, "self_agreement": {"steps": 3}, "brightness": {}})
    steps = {name: check.own_depth_steps for name, check in checks.items()}
    assert steps == {"validity": 0, "self_agreement": 3, "brightness": 10}


def test_own_depth_is_made_only_where_there_is_joint_depth_to_compare_with_it(save) -> None:
    path = save({**MINIMAL, "checks": {"self_agreement": {"steps": 3}, "validity": {}}})
    joint = ["sampler.refine_steps=0"]
    for overrides, steps in (
        (joint, 3),
        ([*joint, "checks.self_agreement=null"], 0),
        (["sampler.refine_start=0.5"], 3),
        ([], 0),
        (["sampler.preset=image_then_depth"], 0),
    ):
        config = load_run_config(path, overrides)
        assert own_depth_steps(config) == steps, overrides
        abstains = "checks.self_agreement=null" not in overrides and not steps
        assert [*abstaining_checks(config)] == ["self_agreement"] * abstains


def test_a_run_says_of_its_scores_where_a_check_abstains_throughout(save) -> None:
    path = save({**MINIMAL, "checks": {"self_agreement": {}, "validity": {}}})
    whole = run_scores(load_run_config(path, ["sampler.refine_steps=0"]))
    assert whole == score_infos(open_checks(load_run_config(path).checks).values())
    infos = run_scores(load_run_config(path))
    assert infos["self_agreement"].note == (
        "abstains: the sampler makes depth of the finished image, so there is no other to compare"
    )
    assert infos == whole | {"self_agreement": infos["self_agreement"]}


def test_a_run_that_keeps_another_depth_than_before_has_another_fingerprint(save) -> None:
    path = save({**MINIMAL, "checks": {"self_agreement": {}}})
    config = load_run_config(path, ["sampler.refine_steps=0"])
    before = fingerprint(config, "p", "r")
    now = run_fingerprint(config, "p", "r")
    assert differences(before.settings, now.settings) == ["depth: not set -> of the finished image"]
    unchanged = load_run_config(path)
    assert run_fingerprint(unchanged, "p", "r") == fingerprint(unchanged, "p", "r")


@pytest.mark.parametrize(
    ("prompts", "message"),
    [
        ({"library": "tabletop_shapes"}, "names the slot tool, which .* have; known: "),
        ({"file": "prompts.txt"}, "names the slot tool, which .* have; none is known here$"),
    ],
)
def test_things_of_slots_that_no_prompt_has_are_refused(save, tmp_path, prompts, message):
    (tmp_path / "prompts.txt").write_text("a red cube\n")
    if "file" in prompts:
        prompts = {"file": str(tmp_path / "prompts.txt")}
    objects = {"model": "embedded", "things": ["a {tool}"]}
    config = load_run_config(
        save({**MINIMAL, "prompts": prompts, "checks": {"prompt_objects": objects}})
    )
    with pytest.raises(MfsynthError, match=rf"^checks\.prompt_objects\.things: {message}"):
        RunItems(config)


@pytest.mark.parametrize(
    ("check", "settings", "message"),
    [("tiles", {"periods": []}, "periods: "), ("planarity", {"max": 0.03}, "max: must be below 0")],
)
def test_checks_that_can_not_fail_are_refused(save, check, settings, message):
    path = save({**MINIMAL, "camera": {"fov": 60}, "checks": {check: settings}})
    with pytest.raises(MfsynthError, match=rf"checks\.{check}\.{message}"):
        load_run_config(path)


def test_the_network_of_a_check_is_part_of_what_a_run_is(save, tmp_path) -> None:
    folder = tiny_recognisers.judge(tmp_path / "judge")
    (folder / "README.md").write_text("---\nlicense: mit\n---\n")
    objects = {"model": str(folder), "things": ["{colour} {shape}"]}
    config = load_run_config(
        save({**MINIMAL, "checks": {"validity": {}, "prompt_objects": objects}})
    )
    settings = run_fingerprint(config, "p", "r").settings
    assert [*settings["networks"]] == ["checks.prompt_objects"]
    assert len(settings["networks"]["checks.prompt_objects"]) == 64
    note = run_scores(config)["objects_found"].note
    assert note.endswith(f"found in the image, by {folder} (licence mit)")
    assert "networks" not in run_fingerprint(load_run_config(save(MINIMAL)), "p", "r").settings
    shutil.rmtree(folder)
    with pytest.raises(MfsynthError, match=r"^checks\.prompt_objects: .* no such folder"):
        run_fingerprint(config, "p", "r")


def test_a_check_that_looks_at_the_camera_has_that_of_the_run_or_of_its_estimator(save) -> None:
    path = save({**MINIMAL, "checks": {"planarity": {}}})
    assert error(path).endswith(
        "checks.planarity: looks at camera, which a run does not have; set camera, or leave this "
        "check out"
    )
    for given in ("camera.fov=60", "estimator.id=embedded"):
        assert [*load_run_config(path, [given]).checks] == ["planarity"]
    message = "estimator: nothing looks at what it says"
    assert message in error(path, "camera.fov=60", "estimator.id=embedded")


def test_depth_tokens_are_not_left_out_with_a_model_that_always_had_them() -> None:
    model = ModelInfo("big", "r", "cc-by-nc-4.0", 512, 512, needs_depth_tokens=True)
    for preset in ("reference", "balanced", "fast"):
        require_trained_for(SamplerConfig.model_validate({"preset": preset}), model)
    image_first = SamplerConfig.model_validate({"preset": "image_then_depth"})
    require_trained_for(image_first, replace(model, needs_depth_tokens=False))
    require_trained_for(image_first.model_copy(update={"mode": "i2d"}), model)
    late = SamplerConfig.model_validate({"depth_start": 0.97})
    for sampler, level in ((image_first, "0"), (late, "0.97")):
        with pytest.raises(MfsynthError) as caught:
            require_trained_for(sampler, model)
        assert str(caught.value) == (
            f"sampler.depth_start: {level} (preset {sampler.preset}) leaves depth tokens out of "
            "steps, and big was never trained without them; set sampler.preset=reference, or "
            "sampler.depth_start=1"
        )


@pytest.mark.slow
def test_a_run_uses_the_check_of_a_package(run_folder, install) -> None:
    folder = install()
    path = run_folder.file(checks={"brightness": {"min": 0.5}}, target={"candidates": 8})
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(folder), *filter(None, [os.environ.get("PYTHONPATH")])])
    }
    command = as_arguments(path, Behaviour())
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    store = ObjectStore.open(run_folder.output)
    manifest = read_run(store)
    assert manifest.settings["plugins"] == {"checks.brightness": "my-checks 1.0"}
    assert manifest.scores == {
        "brightness": ScoreInfo(
            "brightness", "higher", "", "mean of all pixels, in [0, 1]", 0.5, default_limit=0.1
        )
    }
    (receipt,) = read_commits(store).values()
    assert receipt.accepted + receipt.rejected == 8
    assert receipt.reasons == {"brightness": receipt.rejected}
    scores = [
        score
        for kind in ("index", "rejects")
        for score in pq.read_table(run_folder.output / receipt.objects[kind].key)[
            "check_brightness"
        ].to_pylist()
    ]
    assert len(scores) == 8
    assert sum(score < 0.5 for score in scores) == receipt.rejected
    (plot,) = collect_report(str(run_folder.output)).histograms
    assert (plot.score, plot.failing) == (manifest.scores["brightness"], receipt.rejected)


FEW_STEPS = FewSteps(
    steps=2,
    levels=(1.0, 0.6, 0.1),
    points=4,
    rank=2,
    alpha=2,
    guidance=3.0,
    guidance_interval=(0.3, 0.9),
    teacher="tiny",
    teacher_digest="0",
    iterations=1,
    prompts="tabletop",
    licence="apache-2.0",
)


def sampled(**settings) -> SamplerConfig:
    return SamplerConfig.model_validate(settings)


def model_with(few_steps: FewSteps | None) -> ModelInfo:
    return ModelInfo("tiny", "0", "apache-2.0", 16, 16, few_steps=few_steps)


@pytest.mark.parametrize(
    ("settings", "few_steps", "problem"),
    [
        ({"preset": "distilled"}, FEW_STEPS, r"^sampler\.steps: .* distilled to 2"),
        ({"preset": "fast", "steps": 2}, FEW_STEPS, r"^sampler\.guidance: .* guidance of 3"),
        ({"preset": "distilled"}, None, r"^sampler\.preset: distilled is for few-step weights"),
    ],
)
def test_a_sampler_that_a_model_is_not_for_is_refused_before_anything_starts(
    settings, few_steps, problem
):
    with pytest.raises(MfsynthError, match=problem):
        require_trained_for(sampled(**settings), model_with(few_steps))


def test_the_preset_for_few_step_weights_fits_them():
    require_trained_for(sampled(preset="distilled", steps=2), model_with(FEW_STEPS))
    require_trained_for(sampled(preset="fast"), model_with(None))
    # Images or depth that are given are not for them.
    require_trained_for(sampled(preset="fast", mode="i2d"), model_with(FEW_STEPS))


def test_few_step_weights_are_part_of_what_a_run_is_and_nothing_without_them():
    plain = complete(RunConfig.model_validate(MINIMAL))
    few = complete(RunConfig.model_validate(MINIMAL | {"model": {"few_steps": "four"}}))
    assert "few_steps" not in run_fingerprint(plain, "0", "r").settings["model"]
    assert run_fingerprint(few, "0", "r").settings["model"]["few_steps"] == "four"


def test_few_step_weights_and_8_bit_floats_exclude_each_other(save):
    model = {"few_steps": "four", "dtype": "bfloat16", "quantization": "fp8"}
    with pytest.raises(MfsynthError, match=r"model: few_steps has adapters .* leave either out"):
        load_run_config(save(MINIMAL | {"model": model}))
