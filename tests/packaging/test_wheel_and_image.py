"""The wheel stands alone, and the image, the workflow and SkyPilot's file are of what there is.

The Dockerfile's own commands are run, as far as a machine without Docker and a registry can.
"""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

from mfsynth import __version__
from mfsynth.runs.settings import load_run_config

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
DOCKERFILE = (ROOT / "Dockerfile").read_text()
WORKFLOW = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())
SKYPILOT = yaml.safe_load((ROOT / "pipelines" / "skypilot.yaml").read_text())


def instructions(kind: str) -> list[str]:
    return re.findall(rf"^{kind} (.+)$", DOCKERFILE, re.MULTILINE)


def context(folder: Path) -> Path:
    """What Docker would see of the checkout, by .dockerignore."""
    kept = re.findall(r"^!(.+)$", (ROOT / ".dockerignore").read_text(), re.MULTILINE)
    for name in kept:
        place = ROOT / name
        if place.is_dir():
            shutil.copytree(place, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(place, folder / name)
    return folder


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    """A folder with what the image's wheel has in it, made by the image's own command."""
    source = context(tmp_path_factory.mktemp("source"))
    wheels, folder = (tmp_path_factory.mktemp(name) for name in ("wheels", "installed"))
    (command,) = [line for line in instructions("RUN") if line.startswith("pip wheel")]
    words = shlex.split(command.replace("/wheels", str(wheels)))
    # What builds it is in this environment: nothing is fetched.
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, *words[1:], "--no-build-isolation"], cwd=source, check=True)
    (wheel,) = wheels.glob("*.whl")
    subprocess.run([*pip, "install", "--no-deps", f"--target={folder}", str(wheel)], check=True)
    return folder


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        (["--version"], __version__),
        (["prompts", "preview", "tabletop_shapes", "--candidates", "4"], "knows all words of 4"),
        (["model", "info", "embedded"], "apache-2.0"),
        (["plan", "local", "--pairs", "10"], "local"),
    ],
    ids=["version", "prompts", "model", "plan"],
)
def test_the_wheel_works_outside_of_the_checkout(installed, tmp_path, arguments, shown):
    code = "import mfsynth, sys; from mfsynth.cli import main; print(mfsynth.__file__); main()"
    done = subprocess.run(
        [sys.executable, "-P", "-c", code, *arguments],
        cwd=tmp_path,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(installed), "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    where, _, said = done.stdout.partition("\n")
    assert Path(where).is_relative_to(installed)
    assert shown in said + done.stderr


def test_the_image_is_the_one_that_the_ray_job_names():
    (named,) = re.findall(r"docker build -t (\S+) \.", DOCKERFILE)
    job = (ROOT / "pipelines" / "rayjob.yaml").read_text()
    assert {*re.findall(r"image: (\S+)", job)} == {named}
    assert named.endswith(f":{__version__}")


def test_the_image_is_built_of_what_is_there():
    pins = dict(re.findall(r"^(\S+)==(\S+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE))
    (install,) = [line for line in instructions("RUN") if line.startswith("pip install")]
    (extras,) = re.findall(r"\[([\w,]+)\]", install)
    assert {*extras.split(",")} <= PROJECT["optional-dependencies"].keys()
    for base in instructions("FROM"):
        version = re.match(r"python:(3\.\d+)-", base)[1]
        assert f"Programming Language :: Python :: {version}" in PROJECT["classifiers"]
    job = yaml.safe_load((ROOT / "pipelines" / "rayjob.yaml").read_text())
    assert job["spec"]["rayClusterSpec"]["rayVersion"] == pins["ray"]
    for line in instructions("COPY"):
        source = line.split()[-2]
        assert source == "/wheels" or (ROOT / source).exists()


def test_the_workflow_calls_the_same_script_as_every_other_ci():
    steps = [step for job in WORKFLOW["jobs"].values() for step in job["steps"]]
    commands = [step["run"] for step in steps if "run" in step]
    assert ".ci/run" in commands
    installs = "\n".join(commands)
    assert "mfsynth generate local" in installs
    assert all("uses" in step or "run" in step for step in steps)


def test_what_skypilot_runs_is_one_that_mfsynth_takes(tmp_path):
    from mfsynth.cli.generate import generate

    script = SKYPILOT["run"]
    subprocess.run(["bash", "-n"], input=SKYPILOT["setup"] + script, text=True, check=True)
    text = re.sub(r"\\\n\s*", " ", script)
    (line,) = re.findall(r"-- mfsynth generate (.+)", text)
    for name, value in SKYPILOT["envs"].items():
        line = line.replace(f"${name}", value)
    given = generate.make_context("generate", shlex.split(line)).params
    config = load_run_config(
        given["config"], given["overrides"], output=given["out"], pairs=given["pairs"]
    )
    assert config.runtime.ray_address == "auto"
    assert SKYPILOT["file_mounts"] == {config.model.id: "${MODEL}"}
    assert SKYPILOT["envs"]["MODEL"].startswith("s3://")


def test_what_skypilot_carries_is_enough_to_install_mfsynth_and_no_weights():
    assert SKYPILOT["workdir"] == "."
    (version,) = re.findall(r"uv venv .*--python (\S+)", SKYPILOT["setup"])
    assert f">={version}" in PROJECT["requires-python"]
    assert (ROOT / re.findall(r"-c (\S+) \.$", SKYPILOT["setup"], re.MULTILINE)[0]).is_file()
    # What git ignores, SkyPilot leaves here: a converted model of 24 GB, for one.
    assert "/models/" in (ROOT / ".gitignore").read_text().split()
