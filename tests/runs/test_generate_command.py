"""`mfsynth generate` and what people give it: one line, and nothing lost."""

from __future__ import annotations

import json

import pytest

from mfsynth.cli import main


@pytest.fixture
def refused(capsys):
    """Run the command, which must refuse, and give back its one line."""

    def run(*arguments) -> str:
        with pytest.raises(SystemExit) as stop:
            main(["generate", *map(str, arguments)])
        assert stop.value.code == 1
        lines = capsys.readouterr().err.splitlines()
        # What fails after the start has said "starting" before, and what it waits for.
        said = [line for line in lines if not line.startswith(("starting workers", "waiting "))]
        assert said == lines[-1:]
        assert lines[-1].startswith("error: ")
        return lines[-1]

    return run


def test_an_unknown_model(run_folder, refused):
    assert "model.id" in refused(run_folder.file(model={"id": "/no/such/model"}))
    assert not run_folder.output.exists()


def test_a_missing_prompt_file(run_folder, refused):
    path = run_folder.folder / "gone.txt"
    assert str(path) in refused(run_folder.file(prompts={"file": str(path)}))
    assert not run_folder.output.exists()


def test_an_empty_prompt_file(run_folder, refused):
    path = run_folder.folder / "prompts.txt"
    path.write_text("\n")
    assert str(path) in refused(run_folder.file())


def test_prompts_that_the_model_cannot_know(run_folder, refused):
    """The tiny model knows the words of one sentence, and reads twelve tokens."""
    long = " ".join(["red"] * 20)
    (run_folder.folder / "prompts.txt").write_text(f"a red cube\na griddle\n{long}\na blue ball\n")
    assert refused(run_folder.file()) == (
        "error: prompts: 1 of 4 prompts has words that the model doesn't know (griddle 1); "
        "1 is longer than the 12 tokens that it reads; what is not read won't be seen; take "
        "prompts for this model (`mfsynth prompts preview` tells of a library), or another model; "
        "or allow them: prompts.allow_unknown=true"
    )
    assert not run_folder.output.exists()


def test_malformed_yaml(run_folder, refused):
    path = run_folder.folder / "bad.yaml"
    path.write_text("name: [unclosed\n")
    assert str(path) in refused(path)


def test_a_misspelt_setting(run_folder, refused):
    assert "sampler.steps" in refused(run_folder.file(), "--set", "sampler.step=3")


def test_an_output_that_cannot_be_written(run_folder, refused):
    blocker = run_folder.folder / "file"
    blocker.write_text("not a folder")
    assert str(blocker) in refused(run_folder.file(), "--out", blocker / "out")
    assert blocker.read_text() == "not a folder"


def test_a_folder_that_is_no_run(run_folder, refused):
    run_folder.output.mkdir()
    (run_folder.output / "thesis.tex").write_text("years of work")
    assert "is not a run" in refused(run_folder.file())
    assert [path.name for path in run_folder.output.iterdir()] == ["thesis.tex"]


def test_a_run_with_another_fingerprint_names_what_differs(run_folder, refused):
    run_json = run_folder.output / "run.json"
    from started import manifest_of, start

    from mfsynth.runs.settings import load_run_config

    config = load_run_config(str(run_folder.file()))
    start(config)
    before = run_json.read_bytes()
    assert "sampler.steps: 1 -> 7" in refused(run_folder.file(), "--set", "sampler.steps=7")
    assert run_json.read_bytes() == before
    assert json.loads(before)["fingerprint"] == manifest_of(config).fingerprint


def test_a_mode_that_needs_other_inputs(run_folder, refused):
    assert "sampler.mode" in refused(run_folder.file(), "--set", "sampler.mode=i2d")


def test_a_released_model_without_its_depth_tokens(run_folder, refused, reference):
    released = {"model": {"id": str(reference)}, "sampler": {"preset": "image_then_depth"}}
    assert "error: sampler.depth_start: 0 (preset image_then_depth) leaves depth tokens" in refused(
        run_folder.file(**released)
    )
    assert not run_folder.output.exists()


def test_a_device_that_is_not_there(run_folder, refused, cluster):
    changes = ("--set", "runtime.device=cuda", "--set", f"runtime.ray_address={cluster}")
    assert "runtime.device" in refused(run_folder.file(), *changes)


def test_a_gpu_that_is_not_there_before_ray_starts(run_folder, refused, monkeypatch):
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    line = refused(run_folder.file(), "--set", "runtime.device=cuda")
    assert line.startswith("error: runtime.device: cuda, but torch ")
    assert not run_folder.output.exists()


def test_a_cluster_that_is_not_there(run_folder, refused, monkeypatch):
    import ray

    def init(**settings):
        raise ConnectionError(f"no answer from\n{settings['address']}")

    monkeypatch.setattr(ray, "init", init)
    line = refused(run_folder.file(), "--set", "runtime.ray_address=auto")
    assert "mend runtime.ray_address" in line
    assert "no answer from auto" in line


def test_a_cluster_whose_name_nobody_has_or_which_does_not_answer_for_long_enough(
    run_folder, refused
):
    unknown = "runtime.ray_address=head.invalid:6379"
    assert "no answer" in refused(run_folder.file(), "--set", unknown)
    silent = ("--set", "runtime.ray_address=127.0.0.1:1", "--set", "runtime.patience=2s")
    line = refused(run_folder.file(), *silent)
    assert "no answer (Connection refused)" in line
    assert line.endswith("(given up after 2 s: runtime.patience)")
