"""What each process of a test with several runs: STOP URL OUTPUT [KEY=VALUE ...].

That is `pipelines/train_depth_estimator.py`, killed after its first checkpoint from step STOP on.
"""

from __future__ import annotations

import os
import runpy
import signal
import sys
from pathlib import Path
from unittest.mock import patch

from mfsynth.training.estimator import EstimatorTrainer

SCRIPT = Path(__file__).parents[2] / "pipelines" / "train_depth_estimator.py"


def main(stop: int) -> None:
    save = EstimatorTrainer.save

    def save_and_die(self: EstimatorTrainer) -> None:
        save(self)
        if self.state.step >= stop:
            os.kill(os.getpid(), signal.SIGKILL)

    with patch.object(EstimatorTrainer, "save", save_and_die):
        runpy.run_path(str(SCRIPT), run_name="__main__")


if __name__ == "__main__":
    stop = int(sys.argv.pop(1))
    main(stop)
