"""One candidate of a run made again, alone and in this process.

For candidates in quarantine: where a worker died, a debugger or a profiler can now watch.
"""

from __future__ import annotations

import tempfile

from mfsynth.config import RunConfig, differences
from mfsynth.config.loading import GivenSettings
from mfsynth.errors import MfsynthError
from mfsynth.models import model_info
from mfsynth.prompts import open_prompts
from mfsynth.runs.plan import Candidate, RunPlan
from mfsynth.runs.pool import OpenWorker, open_shard_worker
from mfsynth.runs.protocol import Assignment, Failed, Made
from mfsynth.runs.settings import complete, run_fingerprint
from mfsynth.shards.commits import read_run, require_this_format
from mfsynth.shards.layout import RUN_KEY, new_attempt
from mfsynth.storage.store import ObjectStore


def find_candidate(url: str, index: int, *, trust: bool = False) -> tuple[RunConfig, Candidate]:
    """Candidate `index` of the run at `url`, and the run's configuration. Changes nothing there.

    Args:
        url: Local path or URL of the run.
        index: Of the candidate.
        trust: Whether to open the prompts and the model that the run names, which is not known
            to be one's own.

    Raises:
        MfsynthError: There is no run, it is of another format version, its prompts or model are
            not what they were, or it is not trusted; then the message says what it would open.
    """
    store = ObjectStore.open(url)
    manifest = read_run(store)
    require_this_format(store, manifest)
    where = f"{store.url}/{RUN_KEY}"
    config = GivenSettings(manifest.config, where).validate(RunConfig)
    if not trust:
        prompts_at, model_id = config.prompts.library or config.prompts.file, config.model.id
        raise MfsynthError(
            f"{where} names the prompts {prompts_at!r:.300} and the model {model_id!r:.300}; "
            "if the run is yours, or you trust both, open them with --trust"
        )
    config = complete(config)
    prompts = open_prompts(config.prompts, config.seed)
    identity = run_fingerprint(config, prompts.digest, model_info(config.model).revision)
    if identity.digest != manifest.fingerprint:
        changed = "; ".join(differences(manifest.settings, identity.settings))
        raise MfsynthError(
            f"{store.url} can't be reproduced: {changed or 'fingerprint'}; "
            "restore what the run was made from"
        )
    return config, RunPlan.of(config, prompts, identity.digest).candidate(index)


def make_again(
    url: str,
    config: RunConfig,
    candidate: Candidate,
    device: str,
    *,
    open_worker: OpenWorker = open_shard_worker,
) -> Made | Failed:
    """Make and check a candidate as a worker does; the output of the run is not touched.

    Ends the process if that is what the candidate does.

    Args:
        url: Of the run.
        config: The run.
        candidate: Of the run.
        device: `cpu` or `cuda`.
        open_worker: Makes the worker.

    Returns:
        The receipt of a shard of one, which is thrown away; or why it could not be made.
    """
    assignment = Assignment(candidate.index // config.shard_size, new_attempt(), 1, isolate=True)
    with tempfile.TemporaryDirectory(prefix="mfsynth-") as folder:
        run = ObjectStore.open(url).read_bytes(RUN_KEY)
        ObjectStore.open(folder).put_bytes(RUN_KEY, run)
        elsewhere = config.model_copy(update={"output": folder})
        *_, end = open_worker(elsewhere, device).make_shard(assignment, [candidate])
    assert isinstance(end, Made | Failed)
    return end
