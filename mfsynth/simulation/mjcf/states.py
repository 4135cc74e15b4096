"""States of a model: drawn, brought to rest, and on from there in time."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from mfsynth.errors import MfsynthError
from mfsynth.simulation.gl import load_mujoco
from mfsynth.simulation.mjcf.loading import OwnModel
from mfsynth.simulation.mjcf.settings import ObjectRule, Randomise, Trajectory

_TRIES = 50
# How much deeper than in the model's own state bodies may be in each other, metres.
_OVERLAP = 0.003
# Degrees of freedom of position that each type of joint has: free, ball, slide, hinge.
_WIDTHS = (7, 4, 1, 1)
_FREE, _BALL, _SLIDE, _HINGE = range(4)


@dataclass(slots=True, eq=False)
class Episode:
    """A scene from its first state on; its states come in order, and stay.

    Attributes:
        own: The model.
        data: mujoco.MjData at the last frame that was asked for.
        trajectory: How it goes on; None for one state.
        lights: What was drawn for the model's lights; None for lights as they are.
        states: Positions of its frames, as far as they are known.
    """

    own: OwnModel
    data: Any
    trajectory: Trajectory | None
    lights: Lights | None
    states: list[NDArray[np.float64]] = field(default_factory=list)

    def at(self, frame: int) -> Any:
        """mujoco.MjData of a frame, which serves until the next call.

        Raises:
            MfsynthError: The simulation has become unstable.
        """
        mujoco, model = load_mujoco(), self.own.model
        while len(self.states) <= frame:
            if self.states:
                self._advance(len(self.states))
            self.states.append(self.data.qpos.copy())
        shown = mujoco.MjData(model)
        shown.qpos[:] = self.states[frame]
        shown.mocap_pos[:], shown.mocap_quat[:] = self.data.mocap_pos, self.data.mocap_quat
        mujoco.mj_fwdPosition(model, shown)
        return shown

    def _advance(self, frame: int) -> None:
        trajectory, model = self.trajectory, self.own.model
        assert trajectory is not None  # a state by itself has one frame
        start, end = (
            round(number / trajectory.fps / model.opt.timestep) for number in (frame - 1, frame)
        )
        controls = model.key_ctrl if trajectory.control == "keyframes" else None
        with _stable(self.own, self.data):
            for step in range(start, end):
                if controls is not None:
                    time = step * model.opt.timestep * trajectory.fps / (trajectory.frames - 1)
                    self.data.ctrl[:] = _between(controls, time)
                load_mujoco().mj_step(model, self.data)


@dataclass(frozen=True, slots=True, eq=False)
class Lights:
    """Changes of a model's lights.

    Attributes:
        shift: (L, 3) metres.
        brightness: (L,) factors.
    """

    shift: NDArray[np.float64]
    brightness: NDArray[np.float64]


def begin(
    own: OwnModel,
    randomise: Randomise,
    keyframe: str | None,
    trajectory: Trajectory | None,
    rng: Generator,
) -> Episode:
    """Draw a state, and let it rest.

    States in which bodies are inside each other are drawn anew.

    Args:
        own: The model.
        randomise: What is drawn.
        keyframe: That it starts from; None for the model's own pose.
        trajectory: How it goes on.
        rng: Where all chance comes from.

    Raises:
        MfsynthError: There is no such keyframe, joint or body, no state without overlaps was found,
            or the simulation is unstable.
    """
    mujoco, model = load_mujoco(), own.model
    data = mujoco.MjData(model)
    number = None if keyframe is None else own.keyframe(keyframe)
    if trajectory is not None and trajectory.control == "keyframes" and model.nkey < 2:
        raise MfsynthError(
            f"{own.path}: control: keyframes goes from one keyframe to the next, and the model has "
            f"{model.nkey}; give it two, or set control: still"
        )

    def reset() -> None:
        if number is None:
            mujoco.mj_resetData(model, data)
        else:
            mujoco.mj_resetDataKeyframe(model, data, number)

    reset()
    mujoco.mj_fwdPosition(model, data)
    allowed = _deepest(data) - _OVERLAP
    draws = _Draws(own, randomise)
    for _ in range(_TRIES):
        reset()
        draws.place(data.qpos, rng)
        mujoco.mj_fwdPosition(model, data)
        if _deepest(data) >= allowed:
            break
    else:
        raise MfsynthError(
            f"{own.path}: in {_TRIES} states that were drawn, bodies are inside each other; "
            "randomise less, or give objects a shift with more room"
        )
    _settle(own, data, randomise.settle)
    data.time = 0.0
    return Episode(own, data, trajectory, _lights(own, randomise, rng))


class _Draws:
    """Which coordinates are drawn, and how.

    Args:
        own: The model.
        randomise: The rules; of those that fit a name the last one counts.
    """

    def __init__(self, own: OwnModel, randomise: Randomise) -> None:
        model = own.model
        joints = {
            model.joint(j).name or f"joint{j}": j
            for j in range(model.njnt)
            if model.jnt_type[j] in (_SLIDE, _HINGE)
        }
        bodies = {
            own.parts[int(model.jnt_bodyid[j]) - 1].name: j
            for j in range(model.njnt)
            if model.jnt_type[j] == _FREE
        }
        self._own = own
        self._shares: dict[int, float] = {}
        for pattern, share in randomise.joints.items():
            self._shares |= dict.fromkeys(own.matching("joint", pattern, joints), share)
        self._rules: dict[int, ObjectRule] = {}
        for pattern, rule in randomise.objects.items():
            self._rules |= dict.fromkeys(own.matching("free body", pattern, bodies), rule)

    def place(self, qpos: NDArray[np.float64], rng: Generator) -> None:
        """Draw positions into `qpos`, which has those that they start from."""
        model = self._own.model
        for joint, share in self._shares.items():
            at = int(model.jnt_qposadr[joint])
            start = float(qpos[at])
            if model.jnt_limited[joint]:
                low, high = model.jnt_range[joint]
            elif model.jnt_type[joint] == _HINGE:
                low, high = start - math.pi, start + math.pi
            else:
                continue
            qpos[at] = start + rng.uniform(share * (low - start), share * (high - start))
        for joint, rule in self._rules.items():
            at = int(model.jnt_qposadr[joint])
            qpos[at : at + 3] += rng.uniform(-1, 1, 3) * rule.shift
            turn = _turn(rule, rng)
            found = np.zeros(4)
            load_mujoco().mju_mulQuat(found, turn, qpos[at + 3 : at + 7].copy())
            qpos[at + 3 : at + 7] = found


def _turn(rule: ObjectRule, rng: Generator) -> NDArray[np.float64]:
    """A rotation as a quaternion, its real part first."""
    if rule.turn == "any":
        drawn = rng.standard_normal(4)
        return drawn / np.linalg.norm(drawn)
    angle = rng.uniform(-math.pi, math.pi) if rule.turn == "yaw" else 0.0
    return np.array([math.cos(angle / 2), 0.0, 0.0, math.sin(angle / 2)])


def _settle(own: OwnModel, data: Any, seconds: float) -> None:
    """Let what moves freely come to rest; all other joints stay as they are."""
    mujoco, model = load_mujoco(), own.model
    held, stopped = np.ones(model.nq, np.bool_), np.ones(model.nv, np.bool_)
    for joint in np.flatnonzero(model.jnt_type == _FREE):
        at, dof = int(model.jnt_qposadr[joint]), int(model.jnt_dofadr[joint])
        held[at : at + _WIDTHS[_FREE]] = False
        stopped[dof : dof + 6] = False
    if held.all():
        return
    kept = data.qpos[held].copy()
    with _stable(own, data):
        for _ in range(round(seconds / model.opt.timestep)):
            mujoco.mj_step(model, data)
            data.qpos[held], data.qvel[stopped] = kept, 0.0
    data.qvel[:] = 0.0


def _lights(own: OwnModel, randomise: Randomise, rng: Generator) -> Lights | None:
    rule, count = randomise.lights, own.model.nlight
    if rule is None:
        return None
    return Lights(
        rng.uniform(-rule.shift, rule.shift, (count, 3)), rng.uniform(*rule.brightness, count)
    )


def _deepest(data: Any) -> float:
    """How far bodies are inside each other at most, as a distance below 0."""
    return min(0.0, float(data.contact.dist.min(initial=0.0)))


def _between(rows: NDArray[np.float64], share: float) -> NDArray[np.float64]:
    """Of rows that follow each other, what is at a share of the way from the first to the last."""
    at = min(max(share, 0.0), 1.0) * (len(rows) - 1)
    first = min(int(at), len(rows) - 2)
    found: NDArray[np.float64] = rows[first] + (at - first) * (rows[first + 1] - rows[first])
    return found


@contextmanager
def _stable(own: OwnModel, data: Any) -> Iterator[None]:
    """Refuses a simulation that has become unstable, where MuJoCo would write a file and go on."""
    mujoco = load_mujoco()
    said: list[str] = []
    before = mujoco.get_mju_user_warning()
    mujoco.set_mju_user_warning(lambda text: said.append(str(text)))
    try:
        yield
    finally:
        mujoco.set_mju_user_warning(before)
    bad = mujoco.mjtWarning
    if any(
        data.warning[kind].number
        for kind in (bad.mjWARN_BADQPOS, bad.mjWARN_BADQVEL, bad.mjWARN_BADQACC)
    ):
        why = " ".join((said or ["no state"])[0].split())
        raise MfsynthError(
            f"{own.path}: the simulation is unstable ({why}); take a smaller timestep in the "
            "model, or randomise less"
        )
