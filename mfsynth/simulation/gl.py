"""MuJoCo without a display: which OpenGL to use, and a clear word where there is none."""

from __future__ import annotations

import ctypes
import functools
import importlib
import os
from typing import Any

from mfsynth.errors import MfsynthError

_LIBRARIES = {"egl": ("libEGL.so.1",), "osmesa": ("libOSMesa.so.8", "libOSMesa.so")}
_ADVICE = (
    "install the Debian packages libegl1 and libgl1-mesa-dri (EGL) or libosmesa6 (OSMesa), "
    "or set MUJOCO_GL to a backend that works here"
)


@functools.cache
def load_mujoco() -> Any:
    """The `mujoco` module, bound to a headless OpenGL.

    MuJoCo chooses its OpenGL when it is imported, so import it through here only. `MUJOCO_GL`
    is respected where set; otherwise EGL, then OSMesa.

    Raises:
        MfsynthError: The package or an OpenGL library is missing; names what to install.
    """
    if not os.environ.get("MUJOCO_GL"):
        os.environ["MUJOCO_GL"] = _available_backend()
    # Software OpenGL spawns a thread per core; renderers run one to a process, side by side.
    os.environ.setdefault("LP_NUM_THREADS", "1")
    try:
        return importlib.import_module("mujoco")
    except ModuleNotFoundError as error:
        if error.name != "mujoco":
            raise no_opengl(error) from error
        raise MfsynthError(
            "simulation needs the package mujoco, which isn't installed; "
            "install it with: pip install 'mfsynth[sim]'"
        ) from error
    except Exception as error:  # PyOpenGL fails with whatever it trips over first
        raise no_opengl(error) from error


@functools.cache
def gl_context() -> Any:
    """This process's OpenGL context, made current in this thread.

    A context takes over 100 ms to make, so that all renderers of a process share it. It serves
    one thread only.

    Raises:
        MfsynthError: No context can be made here.
    """
    mujoco = load_mujoco()
    backend = os.environ.get("MUJOCO_GL", "").lower()
    try:
        # By name, because a caller may have imported mujoco before the backend was chosen.
        headless = backend in _LIBRARIES
        module = importlib.import_module(f"mujoco.{backend}") if headless else mujoco
        context = module.GLContext(1, 1)  # renderers draw into frame buffers of their own size
        context.make_current()
    except Exception as error:
        raise no_opengl(error) from error
    return context


def context_is_inherited() -> bool:
    """Whether `gl_context` was made before this process was forked: rendering would hang."""
    return _inherited_context


def no_opengl(error: Exception) -> MfsynthError:
    """What to tell a user whose OpenGL failed with an error."""
    backend = os.environ.get("MUJOCO_GL", "")
    cause = " ".join(str(error).split()) or type(error).__name__
    return MfsynthError(f"MuJoCo cannot use OpenGL with MUJOCO_GL={backend} ({cause}): {_ADVICE}")


def _available_backend() -> str:
    for backend, names in _LIBRARIES.items():
        for name in names:
            try:
                ctypes.CDLL(name)
            except OSError:
                continue
            return backend
    raise MfsynthError(f"no headless OpenGL found on this machine (EGL or OSMesa): {_ADVICE}")


_inherited_context = False


def _note_inherited_context() -> None:
    global _inherited_context
    _inherited_context = _inherited_context or gl_context.cache_info().currsize > 0


os.register_at_fork(after_in_child=_note_inherited_context)
