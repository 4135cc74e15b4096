from __future__ import annotations

import shutil
from collections.abc import Callable

import pytest
from click.testing import CliRunner

from mfsynth.cli.prompts import prompts
from mfsynth.errors import MfsynthError
from mfsynth.prompts import load_library
from mfsynth.prompts.coverage import coverage


def _preview(*arguments: str) -> str:
    return (
        CliRunner().invoke(prompts, ["preview", *arguments], catch_exceptions=False).stdout.strip()
    )


def test_samples_size_and_coverage_are_shown() -> None:
    lines = _preview("tabletop", "--samples", "2", "--candidates", "1").splitlines()
    assert lines[0] == f"0: {load_library('tabletop').prompt(0).text}"
    assert lines[2] == "space: 10,183,680 prompts; 2 of the 2 shown are different"
    assert lines[3] == "coverage of slots by 1 candidates:"
    assert "  light: 1/3, never: dim, warm" in lines


def test_a_configuration_shows_the_library_that_it_names() -> None:
    assert _preview("local", "--samples", "2") == _preview("tabletop_shapes", "--samples", "2")


def test_the_seed_of_the_configuration_counts() -> None:
    text = load_library("tabletop_shapes", seed=7).prompt(0).text
    assert _preview("local", "--set", "seed=7", "--samples", "1").startswith(f"0: {text}\n")


def test_files_of_prompts_have_no_slots(write: Callable[[str, str], str]) -> None:
    path = write("p.txt", "a mug\n")
    lines = _preview("local", "--set", f"prompts.file={path}", "--samples", "2").splitlines()
    assert lines[:-1] == [
        "0: a mug",
        "1: a mug",
        "space: 1 prompts; 1 of the 2 shown are different",
    ]


def test_what_the_model_does_not_know_or_read_is_told(write: Callable[[str, str], str]) -> None:
    assert _preview("local", "--samples", "1", "--candidates", "20").splitlines()[-1] == (
        "model embedded: knows all words of 20 prompts, and reads them whole"
    )
    told = _preview("kitchen", "--samples", "1", "--candidates", "20").splitlines()[-1]
    assert told.startswith(
        "model embedded: 20 of 20 prompts have words that the model doesn't know (photo "
    )
    path = write("p.txt", "a mug\n" + "a red cube " * 30)
    given = ("local", "--set", f"prompts.file={path}", "--samples", "1", "--candidates", "4")
    assert _preview(*given).splitlines()[-1] == (
        "model embedded: 2 of 4 prompts are longer than the 17 tokens that it reads"
    )


def test_a_model_that_is_not_here_is_not_asked(tmp_path, tiny_model_dir) -> None:
    model = tmp_path / "model"
    shutil.copytree(tiny_model_dir, model)
    shutil.rmtree(model / "tokenizer")
    told = _preview("local", "--set", f"model.id={model}", "--samples", "1").splitlines()[-1]
    assert told == (
        f"model {model}: its tokenizer is not on this machine, so its words are not known"
    )


def test_a_path_may_be_a_library_or_a_configuration(write: Callable[[str, str], str]) -> None:
    library = write("library.yaml", "templates: [a mug]")
    config = write(
        "run.yaml", f"name: x\ntarget: {{pairs: 1}}\noutput: o\nprompts: {{library: {library}}}"
    )
    assert _preview(library, "--samples", "1") == _preview(config, "--samples", "1")


def test_an_unknown_name_is_an_error_with_the_nearest_or_all_known_ones() -> None:
    with pytest.raises(MfsynthError, match=r"'tabeltop': neither .*; did you mean tabletop\?"):
        _preview("tabeltop")
    with pytest.raises(MfsynthError, match=r"'zzz': neither .*; known: .*local, .*tabletop"):
        _preview("zzz")


def test_coverage_counts_each_choice(write: Callable[[str, str], str]) -> None:
    library = load_library(
        write("l.yaml", "templates: ['{x} {y}']\nslots: {x: {choices: {p: 1, q: 1000}}, y: [r]}")
    )
    (slot,) = coverage(library, range(10))
    assert (slot.slot, slot.options, slot.seen, slot.missing) == ("x", ("p", "q"), 1, ("p",))
    assert slot.uses == (0, 10)
