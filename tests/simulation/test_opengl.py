"""Where OpenGL is missing, one line says what to install."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec

import pytest

from mfsynth.simulation.gl import load_mujoco

WITHOUT_LIBRARIES = """
import ctypes
from mfsynth.errors import MfsynthError
from mfsynth.simulation.gl import load_mujoco

def missing(name, *rest, **more):
    raise OSError(f"{name}: cannot open shared object file")

ctypes.CDLL = missing
try:
    load_mujoco()
except MfsynthError as error:
    print(error)
"""

RENDER = """
from mfsynth.errors import MfsynthError
from mfsynth.simulation.gl import gl_context

try:
    gl_context()
except MfsynthError as error:
    print(error)
"""


def run(code, **environment):
    env = {key: value for key, value in os.environ.items() if key != "MUJOCO_GL"}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**env, **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def names_the_packages(message):
    packages = ("libegl1", "libgl1-mesa-dri", "libosmesa6")
    return message.count("\n") == 1 and all(name in message for name in packages)


def test_without_any_library_the_debian_packages_are_named():
    message = run(WITHOUT_LIBRARIES)
    assert "no headless OpenGL found" in message
    assert names_the_packages(message)


@pytest.mark.skipif(find_spec("mujoco") is None, reason="needs the package mujoco")
def test_a_backend_that_does_not_exist_is_named_with_what_to_do():
    message = run(RENDER, MUJOCO_GL="crayons")
    assert "MUJOCO_GL=crayons" in message
    assert names_the_packages(message)


@pytest.mark.usefixtures("opengl")
def test_no_setting_is_needed_where_a_library_is_installed():
    assert run(RENDER) == ""


@pytest.mark.usefixtures("opengl")
def test_a_caller_may_have_imported_mujoco_before():
    assert run("import mujoco\n" + RENDER) == ""


@pytest.mark.usefixtures("opengl")
def test_the_module_is_loaded_once():
    assert load_mujoco() is load_mujoco()


def test_importing_the_package_needs_no_opengl():
    code = "import sys, mfsynth.simulation; assert 'mujoco' not in sys.modules"
    assert run(code, MUJOCO_GL="crayons") == ""
