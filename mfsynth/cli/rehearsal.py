"""`mfsynth generate --dry-run`: a run on one screen, before anything is made."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NoReturn

from mfsynth.cli.output import echo
from mfsynth.formatting import one_line

if TYPE_CHECKING:
    from mfsynth.config import RunConfig

_TEXTS = 4
_TEXT_LENGTH = 160


def rehearse(
    job: str, config: str, out: str | None, pairs: int | None, overrides: Sequence[str]
) -> NoReturn:
    """Show the first texts of a run, what it takes, and what `mfsynth doctor` says of it.

    Leaves with the process' exit status: 0 if the run can start, 2 if not.

    Raises:
        MfsynthError: The configuration is none, or of another command.
    """
    from mfsynth.runs.jobs import require_job
    from mfsynth.runs.settings import load_run_config

    settings = load_run_config(config, overrides, output=out, pairs=pairs)
    require_job(job, settings)
    echo(f"run          {settings.name}, to {_shown(settings.output)}: nothing is made")
    for line in (*_texts(settings), *_plan(settings)):
        echo(line)
    echo("")
    from mfsynth.cli.doctor import tell_findings
    from mfsynth.runs.doctor.examination import run_examination

    tell_findings(config, "configuration", run_examination(settings), only_errors=True)


def _shown(url: str) -> str:
    from mfsynth.storage.credentials import without_credentials

    return one_line(without_credentials(url))


def _texts(settings: RunConfig) -> list[str]:
    from mfsynth.errors import MfsynthError
    from mfsynth.runs.items import RunItems

    try:
        texts = RunItems(settings).texts(_TEXTS)
    except MfsynthError as error:
        return [f"texts        {error}"]
    return [f"text {number:<7} {one_line(text, _TEXT_LENGTH)}" for number, text in enumerate(texts)]


def _plan(settings: RunConfig) -> list[str]:
    from mfsynth.errors import MfsynthError
    from mfsynth.runs.budget import plan_budget

    try:
        found = plan_budget(settings, measured_at=None, workers=None, price=None)
    except MfsynthError as error:
        return [f"plan         {error}"]
    return found.lines()
