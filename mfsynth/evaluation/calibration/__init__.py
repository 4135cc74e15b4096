"""Checks on trusted pairs: their power, limits with a guarantee, a fused score."""

from __future__ import annotations
