from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from tiny_run import make_reject, make_sample

from mfsynth.geometry import Intrinsics


@pytest.mark.parametrize(
    "changes",
    [
        {"rgb": np.zeros((24, 32, 3), np.float32)},
        {"rgb": np.zeros((24, 32), np.uint8)},
        {"depth": np.zeros((24, 31), np.float32)},
        {"depth": np.zeros((24, 32), np.float64)},
        {"depth": np.full((24, 32), np.nan, np.float32)},
        {"depth": np.full((24, 32), -1, np.float32)},
        {"intrinsics": Intrinsics(1, 1, 0, 0), "intrinsics_source": None},
    ],
)
def test_a_sample_that_breaks_a_convention_is_refused(changes):
    with pytest.raises(ValueError, match=r"rgb|depth|intrinsics"):
        replace(make_sample(0), **changes)


@pytest.mark.parametrize("sample_id", ["Tiny-1", "tiny.1", ""])
def test_a_sample_id_that_not_every_reader_takes_is_refused(sample_id):
    with pytest.raises(ValueError, match="sample id"):
        replace(make_sample(0).ref, sample_id=sample_id)


def test_a_reject_without_a_reason_is_refused():
    with pytest.raises(ValueError, match="needs a reason"):
        replace(make_reject(0), reasons=())
