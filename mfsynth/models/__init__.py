"""Modality Forcing: transformer, schedules, codecs, pipeline, and where models are found.

Only the registry is imported here: a driver looks a model up without the seconds that torch and
diffusers take to start. `ModalityForcingPipeline` is in `mfsynth.models.pipeline`.
"""

from __future__ import annotations

from mfsynth.models.registry import ModelInfo, load_pipeline, model_info, require_gpu

__all__ = ["ModelInfo", "load_pipeline", "model_info", "require_gpu"]
