from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mfsynth.config import RunConfig, differences, fingerprint, load_config, settings_digest
from mfsynth.config.explain import explain
from mfsynth.config.places import key_paths
from mfsynth.config.presets import SAMPLER_PRESETS
from mfsynth.config.schema import SamplerConfig
from mfsynth.errors import MfsynthError
from mfsynth.storage.credentials import without_credentials

MINIMAL = {
    "name": "x",
    "target": {"pairs": 4},
    "prompts": {"library": "tabletop"},
    "output": "out/x",
}


@pytest.fixture
def save(tmp_path: Path) -> Callable[[Any], str]:
    def _save(values: Any) -> str:
        path = tmp_path / "run.yaml"
        path.write_text(values if isinstance(values, str) else yaml.safe_dump(values))
        return str(path)

    return _save


def _error(path: str, *overrides: str) -> str:
    with pytest.raises(MfsynthError) as caught:
        load_config(path, overrides)
    message = str(caught.value)
    assert "\n" not in message
    return message.replace(path, "FILE")


def test_the_default_run_is_the_embedded_model_on_the_library_that_it_knows() -> None:
    config = load_config("local")
    assert config.model.id == "embedded"
    assert config.prompts.library == "tabletop_shapes"
    assert config.target.pairs == 64
    assert config.output == "out/local"


def test_what_the_checks_are_given_is_kept_as_it_is(save: Callable[[Any], str]) -> None:
    checks = {"validity": {}, "registration": None, "of_a_package": {"levels": [1, "two"]}}
    assert load_config(save({**MINIMAL, "checks": checks})).checks == checks
    assert load_config(save(MINIMAL)).checks == {}


def test_a_configuration_cannot_be_changed(save: Callable[[Any], str]) -> None:
    with pytest.raises(ValidationError, match="frozen"):
        load_config(save(MINIMAL)).sampler.steps = 3  # type: ignore[misc]


def test_overrides_are_yaml_and_the_last_one_wins(save: Callable[[Any], str]) -> None:
    overrides = ["sampler.steps=3", "sampler.steps=5", "sampler.guidance=1e-1", "runtime.workers=2"]
    config = load_config(save(MINIMAL), [*overrides, "model={id: big, revision: r}"])
    assert config.sampler.steps == 5
    assert config.sampler.guidance == 0.1
    assert config.runtime.workers == 2
    assert (config.model.id, config.model.revision) == ("big", "r")


def test_the_command_line_sets_output_and_pairs(save: Callable[[Any], str]) -> None:
    path = save({**MINIMAL, "target": {"candidates": 9}})
    config = load_config(path, output="s3://bucket/run", pairs=7)
    assert config.output == "s3://bucket/run"
    assert (config.target.pairs, config.target.candidates) == (7, None)


def test_setting_one_of_two_alternatives_takes_the_other_away(save: Callable[[Any], str]) -> None:
    config = load_config(save(MINIMAL), ["target.candidates=8", "prompts.file=p.txt"])
    assert (config.target.pairs, config.target.candidates) == (None, 8)
    assert (config.prompts.library, config.prompts.file) == (None, "p.txt")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("sampler.step=3", "--set: sampler.step: unknown key; did you mean sampler.steps?"),
        ("steps=3", "--set: steps: unknown key; did you mean sampler.steps?"),
        ("smpler.steps=3", "--set: smpler: unknown key; did you mean sampler?"),
        ("zzzz=3", "--set: zzzz: unknown key; known here: name, seed, target"),
        ("sampler.steps=-1", "--set: sampler.steps: must be at least 1, not -1"),
        ("sampler.steps=many", "--set: sampler.steps: must be an integer, not 'many'"),
        ("sampler.steps=1.5", "--set: sampler.steps: must be an integer, not 1.5"),
        ("sampler.steps=true", "--set: sampler.steps: must be an integer, not True"),
        ("sampler.guidance=.nan", "--set: sampler.guidance: must be a finite number, not nan"),
        (
            "sampler.mode=joined",
            "--set: sampler.mode: must be 'joint', 'i2d' or 'd2i', not 'joined'",
        ),
        (
            "sampler.preset=turbo",
            "--set: sampler.preset: must be 'reference', 'balanced', 'fast', 'image_then_depth' or "
            "'distilled', not 'turbo'",
        ),
        ("sampler.guidance_interval=[0.9, 0.1]", "--set: sampler: guidance_interval is [0.9, 0.1]"),
        (
            "sampler.guidance_interval=[0, 2]",
            "--set: sampler.guidance_interval.1: must be at most 1, not 2",
        ),
        (
            "sampler={depth_start: 0, refine_steps: 0}",
            "--set: sampler: depth_start is 0, which leaves depth to the second pass: set refine_s",
        ),
        ("sampler={preset: image_then_depth, refine_start: 0.5}", "sampler: depth_start is 0, whi"),
        ("sampler.height=64", "--set: sampler: give both height and width, or neither"),
        ("shard_size=0", "--set: shard_size: must be at least 1, not 0"),
        ("seed=-1", "--set: seed: must be at least 0, not -1"),
        ("name=My Run", "--set: name: may have a-z, 0-9, _ and -"),
        ("name='x.y'", "--set: name: may have a-z, 0-9, _ and -"),
        ('name="x\\n"', "--set: name: may have a-z, 0-9, _ and -"),
        (f"name={'x' * 65}", "--set: name: must have at most 64 characters"),
        ("output=''", "--set: output: must not be empty"),
        ("output=", "--set: output: must be a text, not nothing"),
        (
            "runtime.on_event=[https://host/secret]",
            "--set: runtime.on_event: must be a text; what it is isn't shown",
        ),
        (
            "target={pairs: 1, candidates: 2}",
            "--set: target: give exactly one of pairs, candidates and all",
        ),
        ("target={}", "--set: target: give exactly one of pairs, candidates and all"),
        ("target.pairs=0", "--set: target.pairs: must be at least 1, not 0"),
        ("prompts={}", "--set: prompts: give exactly one of library and file"),
        ("checks.validity=3", "--set: checks.validity: must be a mapping of keys to values, not 3"),
        ("checks=[validity]", "--set: checks: must be a mapping of keys to values, not ['val"),
        ("runtime.workers=0", "--set: runtime.workers: must be auto or an integer of at least 1"),
        ("runtime.batch_size=all", "--set: runtime.batch_size: must be auto or an integer of at"),
        ("runtime.deadline_s=0", "--set: runtime.deadline_s: must be above 0, not 0"),
        (
            "model.dtype=float16",
            "--set: model.dtype: must be 'float32' or 'bfloat16', not 'float16'",
        ),
        ("seed", "--set 'seed': write it as key.path=value"),
        ("=3", "--set '=3': write it as key.path=value"),
        ("sampler..steps=3", "--set 'sampler..steps=3': write it as key.path=value"),
        ("name.x=3", "--set name.x: name is a value, not a section"),
        ("target.pairs.x=3", "--set target.pairs.x: pairs is a value, not a section"),
        ("seed=[1", "--set seed:1:3: not valid YAML"),
    ],
)
def test_each_bad_setting_is_one_line_with_the_key(
    save: Callable[[Any], str], override: str, message: str
) -> None:
    assert message in _error(save(MINIMAL), override)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "FILE: configuration is empty"),
        ("- name", "FILE: configuration must be a mapping of keys to values"),
        ("name: x\nname: y", "FILE:2:1: not valid YAML: the key 'name' is there twice"),
        ("name: [x", "FILE:1:9: not valid YAML"),
        ("name: x", "FILE: target: missing; add it"),
        ("1: x", "FILE: 1: unknown key"),
        ("nmae: x", "FILE: nmae: unknown key; did you mean name?"),
        ("name: !!python/object/apply:os.getcwd []", "FILE:1:7: not valid YAML"),
        ("? {a: b}\n: c", "FILE:1:3: not valid YAML"),
    ],
)
def test_each_bad_file_is_one_line_with_its_name(
    save: Callable[[Any], str], text: str, message: str
) -> None:
    assert message in _error(save(text))


def test_mistakes_in_the_file_are_told_of_the_file(save: Callable[[Any], str]) -> None:
    path = save({**MINIMAL, "sampler": {"step": 3}})
    assert _error(path, "seed=3") == "FILE: sampler.step: unknown key; did you mean sampler.steps?"


def test_mistakes_in_an_option_are_told_of_it(save: Callable[[Any], str]) -> None:
    path = save(MINIMAL)
    for wrong, said in (
        ({"output": ""}, "--out: must not be empty"),
        ({"pairs": 0}, "--pairs: must be at least 1, not 0"),
    ):
        with pytest.raises(MfsynthError) as caught:
            load_config(path, ["seed=3"], **wrong)
        assert str(caught.value) == said


def test_a_missing_configuration_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = str(tmp_path / "no.yaml")
    assert _error(path) == "FILE: configuration not found; check the path"
    monkeypatch.chdir(tmp_path)
    assert _error("no.yaml") == f"FILE: configuration not found in {tmp_path}; check the path"
    with pytest.raises(MfsynthError, match=r"'locl': no such name in .*; did you mean local\?"):
        load_config("locl")


def test_every_key_is_suggested_for_its_misspelling(save: Callable[[Any], str]) -> None:
    path = save(MINIMAL)
    for key in key_paths(RunConfig):
        if len(key.rpartition(".")[2]) >= 4:
            message = _error(path, f"{key}q=1")
            assert f"{key}q: unknown key; did you mean {key}?" in message


SEMANTIC = [
    "name=y",
    "seed=1",
    "shard_size=8",
    "sampler.steps=9",
    "model.id=other",
    "model.dtype=bfloat16",
]
OPERATIONAL = ["target.pairs=9", "output=z", "runtime.workers=3", "runtime.device=cpu"]


@pytest.mark.parametrize(
    "override",
    [
        *(*SEMANTIC, "checks.validity={a: 1}"),
        *("keep_reject_thumbnails=false", "keep_rejects=all"),
    ],
)
def test_semantic_settings_change_the_fingerprint(
    save: Callable[[Any], str], override: str
) -> None:
    path = save(MINIMAL)
    before = fingerprint(load_config(path), "p", "r")
    after = fingerprint(load_config(path, [override]), "p", "r")
    assert before.digest != after.digest
    lines = differences(before.settings, after.settings)
    assert lines
    assert all(line.startswith(override.partition("=")[0]) for line in lines)


@pytest.mark.parametrize(
    ("overrides", "kept"),
    [
        ([], "thumbnails"),
        (["keep_reject_thumbnails=false"], "none"),
        (["keep_rejects=none"], "none"),
        (["keep_rejects=all"], "all"),
        (["keep_rejects=none", "keep_reject_thumbnails=false"], "none"),
    ],
)
def test_what_is_kept_of_rejects_has_an_earlier_name(
    save: Callable[[Any], str], overrides: list[str], kept: str
) -> None:
    config = load_config(save(MINIMAL), overrides)
    assert config.rejects_kept == kept
    # Whoever follows the warning goes on with the same run.
    renamed = load_config(save(MINIMAL), [f"keep_rejects={kept}"])
    assert fingerprint(config, "p", "r") == fingerprint(renamed, "p", "r")


def test_two_names_that_disagree_about_rejects_are_one_line(save: Callable[[Any], str]) -> None:
    config = save(MINIMAL)
    with pytest.raises(MfsynthError, match=r"keep_rejects is all, and .*leave the latter out"):
        load_config(config, ["keep_rejects=all", "keep_reject_thumbnails=false"])


def test_a_run_that_says_nothing_of_rejects_keeps_its_fingerprint(
    save: Callable[[Any], str],
) -> None:
    settings = fingerprint(load_config(save(MINIMAL)), "p", "r").settings
    assert "keep_rejects" not in settings
    assert settings["keep_reject_thumbnails"] is True


def test_what_comes_with_a_package_counts_with_its_version(save: Callable[[Any], str]) -> None:
    config = load_config(save(MINIMAL), ["checks.sharp={}"])
    own, old, new = (
        fingerprint(config, "p", "r", {"plugins": {"checks.sharp": version}} if version else {})
        for version in (None, "sharp 1.0", "sharp 1.1")
    )
    assert own == fingerprint(config, "p", "r")
    assert len({own.digest, old.digest, new.digest}) == 3
    assert differences(old.settings, new.settings) == [
        "plugins.checks.sharp: sharp 1.0 -> sharp 1.1"
    ]


@pytest.mark.parametrize("override", OPERATIONAL)
def test_operational_settings_do_not(save: Callable[[Any], str], override: str) -> None:
    path = save(MINIMAL)
    before = fingerprint(load_config(path), "p", "r")
    after = fingerprint(load_config(path, [override]), "p", "r")
    assert before == after


def test_a_setting_that_is_unset_does_not_count(save: Callable[[Any], str]) -> None:
    class LaterSampler(SamplerConfig):
        jitter: float | None = None

    class LaterConfig(RunConfig):
        episodes: int | None = None
        parts: tuple[LaterSampler, ...] | None = None
        sampler: LaterSampler = LaterSampler()

    path = save(MINIMAL)
    values = load_config(path).model_dump()
    today = fingerprint(RunConfig.model_validate(values), "p", "r")
    assert fingerprint(LaterConfig.model_validate(values), "p", "r") == today
    used = {**values, "sampler": {**values["sampler"], "jitter": 0.5}}
    later = fingerprint(LaterConfig.model_validate(used), "p", "r")
    assert differences(today.settings, later.settings) == ["sampler.jitter: not set -> 0.5"]
    # In lists, too: a source or a part of a mixture is a setting like any other.
    parts = LaterConfig.model_validate({**values, "parts": (LaterSampler(),)})
    assert "jitter" not in fingerprint(parts, "p", "r").settings["parts"][0]


def test_a_fingerprint_is_that_of_its_settings_and_begins_with_the_identity(
    save: Callable[[Any], str],
) -> None:
    found = fingerprint(load_config(save(MINIMAL)), "p", "r")
    assert settings_digest(json.loads(json.dumps(found.settings))) == found.digest
    assert found.digest.startswith(found.identity)
    assert len(found.identity) == 8


def test_prompts_count_by_content_and_models_by_the_revision_loaded(
    save: Callable[[Any], str],
) -> None:
    path = save(MINIMAL)
    config = load_config(path)
    moved = load_config(path, ["prompts.file=elsewhere.txt"])
    assert fingerprint(config, "p", "r") == fingerprint(moved, "p", "r")
    assert fingerprint(config, "p", "r").digest != fingerprint(config, "q", "r").digest
    assert fingerprint(config, "p", "r").digest != fingerprint(config, "p", "s").digest


@pytest.mark.parametrize("preset", SAMPLER_PRESETS)
def test_a_preset_gives_what_is_not_set_by_hand(save: Callable[[Any], str], preset: str) -> None:
    plain = load_config(save(MINIMAL), [f"sampler.preset={preset}"]).sampler
    for name, value in SAMPLER_PRESETS[preset].items():
        assert getattr(plain, name) == value, name
    changed = load_config(
        save(MINIMAL), [f"sampler.preset={preset}", "sampler.steps=7", "sampler.guidance=2.0"]
    ).sampler
    assert (changed.steps, changed.guidance, changed.depth_guidance) == (7, 2.0, 2.0)
    assert changed.log2_alpha == plain.log2_alpha


def test_presets_name_every_setting_and_the_faster_ones_take_fewer_steps() -> None:
    names = [set(preset) for preset in SAMPLER_PRESETS.values()]
    assert all(settings == names[0] for settings in names)
    together = [preset for preset in SAMPLER_PRESETS.values() if preset["depth_start"] == 1]
    steps = [preset["steps"] + preset["refine_steps"] for preset in together]
    assert len(steps) == 3
    assert steps == sorted(steps, reverse=True)


@pytest.mark.parametrize("preset", SAMPLER_PRESETS)
def test_every_preset_keeps_the_depth_of_the_finished_image(preset: str) -> None:
    sampler = SamplerConfig.model_validate({"preset": preset})
    assert not sampler.keeps_joint_depth
    once = SamplerConfig.model_validate({"preset": preset, "refine_steps": 0, "depth_start": 1})
    warm = SamplerConfig.model_validate({"preset": preset, "refine_start": 0.5, "depth_start": 1})
    assert once.keeps_joint_depth
    assert warm.keeps_joint_depth
    given = SamplerConfig.model_validate({"preset": preset, "mode": "i2d"})
    assert not given.keeps_joint_depth


def test_a_resolved_sampler_reads_back_as_it_was(save: Callable[[Any], str]) -> None:
    sampler = load_config(save(MINIMAL), ["sampler.preset=fast"]).sampler
    assert SamplerConfig.model_validate_json(sampler.model_dump_json()) == sampler


def test_differences_are_readable_lines() -> None:
    old = {"sampler": {"steps": 30, "mode": "joint"}, "checks": {"validity": None}, "seed": 0}
    new = {
        "sampler": {"steps": 50, "mode": "joint"},
        "checks": {"validity": {"min": 0.5}},
        "seed": 0,
    }
    assert differences(old, new) == [
        "checks.validity.min: not set -> 0.5",
        "sampler.steps: 30 -> 50",
    ]
    assert differences({"prompts": {"digest": "a" * 64}}, {"prompts": {"digest": "b" * 64}}) == [
        f"prompts.digest: {'a' * 12}… -> {'b' * 12}…"
    ]


_FLAT = st.dictionaries(st.sampled_from("abcd"), st.integers(0, 2))


@settings(derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(old=_FLAT, new=_FLAT)
def test_exactly_the_settings_that_changed_are_told(
    old: dict[str, int], new: dict[str, int]
) -> None:
    changed = [f"x.{key}" for key in "abcd" if old.get(key) != new.get(key)]
    assert [line.split(":")[0] for line in differences({"x": old}, {"x": new})] == changed


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("out/x@y?z", "out/x@y?z"),
        ("s3://key:secret@bucket/x", "s3://bucket/x"),
        ("https://host/x?token=secret", "https://host/x"),
        ("s3://bucket/a@b", "s3://bucket/a@b"),
        ("file:///x", "file:///x"),
    ],
)
def test_urls_are_shown_without_credentials(url: str, shown: str) -> None:
    assert without_credentials(url) == shown


class One(BaseModel):
    model_config = ConfigDict(extra="forbid")
    kind: Literal["one"]
    path: str
    size: int | Literal["auto"] = "auto"


class Left(BaseModel):
    kind: Literal["two"]
    side: Literal["left"]


class Right(BaseModel):
    model_config = ConfigDict(extra="forbid")
    kind: Literal["two"]
    side: Literal["right", "far_right"]
    depths: str = ""


Two = Annotated[Left | Right, Field(discriminator="side")]


class Whole(BaseModel):
    model_config = ConfigDict(extra="forbid")
    parts: list[Annotated[One | Two, Field(discriminator="kind")]] = []
    best: Annotated[One | Two, Field(discriminator="kind")] | None = None


@pytest.mark.parametrize(
    ("best", "key", "problem"),
    [
        ({"kind": "tow"}, ".kind", "unknown kind 'tow'; did you mean two?"),
        ({"kind": "xyz"}, ".kind", "unknown kind 'xyz'; known: one, two"),
        ({}, ".kind", "missing; add it, one of one, two"),
        ({"kind": "one", "pth": "x"}, ".pth", "unknown key; did you mean PLACE.path?"),
        ({"kind": "one"}, ".path", "missing; add it"),
        ({"kind": "one", "path": 1}, ".path", "must be a text, not 1"),
        ({"kind": "one", "path": "x", "size": 1.5}, ".size", "must be an integer, not 1.5"),
        ({"kind": "two"}, ".side", "missing; add it, one of left, right, far_right"),
        ({"kind": "two", "side": "rigth"}, ".side", "unknown side 'rigth'; did you mean right?"),
        (
            {"kind": "two", "side": "far_right", "dephts": "x"},
            ".dephts",
            "unknown key; did you mean PLACE.depths?",
        ),
        ("one", "", "must be a mapping of keys to values, not 'one'"),
    ],
)
def test_settings_of_several_kinds_are_told_of_by_the_keys_of_their_kind(
    best: Any, key: str, problem: str
) -> None:
    for place, values in (("best", {"best": best}), ("parts.0", {"parts": [best]})):
        with pytest.raises(ValidationError) as caught:
            Whole.model_validate(values)
        assert explain(caught.value, Whole) == (f"{place}{key}", problem.replace("PLACE", place))
