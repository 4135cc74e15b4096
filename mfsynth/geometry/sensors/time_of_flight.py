"""Sensors that time light."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.random import Generator

from mfsynth.geometry.normals import normals_from_depth
from mfsynth.geometry.rgbd import DepthMap
from mfsynth.geometry.sensors.presets import TimeOfFlight
from mfsynth.geometry.sensors.scene import Map, Scene, blobs, slopes, smoothed

# Patches along the longer side that light is reflected between.
_PATCHES = 32


def time_of_flight(scene: Scene, model: TimeOfFlight, rng: Generator) -> DepthMap:
    """What a time-of-flight camera returns.

    A pixel sees all surfaces within its cone at once, so that at edges it gives a depth between
    theirs, weighted by their light (flying pixels). Noise falls with the square root of the light
    that comes back; where too little does, there is a hole.

    Args:
        scene: What it sees.
        model: How it errs.
        rng: Where noise comes from.
    """
    sigma = model.mixing_px * scene.pixels
    signal = np.where(scene.depth > 0, scene.signal, np.float32(0))
    mixed = smoothed(signal, sigma)
    depth = smoothed(signal * scene.depth, sigma)
    seen = np.divide(depth, mixed, out=scene.depth.copy(), where=mixed > 0)
    seen += reflected(scene)
    least = np.float32(model.darkest / model.farthest**2)
    found = scene.valid & (mixed >= least)
    error = model.error * np.sqrt(np.divide(least, mixed, out=np.zeros_like(mixed), where=found))
    # A pixel of the sensor is a square of the image where that is finer.
    noisy = seen + error * blobs(rng, seen.shape, 0.3 * scene.pixels)
    found &= (noisy >= model.nearest) & (noisy <= model.farthest)
    return np.where(found, noisy, np.float32(0)).astype(np.float32)


def reflected(scene: Scene) -> Map:
    """How much farther surfaces seem for light that comes by way of others: corners get round.

    One reflection between patches that scatter evenly, all of which see each other: Jiménez et
    al., "Modelling and correction of multipath interference in time of flight cameras", CVPR 2012.

    Args:
        scene: What is seen.

    Returns:
        float32 (H, W), metres, at least 0.
    """
    height, width = scene.depth.shape
    cell = max(1, -(-max(height, width) // _PATCHES))
    # One pixel stands for its patch: means over edges would be places where nothing is.
    rows_at, columns_at = (min(cell // 2, size - 1) for size in (height, width))
    middle = np.s_[rows_at::cell, columns_at::cell]
    z = scene.depth[middle]
    rows, columns = z.shape
    normals = normals_from_depth(scene.depth, scene.intrinsics)[middle].reshape(-1, 3)
    x, y = slopes(scene.depth.shape, scene.intrinsics)
    ones = np.ones(scene.depth.shape, np.float32)
    rays = np.stack([x * ones, y * ones, ones], axis=-1)[middle].reshape(-1, 3)
    points = z.reshape(-1, 1) * rays
    away = np.linalg.norm(points, axis=1)
    cosine, light = scene.cosine[middle].reshape(-1), scene.light[middle].reshape(-1)
    known = normals.any(axis=1)
    # What falls on a patch straight from the lamp, and what it scatters of it.
    direct = np.divide(cosine, away**2, out=np.zeros_like(away), where=known)
    area = (cell * z.reshape(-1)) ** 2 / (scene.intrinsics.fx * scene.intrinsics.fy)
    area /= np.maximum(cosine, 0.1)
    between = points[None, :, :] - points[:, None, :]
    distance = np.linalg.norm(between, axis=2)
    safe = np.maximum(distance, 1e-6)
    leaving = np.maximum(np.einsum("ijk,ik->ij", between, normals) / safe, 0)
    arriving = np.maximum(-np.einsum("ijk,jk->ij", between, normals) / safe, 0)
    # Of a disc that faces a point; a patch that nobody knows has no area.
    form = leaving * arriving * area[None, :] / (np.pi * safe**2 + area[None, :])
    indirect = form * (light * direct)[None, :]
    longer = (away[None, :] + distance - away[:, None]) / 2
    total = direct + indirect.sum(axis=1)
    extra = np.divide(
        (indirect * longer).sum(axis=1), total, out=np.zeros_like(total), where=total > 0
    )
    along_z = np.maximum(extra, 0) / np.linalg.norm(rays, axis=1)
    found = cv2.resize(
        along_z.reshape(rows, columns).astype(np.float32),
        (width, height),
        interpolation=cv2.INTER_LINEAR,
    )
    return np.asarray(found, np.float32)
