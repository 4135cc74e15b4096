"""`generate --dry-run`: a run on one screen, and nothing made; and what people look for beside."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import contextmanager

import pytest
import tiny_run
import yaml

from mfsynth.cli import main
from mfsynth.cli.doctor import tell_findings
from mfsynth.runs.doctor.findings import Probe, error, note, ok, warning


def called(capsys, *arguments):
    with pytest.raises(SystemExit) as ended:
        main([*map(str, arguments)])
    out, err = capsys.readouterr()
    return ended.value.code, out, err


def config(tmp_path, **changes):
    values = {
        "name": tiny_run.RUN,
        "target": {"pairs": 800},
        "shard_size": tiny_run.SHARD_SIZE,
        "prompts": {"library": "tabletop"},
        "output": str(tmp_path / "run"),
        "runtime": {"device": "cpu", "workers": 1},
    }
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump(values | changes))
    return path


@pytest.mark.parametrize(
    ("findings", "status", "strict"),
    [
        ([ok("well"), note("so")], 0, 0),
        ([ok("well"), warning("badly", "mend it")], 0, 1),
        ([error("not at all")], 2, 2),
    ],
)
def test_only_what_keeps_a_run_from_starting_is_a_failure(capsys, findings, status, strict):
    @contextmanager
    def examination():
        yield [Probe(f"probe {n}", lambda found=found: found) for n, found in enumerate(findings)]

    for only_errors, wanted in ((True, status), (False, strict)):
        with pytest.raises(SystemExit) as ended:
            tell_findings("run.yaml", "configuration", examination(), only_errors=only_errors)
        assert ended.value.code == wanted
    assert findings[-1].seen in capsys.readouterr().out


def test_a_dry_run_of_another_command_is_refused(tmp_path, capsys):
    code, _, err = called(capsys, "annotate", config(tmp_path), "--dry-run")
    assert code == 1
    assert "call that" in err


def test_the_libraries_are_listed_with_size_slots_and_a_prompt(capsys):
    code, out, _ = called(capsys, "prompts", "list")
    assert code == 0
    assert "tabletop: 10,183,680 prompts; objects, table, light, view, colour, shape\n  a " in out
    assert len(out.splitlines()) >= 18


def test_the_version_says_what_matters_and_imports_none_of_it():
    code = (
        "import sys; from mfsynth.cli import main\n"
        "try: main(['--version'])\n"
        "finally: print({'torch', 'ray', 'numpy'} & {*sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    version, modules = done.stdout.splitlines()
    import torch

    cuda = f"CUDA {torch.version.cuda}" if torch.version.cuda else "no CUDA"
    assert version.startswith("mfsynth 0.")
    assert f", torch {torch.__version__} ({cuda}), ray " in version
    assert version.endswith(f"Python {sys.version.split()[0]}")
    assert modules == "set()"


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        ("mfsynth gen", "generate"),
        ("mfsynth generate lo", "local"),
        ("mfsynth generate --dr", "--dry-run"),
        ("mfsynth prompts preview kit", "kitchen"),
    ],
)
def test_a_shell_completes_commands_options_and_names(words, wanted):
    asked = {
        "_MFSYNTH_COMPLETE": "bash_complete",
        "COMP_WORDS": words,
        "COMP_CWORD": str(len(words.split()) - 1),
    }
    code = "from mfsynth.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | asked,
        capture_output=True,
        text=True,
        check=True,
    )
    assert f"plain,{wanted}" in done.stdout.splitlines()
