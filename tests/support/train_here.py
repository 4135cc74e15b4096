"""What each process of a test with several runs: FOLDER FLUX2 OPTIMISER_JSON [STOP].

Trains a tiny model, its own or in latents of FLUX2, into the folder; the main process writes
losses.json there.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

from tiny_training import Scalars, record_losses, trainer_data_sampler

from mfsynth.training.processes import join_processes


def main(folder: Path, flux2: str, settings: str, stop: int | None = None) -> None:
    processes = join_processes()
    trainer, data, sampler = trainer_data_sampler(flux2, json.loads(settings))
    resumed = trainer.resume(folder)
    losses = record_losses(trainer)
    if stop is not None:
        save = trainer.save

        def save_and_die(folder):
            save(folder)
            if trainer.state.step >= stop:
                os.kill(os.getpid(), signal.SIGKILL)

        trainer.save = save_and_die
    board = Scalars() if processes.is_main_process else None
    trainer.run(data, folder, lambda _: None, board, sampler)
    if board is not None:
        summary = {
            "resumed": resumed,
            "processes": processes.num_processes,
            "losses": losses,
            "scalars": board.by_step,
        }
        (folder / "losses.json").write_text(json.dumps(summary))
    processes.end_training()


if __name__ == "__main__":
    _, folder, flux2, settings, *stop = sys.argv
    main(Path(folder), flux2, settings, *map(int, stop))
