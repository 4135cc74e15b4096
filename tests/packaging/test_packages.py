"""What is installed is what is imported, and no more is imported than a use needs."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
RUN = ROOT / "tests" / "data" / "format2_draft3" / "run"

# Installed, and imported by another package that mfsynth calls.
BY_OTHERS = {
    "adlfs": "fsspec opens abfs:// with it",
    "gcsfs": "fsspec opens gs:// with it",
    "s3fs": "fsspec opens s3:// with it",
    "pandas": "Ray Train imports it",
    "tensorboard": "torch.utils.tensorboard imports it",
}
# Imported, and installed by what is installed.
WITH_OTHERS = {
    "cryptography": "c2pa-python requires it",
    "markupsafe": "jinja2 requires it",
    "google": "foxglove-schemas-protobuf requires protobuf",
    "pydantic-core": "pydantic requires it",
    "tokenizers": "transformers requires it",
}
# Likewise, by tests and benchmarks alone.
WITH_OTHERS_IN_TESTS = {
    "aiohttp": "s3fs requires it",
    "azure-storage-blob": "adlfs requires it",
    "mcap": "mcap-protobuf-support requires it",
    "packaging": "huggingface_hub requires it",
    "yarl": "aiohttp requires it",
}
# Others' readers and loaders, which tests and benchmarks run in environments of their own.
PEERS = {"lerobot", "litdata", "plyfile", "pycocotools", "streaming", "trimesh"}
# Imported where it is there; docs/how-to/estimators.md and exports.md say why no extra names it.
ON_THEIR_OWN = {"depth_anything_3", "megatron", "moge"}
# What reading data must do without.
HEAVY = ["torch", "ray", "diffusers", "transformers", "accelerate", "peft", "huggingface_hub"]
UNIX = ["fcntl", "grp", "pty", "pwd", "resource", "syslog", "termios", "tty"]


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def required(lines: list[str]) -> set[str]:
    return {canonical(re.match(r"[\w.-]+", line)[0]) for line in lines}


def imported(*folders: str) -> set[str]:
    """Top-level modules of others that a folder's code imports, anywhere in it."""
    found = set()
    for folder in folders:
        for path in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Import):
                    found |= {alias.name.partition(".")[0] for alias in node.names}
                elif isinstance(node, ast.ImportFrom) and not node.level:
                    found.add((node.module or "").partition(".")[0])
    return found - {*sys.stdlib_module_names, "mfsynth"}


def distributions(modules: set[str]) -> set[str]:
    known = packages_distributions()
    named = {
        "azure": ["azure-storage-blob"],
        "c2pa": ["c2pa-python"],
        "google": ["google"],
        "rerun": ["rerun-sdk"],
    }
    return {
        canonical(name) for module in modules for name in {**known, **named}.get(module, [module])
    }


def test_each_import_is_of_a_package_that_is_required_or_an_extra():
    extras = PROJECT["optional-dependencies"]
    offered = {name: lines for name, lines in extras.items() if name not in ("dev", "docs")}
    given = required(
        [*PROJECT["dependencies"], *(line for each in offered.values() for line in each)]
    )
    used = distributions(imported("mfsynth") - ON_THEIR_OWN)
    assert used <= given | WITH_OTHERS.keys()


def test_each_import_of_tests_and_benchmarks_is_of_a_package_that_development_installs():
    folders = ("tests", "benchmarks")
    own = {path.stem for folder in folders for path in (ROOT / folder).rglob("*.py")}
    installed = re.search(r'-e "\.\[([\w,]+)\]"', (ROOT / "Makefile").read_text())[1].split(",")
    assert "dev" in installed
    extras = PROJECT["optional-dependencies"]
    given = required(
        [*PROJECT["dependencies"], *(line for one in installed for line in extras[one])]
    )
    used = distributions(imported(*folders) - own - ON_THEIR_OWN - PEERS)
    assert used <= given | WITH_OTHERS.keys() | WITH_OTHERS_IN_TESTS.keys()


def test_each_package_that_is_required_or_an_extra_is_imported():
    extras = PROJECT["optional-dependencies"]
    offered = [
        line for name, each in extras.items() if name not in ("dev", "docs") for line in each
    ]
    used = distributions(imported("mfsynth"))
    # The simulator is opened by name, once it is known which library of OpenGL there is.
    code = "".join(path.read_text() for path in (ROOT / "mfsynth").rglob("*.py"))
    named = {name for name in required(offered) if re.search(rf'"{name}["./]', code, re.IGNORECASE)}
    unused = required([*PROJECT["dependencies"], *offered]) - used - named - BY_OTHERS.keys()
    assert not unused


_BLOCKED = """
import os, sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {names}:
            raise ImportError(f"{{name}} is not to be imported")

sys.meta_path.insert(0, Blocked())
del os.getuid, os.geteuid, os.fork, os.register_at_fork, os.preadv, os.O_NONBLOCK
import mfsynth

dataset = mfsynth.open_dataset(sys.argv[1])
sample = dataset[0]
batches = [batch for batch in dataset.filter("valid_fraction > 0").loader(batch_size=2)]
print(len(dataset), sample.rgb.shape, sum(len(batch["rgb"]) for batch in batches))
"""


def test_reading_data_imports_neither_torch_nor_ray_nor_what_only_unix_has():
    code = _BLOCKED.format(names={*HEAVY, *UNIX})
    shown = subprocess.run(
        [sys.executable, "-c", code, str(RUN)], capture_output=True, text=True, check=False
    )
    assert shown.returncode == 0, shown.stderr
    assert shown.stdout.startswith("3 (16, 16, 3)")


_TELEMETRY = (
    "import mfsynth\n"
    "from huggingface_hub import constants\n"
    "from ray._common.usage.usage_lib import usage_stats_enabled\n"
    "print(usage_stats_enabled(), not constants.HF_HUB_DISABLE_TELEMETRY)"
)


@pytest.mark.parametrize(
    ("asked", "sent"),
    [
        ({}, "False False"),
        ({"RAY_USAGE_STATS_ENABLED": "1", "HF_HUB_DISABLE_TELEMETRY": "0"}, "True True"),
    ],
    ids=["nobody asks", "the user asks"],
)
def test_dependencies_tell_their_makers_nothing_unless_asked(asked, sent, tmp_path):
    names = ("RAY_USAGE_STATS_ENABLED", "HF_HUB_DISABLE_TELEMETRY", "HF_HUB_OFFLINE")
    given = {name: value for name, value in os.environ.items() if name not in names}
    shown = subprocess.check_output(
        [sys.executable, "-c", _TELEMETRY], env={**given, "HOME": str(tmp_path), **asked}, text=True
    )
    assert shown.split("\n")[0] == sent


def test_classifiers_name_what_has_run():
    workflow = (ROOT / ".github" / "workflows" / "ci.yml").read_text()
    named = re.findall(r"Python :: (3\.\d+)", "\n".join(PROJECT["classifiers"]))
    assert named
    assert all(f'"{version}"' in workflow for version in named)
    assert "Operating System :: POSIX :: Linux" in PROJECT["classifiers"]
