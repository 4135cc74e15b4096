"""Every command and every setting of README and docs is one that there is.

Shell: each command's options are parsed by click, shipped configurations are loaded with their
`--set`; of other programs, the files, extras and targets that they name must be there. YAML: read
by the models that read it from a file. What can be run is, in `test_commands_as_written.py`.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import click
import pytest
import yaml
from fenced import ROOT, Block, blocks

from mfsynth.checks.registry import CALIBRATION, find_check
from mfsynth.cli import cli
from mfsynth.config.documents import parse_yaml
from mfsynth.config.loading import load_config, read_overrides
from mfsynth.config.resources import resource_names
from mfsynth.config.schema import RunConfig
from mfsynth.errors import MfsynthError
from mfsynth.evaluation.calibration.config import CalibrateConfig, load_calibrate_config
from mfsynth.evaluation.config import load_evaluate_config
from mfsynth.prompts import load_library
from mfsynth.sources.registry import source_settings
from mfsynth.training.config import TrainConfig, load_train_config
from mfsynth.training.distillation.config import load_distill_config
from mfsynth.training.estimator_config import EstimatorConfig, load_estimator_config
from mfsynth.training.kinds import describes_estimator

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = {*PROJECT["optional-dependencies"]}
TARGETS = {*re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE)}
ALL_CODE = "".join(path.read_text() for path in sorted((ROOT / "mfsynth").rglob("*.py")))
# Of others, which no test can call: a block with one of them says why it isn't run.
FOREIGN = {"docker", "kubectl", "ray", "sky", "sbatch"}
PLAIN = {"text", "toml", ""}


def ids(found: list[Block]) -> list[str]:
    return [str(block) for block in found]


def test_every_block_is_of_a_language_that_a_test_reads():
    assert {block.language for block in blocks()} <= {"sh", "yaml", "python", *PLAIN}
    for block in blocks("toml"):
        tomllib.loads(block.text)


@pytest.mark.parametrize("block", blocks("sh"), ids=ids(blocks("sh")))
def test_each_command_is_one_that_there_is(block):
    for words in block.commands():
        check_command(words, block)


def check_command(words: list[str], block: Block) -> None:
    program, *arguments = words
    if program == "mfsynth":
        check_mfsynth(arguments)
    elif program in ("accelerate", "torchrun"):
        check_mfsynth(arguments[arguments.index("mfsynth.cli") + 1 :])
    elif program in ("python", ".venv/bin/python"):
        check_script(arguments)
    elif program == "make":
        assert {*arguments} <= TARGETS
    elif program in ("pip", ".venv/bin/pip"):
        check_pip(arguments)
    elif program == ".venv/bin/pytest":
        assert all((ROOT / word).exists() for word in arguments if word.startswith("tests/"))
    elif program == "source":
        assert arguments == [".venv/bin/activate"]
    elif program == "export":
        assert f'"{arguments[0].partition("=")[0]}"' in ALL_CODE
    else:
        assert program in FOREIGN, f"no test knows {program}"
        assert block.not_run
        check_foreign(arguments)


def check_mfsynth(arguments: list[str]) -> None:
    """Parses the options for real, and loads a shipped configuration with what is set."""
    command: click.Command = cli
    context = click.Context(cli, info_name="mfsynth")
    while isinstance(command, click.Group):
        name, *arguments = arguments
        found = command.get_command(context, name)
        assert found is not None, name
        command = found
    # Streams and shells are no arguments.
    ends = [number for number, word in enumerate(arguments) if word in ("2>", ">", "|")]
    arguments = arguments[: ends[0]] if ends else arguments
    given = command.make_context(command.name, arguments).params
    load_shipped(command.name or "", given)


def load_shipped(command: str, given: dict[str, Any]) -> None:
    overrides = given.get("overrides", ())
    config = given.get("config")
    if command in ("generate", "annotate", "retexture", "doctor", "plan"):
        if config in resource_names("configs"):
            load_config(config, overrides)
        elif overrides:
            # Of a file of the reader's, which has a run's keys.
            values = yaml.safe_load((ROOT / "configs" / "local.yaml").read_text())
            read_overrides(values, overrides).validate(RunConfig)
    elif command == "train" and config in resource_names("configs/train"):
        if describes_estimator(config):
            load_estimator_config(config, overrides)
        else:
            load_train_config(config, overrides)
    elif command == "distill":
        load_distill_config(config, overrides)
    elif command == "evaluate":
        load_evaluate_config(config, overrides)
    elif command == "calibrate" and config in resource_names("configs/calibrate"):
        load_calibrate_config(config, overrides)


def check_script(arguments: list[str]) -> None:
    script, *given = arguments
    text = (ROOT / script).read_text()
    assert "__main__" in text
    for word in given:
        if word.startswith("--"):
            # Of click, with its own name, or of argparse.
            assert f'"{word}' in text, f"{script} has no {word}"


def check_pip(arguments: list[str]) -> None:
    assert arguments[0] == "install"
    for word in arguments:
        if named := re.fullmatch(r"(?:\.|mfsynth)\[(.+)\]", word):
            assert {*named[1].split(",")} <= EXTRAS
        elif word == "constraints.txt":
            assert (ROOT / word).is_file()


def check_foreign(arguments: list[str]) -> None:
    for word in arguments:
        if word.startswith(("pipelines/", "configs/")):
            assert (ROOT / word).is_file()
    if "mfsynth" in arguments:
        check_mfsynth(arguments[arguments.index("mfsynth") + 1 :])
    elif "pipelines/slurm.sh" in arguments:
        check_mfsynth(["generate", *arguments[arguments.index("pipelines/slurm.sh") + 1 :]])


@pytest.mark.parametrize("block", blocks("yaml"), ids=ids(blocks("yaml")))
def test_each_setting_is_one_that_there_is(block, tmp_path):
    if block.not_run:
        return
    values = parse_yaml(block.text, str(block))
    file = tmp_path / "block.yaml"
    file.write_text(block.text)
    if "templates" in values:
        assert load_library(str(file)).size > 0
    elif "alpha" in values:
        CalibrateConfig.model_validate(values)
    elif values.keys() & {"data", "noise", "optimiser"}:
        check_training(values)
    else:
        check_run(values)


def check_training(values: dict[str, Any]) -> None:
    kind = EstimatorConfig if "estimator" in values else TrainConfig
    shipped = "estimator" if kind is EstimatorConfig else "embedded"
    base = yaml.safe_load((ROOT / "configs" / "train" / f"{shipped}.yaml").read_text())
    for name, section in values.items():
        mixed = isinstance(section, dict) and name != "estimator"
        base[name] = {**base[name], **section} if mixed else section
    kind.model_validate(base)


def check_run(values: dict[str, Any]) -> None:
    from_source = "source" in values or values.get("metres_per_unit") == "source"
    shipped = "annotate" if from_source else "local"
    base = yaml.safe_load((ROOT / "configs" / f"{shipped}.yaml").read_text())
    if from_source and "kind" not in values.get("source", {}):
        values = {**values, "source": {**base["source"], **values.get("source", {})}}
    if "sensor" in values:
        base["metres_per_unit"] = 1.0
    config = RunConfig.model_validate({**base, **values})
    for name, settings in config.checks.items():
        if name != CALIBRATION:
            find_check(name).model_validate(settings)
    if config.source is not None:
        source_settings(config.source)


@pytest.mark.parametrize(
    "file", sorted((ROOT / "prompts").glob("*.yaml")), ids=lambda file: file.stem
)
def test_each_shipped_library_can_be_drawn_from(file: Path):
    assert load_library(str(file)).prompt(0).text


@pytest.mark.parametrize(
    "line",
    [
        "mfsynth generat local",
        "mfsynth generate local --par 5",
        "mfsynth generate local --set sampler.step=5",
        "mfsynth train embedded --set optimiser.stepps=5",
        "python benchmarks/loader.py --no-such-option",
        "python benchmarks/no_such_script.py",
        "pip install 'mfsynth[no-such-extra]'",
        "make no-such-target",
        "export MFSYNTH_NO_SUCH=1",
        "kubectl create -f pipelines/rayjob.yaml",
        "no-such-program",
    ],
)
def test_a_line_that_would_not_work_is_found(line):
    block = Block("page.md", 1, "sh", line, not_run="")
    (words,) = block.commands()
    with pytest.raises((AssertionError, click.ClickException, MfsynthError, OSError)):
        check_command(words, block)
