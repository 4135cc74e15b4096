"""A Ray that is started for a run is nobody else's."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from required import require

from mfsynth.config import RuntimeConfig
from mfsynth.runs import local_ray
from mfsynth.runs.cluster import RayCluster
from mfsynth.runs.events import Wait
from mfsynth.runs.patience import Patience
from mfsynth.runs.ray_errors import explained

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
    for name in (local_ray.TOKEN_VARIABLE, local_ray.TOKEN_PATH_VARIABLE, "RAY_AUTH_MODE"):
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
    local_ray.keep_token_private(needs_one=False)
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.read_text() == "0" * 64
    assert local_ray.TOKEN_VARIABLE not in os.environ


def test_a_machine_without_a_home_needs_no_token_file(home: Path, monkeypatch) -> None:
    monkeypatch.setenv("HOME", str(home / "is" / "nowhere"))
    monkeypatch.setenv(local_ray.TOKEN_VARIABLE, "")
    monkeypatch.delenv(local_ray.TOKEN_VARIABLE)
    local_ray.keep_token_private(needs_one=True)
    assert len(os.environ[local_ray.TOKEN_VARIABLE]) == 64


# A user id without a name, as containers give it. It sees the files of whoever runs the test.
NOBODY = ["unshare", "--user", "--map-user=12345", "--map-group=12345"]
ODD = """
import getpass, os, stat, urllib.request
from pathlib import Path
import psutil
import ray
from mfsynth.config import RuntimeConfig
from mfsynth.runs.cluster import RayCluster

here = RayCluster(RuntimeConfig(workers=1))
@ray.remote
def inside():
    return Path.home().is_dir(), bool(getpass.getuser()), urllib.request.proxy_bypass("127.0.0.1")
assert ray.get(inside.remote()) == (True, True, True)
for process in psutil.Process().children():
    assert os.getsid(process.pid) == process.pid
    assert os.getpgid(process.pid) != os.getpgid(0)
folder = Path(ray._private.worker.global_worker.node.get_session_dir_path()).parent.parent
assert stat.S_IMODE(folder.stat().st_mode) == 0o700
print("works in", folder)
here.disconnect()
"""


def can_be_nobody() -> bool:
    try:
        return subprocess.run([*NOBODY, "true"], capture_output=True).returncode == 0
    except FileNotFoundError:
        return False


@pytest.mark.slow
@pytest.mark.parametrize("who", [[], pytest.param(NOBODY, id="arbitrary user")])
def test_it_starts_without_a_home_in_a_deep_folder_behind_a_proxy(tmp_path, who):
    if who and not can_be_nobody():
        require("this machine has no user namespaces")
    deep = tmp_path / ("d" * 120)
    deep.mkdir()
    environment = {name: value for name, value in os.environ.items() if name != "HOME"}
    environment |= {
        "TMPDIR": str(deep),
        "http_proxy": "http://127.0.0.1:9",
        "https_proxy": "http://127.0.0.1:9",
        "NO_PROXY": "intranet",
        "RAY_raylet_start_wait_time_s": "120",
    }
    for name in (local_ray.TOKEN_VARIABLE, local_ray.TOKEN_PATH_VARIABLE, "RAY_AUTH_MODE"):
        environment.pop(name, None)
    found = subprocess.run(
        [*who, sys.executable, "-c", ODD],
        env=environment,
        cwd="/",
        capture_output=True,
        text=True,
        timeout=250,
    )
    assert found.returncode == 0, found.stderr[-3000:]
    assert "works in /tmp/mfsynth-" in found.stdout


def test_a_ray_that_is_slow_to_start_is_waited_for(cluster, monkeypatch):
    import ray

    init, calls, waits = ray.init, [], []

    def slow(**settings):
        calls.append(settings)
        if len(calls) == 1:
            raise RuntimeError("The current node timed out during startup.")
        return init(**settings)

    def look(wait: Wait) -> bool:
        waits.append(wait)
        return False

    monkeypatch.setattr(ray, "init", slow)
    joined = RayCluster(RuntimeConfig(ray_address=cluster), Patience(60.0, look))
    joined.disconnect()
    assert len(calls) == 2
    assert {(wait.cause, "take load off it" in wait.text) for wait in waits} == {("ray", True)}
    assert 0 < waits[-1].left_s < 60


def test_a_folder_of_somebody_else_is_not_taken(tmp_path, monkeypatch):
    (tmp_path / f"mfsynth-{os.getuid()}").symlink_to(tmp_path)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.delenv(local_ray.FOLDER_VARIABLE, raising=False)
    assert not (local_ray.prepare() or "").startswith(str(tmp_path))


def test_where_no_folder_will_do_the_line_says_what_to_set(monkeypatch):
    from mfsynth.errors import MfsynthError

    monkeypatch.setattr(local_ray, "_LONGEST_FOLDER", 3)
    monkeypatch.delenv(local_ray.FOLDER_VARIABLE, raising=False)
    with pytest.raises(MfsynthError, match="set RAY_TMPDIR to one that can be written"):
        local_ray.prepare()


@pytest.mark.parametrize(
    ("said", "remedy", "may_pass"),
    [
        ("AF_UNIX path length cannot exceed 107 bytes: /long", "RAY_TMPDIR", False),
        ("Could not determine home directory.", "set HOME", False),
        ("Version mismatch: The cluster was started with: Ray: 2.1", "same versions", False),
        ("InvalidAuthToken: Unauthenticated", "RAY_AUTH_TOKEN", False),
        ("[Errno 13] Permission denied: '/tmp/ray'", "RAY_TMPDIR", False),
        ("[Errno 28] No space left on device", "free some space", True),
        ("The current node timed out during startup.", "take load off it", True),
        ("fork: Resource temporarily unavailable", "ulimit -u", True),
        ("something else", "see /logs", False),
    ],
)
def test_every_trouble_of_ray_has_a_remedy_of_its_own(said, remedy, may_pass):
    trouble = explained(RuntimeError(said), None, "/logs")
    assert trouble.may_pass is may_pass
    assert remedy in trouble.text
    assert trouble.text.startswith(f"Ray does not start (on this machine): {said}; ")
    assert "runtime.ray_address" not in trouble.text
