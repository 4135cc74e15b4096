"""A Ray that is started for a run is nobody else's."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from mfsynth.runs import cluster

# In a process of its own: Ray may be there only once in one.
PROGRAM = """
import os, sys
import psutil
import ray
from mfsynth.config import RuntimeConfig
from mfsynth.runs.cluster import RayCluster

here = RayCluster(RuntimeConfig(workers=1))
assert ray.get(ray.remote(lambda: 7).remote()) == 7
family = [psutil.Process(), *psutil.Process().children(recursive=True)]
for process in family:
    for connection in process.net_connections("tcp"):
        if connection.status == psutil.CONN_LISTEN:
            print("listens", connection.laddr.ip)
print("secret" if os.environ["RAY_AUTH_TOKEN"] in str([p.cmdline() for p in family]) else "hidden")
here.disconnect()
"""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in (cluster.TOKEN_VARIABLE, cluster.TOKEN_PATH_VARIABLE, "RAY_AUTH_MODE"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def test_it_listens_on_loopback_alone_and_leaves_no_token(home: Path) -> None:
    found = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=250
    )
    assert found.returncode == 0, found.stderr
    lines = found.stdout.splitlines()
    addresses = {line.split()[1] for line in lines if line.startswith("listens ")}
    assert addresses
    assert addresses <= {"127.0.0.1", "::ffff:127.0.0.1", "::1"}
    assert "hidden" in lines
    assert not (home / ".ray" / "auth_token").exists()


def test_a_token_that_everybody_could_read_is_its_owners_again(home: Path) -> None:
    path = home / ".ray" / "auth_token"
    path.parent.mkdir()
    path.write_text("0" * 64)
    path.chmod(0o644)
    cluster._keep_token_private(needs_one=True)
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.read_text() == "0" * 64
    assert cluster.TOKEN_VARIABLE not in os.environ


def test_a_machine_without_a_home_needs_no_token_file(home: Path, monkeypatch) -> None:
    monkeypatch.setenv("HOME", str(home / "is" / "nowhere"))
    monkeypatch.setenv(cluster.TOKEN_VARIABLE, "")
    monkeypatch.delenv(cluster.TOKEN_VARIABLE)
    cluster._keep_token_private(needs_one=True)
    assert len(os.environ[cluster.TOKEN_VARIABLE]) == 64
