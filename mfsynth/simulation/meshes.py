"""Meshes that MuJoCo has no primitive for: lathed solids and a handle."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# Steps of a full turn.
_SEGMENTS = 36


@dataclass(frozen=True, slots=True, eq=False)
class TriangleMesh:
    """A closed triangle mesh with outward faces: vertices float64 (V, 3) metres, faces (F, 3)."""

    vertices: NDArray[np.float64]
    faces: NDArray[np.int32]


def lathe(profile: Sequence[tuple[float, float]]) -> TriangleMesh:
    """The solid that a profile sweeps around the z axis.

    Args:
        profile: (radius, z) pairs, both in metres, counter-clockwise in the (radius, z) half
            plane, from the axis to the axis: the first and last radius are 0, no other.
    """
    points = np.asarray(profile, dtype=np.float64)
    angles = np.linspace(0, 2 * np.pi, _SEGMENTS, endpoint=False)
    circle = np.stack([np.cos(angles), np.sin(angles)], axis=1)

    bottom, rings, top = points[0], points[1:-1], points[-1]
    vertices = [np.array([[0, 0, bottom[1]]])]
    vertices += [
        np.concatenate([circle * radius, np.full((_SEGMENTS, 1), z)], axis=1) for radius, z in rings
    ]
    vertices.append(np.array([[0, 0, top[1]]]))

    here = np.arange(_SEGMENTS)
    after = (here + 1) % _SEGMENTS
    last = 1 + len(rings) * _SEGMENTS
    faces = [np.stack([np.zeros_like(here), 1 + after, 1 + here], axis=1)]
    for ring in range(len(rings) - 1):
        low, high = 1 + ring * _SEGMENTS, 1 + (ring + 1) * _SEGMENTS
        faces.append(np.stack([low + here, low + after, high + after], axis=1))
        faces.append(np.stack([low + here, high + after, high + here], axis=1))
    top_ring = 1 + (len(rings) - 1) * _SEGMENTS
    faces.append(np.stack([top_ring + here, top_ring + after, np.full_like(here, last)], axis=1))
    return TriangleMesh(np.concatenate(vertices), np.concatenate(faces).astype(np.int32))


def cone(radius: float, height: float) -> TriangleMesh:
    """A cone that stands on z = 0, its tip up."""
    # Rings along the slope, because MuJoCo lights vertices, not pixels.
    slope = [(radius * (1 - f), height * f) for f in (0.0, 0.25, 0.5, 0.75, 0.95)]
    return lathe([(0, 0), *slope, (0, height)])


def mug(radius: float, height: float, wall: float) -> TriangleMesh:
    """An open cup without its handle, standing on z = 0."""
    inner = radius - wall
    outside = [(radius, height * f) for f in (0.0, 0.33, 0.66, 1.0)]
    inside = [(inner, wall + (height - wall) * f) for f in (1.0, 0.66, 0.33, 0.0)]
    return lathe([(0, 0), *outside, *inside, (0, wall)])


def bowl(radius: float, height: float, wall: float) -> TriangleMesh:
    """An open bowl with a flat foot, standing on z = 0."""
    turns = np.linspace(0, np.pi / 2, 8)
    foot = 0.45

    def curve(r: float, low: float) -> list[tuple[float, float]]:
        return [
            (
                r * (foot + (1 - foot) * float(np.sin(a))),
                low + (height - low) * float(1 - np.cos(a)),
            )
            for a in turns
        ]

    outside = curve(radius, 0.0)
    inside = curve(radius - wall, wall)[::-1]
    return lathe([(0, 0), *outside, *inside, (0, wall)])


def bottle(radius: float, height: float) -> TriangleMesh:
    """A closed bottle with a shoulder and a neck, standing on z = 0."""
    neck = 0.4 * radius
    body = [(radius, height * f) for f in (0.0, 0.2, 0.4, 0.55)]
    shoulder = [(0.9 * radius, height * 0.62), (0.62 * radius, height * 0.69)]
    top = [(neck, height * f) for f in (0.74, 0.87, 1.0)]
    return lathe([(0, 0), *body, *shoulder, *top, (0, height)])


def plate(radius: float, height: float, wall: float) -> TriangleMesh:
    """A plate with a flat middle and a raised rim, standing on z = 0."""
    foot = 0.62 * radius
    outside = [(foot, 0.0), (0.82 * radius, 0.45 * height), (radius, height - 0.5 * wall)]
    inside = [(radius, height), (0.8 * radius, 0.45 * height + wall), (foot, wall)]
    return lathe([(0, 0), *outside, *inside, (0, wall)])


def handle(reach: float, height: float, tube: float) -> TriangleMesh:
    """Half a ring in the x-z plane, bulging to +x from the z axis, centred on the origin.

    Args:
        reach: How far the middle of the tube gets from the axis, in metres.
        height: Between the two ends, middle to middle.
        tube: Radius of the tube.
    """
    along, around = 14, 10
    turns = np.linspace(-np.pi / 2, np.pi / 2, along)
    centre = np.stack([reach * np.cos(turns), np.zeros(along), height / 2 * np.sin(turns)], axis=1)
    tangent = np.stack(
        [-reach * np.sin(turns), np.zeros(along), height / 2 * np.cos(turns)], axis=1
    )
    tangent /= np.linalg.norm(tangent, axis=1, keepdims=True)
    side = np.broadcast_to(np.array([0.0, 1.0, 0.0]), tangent.shape)
    outward = np.cross(side, tangent)

    phases = np.linspace(0, 2 * np.pi, around, endpoint=False)
    rings = centre[:, None] + tube * (
        np.cos(phases)[None, :, None] * outward[:, None]
        + np.sin(phases)[None, :, None] * side[:, None]
    )
    vertices = np.concatenate([rings.reshape(-1, 3), centre[:1], centre[-1:]])

    here = np.arange(around)
    after = (here + 1) % around
    faces = []
    for ring in range(along - 1):
        low, high = ring * around, (ring + 1) * around
        faces.append(np.stack([low + here, high + after, low + after], axis=1))
        faces.append(np.stack([low + here, high + here, high + after], axis=1))
    start, end = along * around, along * around + 1
    last = (along - 1) * around
    faces.append(np.stack([np.full_like(here, start), here, after], axis=1))
    faces.append(np.stack([np.full_like(here, end), last + after, last + here], axis=1))
    mesh_faces = np.concatenate(faces).astype(np.int32)
    return TriangleMesh(vertices, _outward(vertices, mesh_faces))


def signed_volume(mesh: TriangleMesh) -> float:
    """Volume in cubic metres; negative where the faces look inward."""
    a, b, c = (mesh.vertices[mesh.faces[:, i]] for i in range(3))
    return float(np.einsum("ij,ij->i", a, np.cross(b, c)).sum() / 6)


def _outward(vertices: NDArray[np.float64], faces: NDArray[np.int32]) -> NDArray[np.int32]:
    if signed_volume(TriangleMesh(vertices, faces)) < 0:
        return np.ascontiguousarray(faces[:, ::-1])
    return faces
