"""Small runs of the stand-in model, each in a folder of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from standin import accepted
from started import plan_of

from mfsynth.config import RunConfig
from mfsynth.prompts import derive_seed
from mfsynth.runs.settings import complete
from mfsynth.shards.layout import sample_id


class RunFolder:
    """The configuration of a small run in a folder of its own."""

    def __init__(self, folder: Path, model: Path) -> None:
        self.folder = folder
        self.output = folder / "out"
        self.values: dict[str, Any] = {
            "name": "small",
            "target": {"pairs": 20},
            "shard_size": 8,
            "prompts": {"file": str(folder / "prompts.txt")},
            "model": {"id": str(model)},
            "sampler": {"steps": 1},
            "checks": {"validity": {}},
            "output": str(self.output),
            "runtime": {"workers": 2, "batch_size": 4, "device": "cpu"},
        }
        (folder / "prompts.txt").write_text("a red cube\na blue ball\na blue cube\n")

    def config(self, **changes: Any) -> RunConfig:
        return complete(RunConfig.model_validate(self.values | changes))

    def file(self, **changes: Any) -> Path:
        path = self.folder / "run.yaml"
        path.write_text(yaml.safe_dump(self.values | changes))
        return path

    def expected_ids(self, *, without: tuple[int, ...] = ()) -> list[str]:
        """The ids that the stand-in model must give: the shortest prefix of whole shards."""
        target = self.values["target"]["pairs"]
        ids: list[str] = []
        for shard in range(1000):
            if len(ids) >= target:
                return ids
            ids += self.ids_of(shard, without)
        raise AssertionError

    def ids_of(self, shard: int, without: tuple[int, ...] = ()) -> list[str]:
        size = self.values["shard_size"]
        run = plan_of(self.config()).run
        return [
            sample_id(run, i)
            for i in range(shard * size, (shard + 1) * size)
            if i not in without and accepted(derive_seed(0, "noise", i))
        ]
