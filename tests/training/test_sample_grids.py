"""Pictures of what a model makes."""

from __future__ import annotations

import numpy as np
from tiny_training import flux2_config, flux2_mixture, make_flux2_trainer, save_flux2, snapshot

from mfsynth.training.sample_grids import GridSampler, colour_depth, tile


def test_sampling_leaves_the_weights_as_they_were_and_is_the_same_again(tmp_path):
    config = flux2_config(
        save_flux2(tmp_path / "flux2"),
        tmp_path,
        samples={"images": 2, "steps": 2, "prompts": ["a"]},
    )
    trainer, components = make_flux2_trainer(config)
    sampler = GridSampler(components, config, flux2_mixture())
    before = snapshot(trainer)
    one, other = sampler.grids(), sampler.grids()
    assert one["joint"].shape == (32, 64, 3)
    for name in one:
        np.testing.assert_array_equal(one[name], other[name])
    trainer._evaluate(flux2_mixture(), lambda _: None, None, sampler)
    assert all((value == before[name]).all() for name, value in snapshot(trainer).items())


def test_near_is_red_far_is_blue_and_invalid_is_black():
    depth = np.linspace(1, 3, 64, dtype=np.float32).reshape(8, 8)
    depth[0, 3] = 0
    picture = colour_depth(depth).astype(int)
    assert (picture[0, 3] == 0).all()
    assert picture[0, 1, 0] > picture[0, 1, 2]
    assert picture[7, 7, 2] > picture[7, 7, 0]
    assert (colour_depth(np.zeros((2, 2), np.float32)) == 0).all()


def test_cells_lie_in_rows_on_white():
    cells = [np.full((3, 5, 3), value, np.uint8) for value in (10, 20, 30)]
    grid = tile(cells, 2)
    assert grid.shape == (3 + 2 + 3, 5 + 2 + 5, 3)
    assert (grid[0, 0] == 10).all()
    assert (grid[0, 7] == 20).all()
    assert (grid[5, 0] == 30).all()
    assert (grid[5, 7] == 255).all()
