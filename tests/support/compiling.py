"""Graphs that a test compiles."""

from __future__ import annotations

import torch


def graphs() -> int:
    """How many were compiled since the fixture `dynamo`."""
    return torch._dynamo.utils.counters["stats"]["unique_graphs"]
