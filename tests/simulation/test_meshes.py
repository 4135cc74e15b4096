"""Generated meshes are closed, face outward and have the size asked for."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest

from mfsynth.simulation import meshes

MESHES = {
    "cone": meshes.cone(0.05, 0.1),
    "mug": meshes.mug(0.04, 0.09, 0.005),
    "bowl": meshes.bowl(0.06, 0.05, 0.005),
    "handle": meshes.handle(0.03, 0.05, 0.007),
}


@pytest.mark.parametrize("mesh", MESHES.values(), ids=MESHES)
def test_every_edge_joins_two_faces_that_agree_on_the_outside(mesh):
    edges = Counter((int(face[i]), int(face[(i + 1) % 3])) for face in mesh.faces for i in range(3))
    assert set(edges.values()) == {1}
    assert all((b, a) in edges for a, b in edges)


@pytest.mark.parametrize("mesh", MESHES.values(), ids=MESHES)
def test_faces_look_outward(mesh):
    assert meshes.signed_volume(mesh) > 0


def test_a_cone_has_the_volume_of_a_cone():
    assert meshes.signed_volume(MESHES["cone"]) == pytest.approx(
        math.pi * 0.05**2 * 0.1 / 3, rel=0.01
    )


def test_a_mug_has_the_volume_of_its_walls_and_bottom():
    solid, hollow = 0.04**2 * 0.09, 0.035**2 * 0.085
    assert meshes.signed_volume(MESHES["mug"]) == pytest.approx(
        math.pi * (solid - hollow), rel=0.01
    )


@pytest.mark.parametrize(("name", "height"), [("cone", 0.1), ("mug", 0.09), ("bowl", 0.05)])
def test_solids_stand_on_the_ground(name, height):
    z = MESHES[name].vertices[:, 2]
    assert (z.min(), z.max()) == (0.0, pytest.approx(height))


def test_a_handle_reaches_as_far_as_asked():
    vertices = MESHES["handle"].vertices
    assert vertices[:, 0].max() == pytest.approx(0.03 + 0.007, abs=5e-4)
    assert np.ptp(vertices[:, 2]) == pytest.approx(0.05 + 2 * 0.007, abs=1e-3)
