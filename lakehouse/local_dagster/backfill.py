"""Runs Dagster jobs in this process for the command line: with a progress bar, a quiet log, and an outcome to print.

How progress looks belongs in `display`.
"""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from lakehouse.api import Lake
from lakehouse.catalog import description_of, loaded_source
from lakehouse.derive.evaluation import conservation_totals
from lakehouse.derive.held_back import Hold, holds
from lakehouse.derive.source import Source
from lakehouse.derive.unfinished import unfinished
from lakehouse.errors import SourceError
from lakehouse.ingest.ledger import LEDGER
from lakehouse.ingest.partitioning import begun
from lakehouse.ingest.stale_readings import span_to_reload
from lakehouse.lake.folders import require_folder
from lakehouse.lake.lake import MARTS_SCHEMA
from lakehouse.lake.location import plain_folder
from lakehouse.local_dagster.display import Display
from lakehouse.local_dagster.instance import event_log_kept_open, opened_instance, storage_faults_explained
from lakehouse.progress import shown_by
from lakehouse.settings import Settings, beside_package, settings
from lakehouse.warehouse.publish import is_current

if TYPE_CHECKING:
    import dagster as dg

_CLASS = re.compile(r"^(\w+\.)+\w+: ")
"""The class with its module in front of an error's message."""


@dataclass
class Outcome:
    """The outcome of a run. `checks` are (table, check, passed, is_warning, finding); `made` is the source's last table
    with its number of rows in the run's partitions.
    """

    run_id: str | None
    success: bool
    partitions: int
    rows: dict[str, int]
    made: tuple[str, int]
    checks: list[tuple[str, str, bool, bool, str]] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)
    error: str | None = None
    held: list[Hold] = field(default_factory=list)
    """Failed blocking checks, of this run or earlier ones, that hold back the source's rows from publication."""

    @property
    def failed_checks(self) -> list[tuple[str, str, bool, bool, str]]:
        """The failed checks that are not warnings."""
        return [check for check in self.checks if not check[2] and not check[3]]

    @property
    def is_sound(self) -> bool:
        """Whether the run and its checks succeeded and its rows are published."""
        return self.success and not self.failed_checks and not self.held


class _Steps:
    """Shows the steps of a chain of runs as Dagster reports them: a run's planned steps are known when it starts, those
    of later runs are one per definition of assets.
    """

    def __init__(self, display: Display, later: Sequence[int]) -> None:
        self._display = display
        self._later = list(later)
        self._planned: set[tuple[str, str]] = set()
        self._begun = 0

    def __call__(self, entry: dg.EventLogEntry) -> None:
        """Takes in an event."""
        import dagster as dg

        event = entry.dagster_event
        if event is None or event.step_key is None:
            return
        if event.event_type in (
            dg.DagsterEventType.ASSET_MATERIALIZATION_PLANNED,
            dg.DagsterEventType.ASSET_CHECK_EVALUATION_PLANNED,
        ):
            self._planned.add((entry.run_id, event.step_key))
        elif event.event_type == dg.DagsterEventType.STEP_START:
            self._begun += 1
            runs = len({run_id for run_id, _ in self._planned})
            steps = len(self._planned) + sum(self._later[runs:])
            self._display.begin(event.step_key.replace("__", "."), self._begun, max(steps, self._begun))


def prepared_home(config: Settings) -> Path:
    """Creates DAGSTER_HOME and copies the project's dagster.yaml into it. The terminal and the UI share this home, so
    that the UI shows runs from the terminal.

    Raises:
        HomeUnavailable: the home is a file.
        OSError: the folder can't be written.
    """
    require_folder(config.home)
    home = plain_folder(config.dagster_home)
    shutil.copyfile(beside_package("dagster.yaml"), home / "dagster.yaml")
    os.environ["DAGSTER_HOME"] = str(home)
    return home


def reload_source(source: str, first: date | None, last: date | None, display: Display) -> Outcome | None:
    """Reloads the objects from `first` to `last` that were read with other settings, and runs the rest of the chain
    over their sessions. Returns None if there are none.

    Raises:
        SourceError, LakeUnavailable: as for `backfill_source`.
    """
    span = span_to_reload(Lake.present(), loaded_source(source).datasets, first, last)
    return backfill_source(source, span[0], span[-1], display, reread=True) if span else None


def backfill_source(
    source: str, first: date, last: date, display: Display, *, reread: bool = False, publishes: bool = True
) -> Outcome:
    """Brings the partitions of a source from `first` to `last` through the whole chain to the marts, in this process.
    Runs over those for which something is left to do (see `unfinished`); the outcome is that of all. An outcome without
    a run says that nothing was left to do.

    Args:
        reread: also reload objects that were read with other settings.
        publishes: False where another source follows, whose publication has all that is new.

    Raises:
        SourceError: the source is unknown, the settings lack something, or there is no partition in between.
        SourceUnavailable: the source doesn't answer.
        LakeUnavailable: the lake's storage can't be read, or Dagster's can't be written.
    """
    started = time.monotonic()
    described = loaded_source(source)
    if last < first:
        raise SourceError(f"the last session, {last}, is before the first, {first}; swap them")
    # Report missing settings before anything starts.
    described.require_settings(asks=not reread)
    partitions: list[date] = []
    if described.stepwise:
        partitioning = described.stepwise[0].partitioning
        partitions = [day for day in begun(partitioning, max(first, partitioning.first)) if day <= last]
        if not partitions:
            before = f"; {source} begins with {partitioning.first}" if last < partitioning.first else ""
            raise SourceError(described.none_between(first, last) + before)
    if reread or not partitions:
        return run_chain(described, partitions, display, reread=reread, publishes=publishes)
    # Report an unwritable home before anything else is written below it.
    prepared_home(settings())
    display.show(f"looking at {source}", 0, 0)
    left = unfinished(Lake.present(), described, partitions, description_of(source))
    if left or (publishes and not is_current(settings(), described.kind)):
        # One run over the range: what in between is finished costs next to nothing.
        within = [day for day in partitions if left and left[0] <= day <= left[-1]]
        return run_chain(described, within, display, about=partitions, publishes=publishes)
    rows, made = stored_rows(described, partitions)
    return Outcome(None, True, len(partitions), rows, made, seconds={"look": time.monotonic() - started})


def run_chain(
    source: Source,
    partitions: Sequence[date],
    display: Display,
    *,
    about: Sequence[date] | None = None,
    reread: bool = False,
    publishes: bool = True,
) -> Outcome:
    """Loads, derives, checks and publishes adjacent partitions of a source, or the whole of an unpartitioned source.
    Without partitions of a partitioned one it only publishes.

    Args:
        about: the partitions that the outcome is about, by default those of the run.
        publishes: see `backfill_source`.

    Raises:
        LakeUnavailable: the lake's storage can't be read, or Dagster's can't be written.
    """
    Lake.present().table(LEDGER).snapshot()
    display.show("loading definitions", 0, 0)
    started = time.monotonic()

    from lakehouse.components.run_history import prune
    from lakehouse.components.run_processes import fail_dead_runs, running_here
    from lakehouse.components.sources.run_tags import NEXT_RUN_TAG, RELOAD_TAG, about_tags, day_tags, range_tags
    from lakehouse.components.sources.sensor import SOURCE_TAG
    from lakehouse.definitions import present_definitions

    # Report an unwritable home before Dagster wraps it into an error of the definitions.
    prepared_home(settings())
    job = present_definitions().resolve_job_def(f"{source.name}_{'reload' if reread else 'update'}")
    own_tags = {SOURCE_TAG: source.name, **({RELOAD_TAG: "true"} if reread else {})}
    partitioned, others = _by_partitions(job)
    if not publishes:
        others = [key for key in others if key.path[0] != MARTS_SCHEMA]
    results = []
    with storage_faults_explained(), event_log_kept_open(), opened_instance() as instance, shown_by(display.show):
        fail_dead_runs(instance)
        prune(instance)
        # Two runs, since Dagster would plan an unpartitioned asset once per partition of a partitioned run. A run for
        # the news of a captured database is about one day, and assets of either kind are made of the other.
        stages = [(partitioned, range_tags), (others, about_tags)]
        if not source.datasets:
            stages = [([*partitioned, *others], day_tags)]
        elif source.stepwise and not partitions:
            del stages[0]
        chain = [(str(uuid4()), assets, tags) for assets, tags in stages if assets]
        steps = _Steps(display, [_definitions_of(job, assets) for _, assets, _ in chain])
        following = {run[0]: {NEXT_RUN_TAG: after[0]} for run, after in pairwise(chain)}
        for run_id, assets, tags in chain:
            instance.add_event_listener(run_id, steps)
            with running_here(instance, run_id):
                result = job.execute_in_process(
                    instance=instance,
                    run_id=run_id,
                    asset_selection=assets,
                    tags={
                        **(tags(partitions[0], partitions[-1]) if partitions else {}),
                        **following.get(run_id, {}),
                        **own_tags,
                    },
                    run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
                    raise_on_error=False,
                )
            results.append(result)
            if not result.success:
                break
    display.end()
    # An object that is loaded by one partition may have the rows of years.
    lake = Lake.present()
    held, told = holds(lake, source.name), source.together(lake, partitions) if about is None else about
    outcome = Outcome(results[-1].run_id, results[-1].success, len(told), *stored_rows(source, told), held=held)
    for result in results:
        _add(outcome, result)
    outcome.seconds["start"] = time.monotonic() - started - sum(outcome.seconds.values())
    return outcome


def _by_partitions(job: dg.JobDefinition) -> tuple[list[dg.AssetKey], list[dg.AssetKey]]:
    """The job's assets with partitions, and those without."""
    nodes = [job.asset_layer.get(key) for key in job.asset_layer.selected_asset_keys]
    return (
        [node.key for node in nodes if node.partitions_def is not None],
        [node.key for node in nodes if node.partitions_def is None],
    )


def _definitions_of(job: dg.JobDefinition, assets: Sequence[dg.AssetKey]) -> int:
    """How many steps make the assets, if each definition makes its own in one."""
    return len({id(job.asset_layer.get(key).assets_def) for key in assets})


def _add(outcome: Outcome, result: dg.ExecuteInProcessResult) -> None:
    """Adds a run's steps, checks and error to an outcome."""
    import dagster as dg

    for event in result.all_events:
        if event.event_type == dg.DagsterEventType.STEP_SUCCESS and event.step_key:
            outcome.seconds[event.step_key] = event.step_success_data.duration_ms / 1000
        elif event.event_type == dg.DagsterEventType.STEP_FAILURE:
            failure = event.step_failure_data
            cause = failure.error.cause or failure.error if failure.error else None
            outcome.error = (
                failure.user_failure_data.description
                if failure.user_failure_data and failure.user_failure_data.description
                else _CLASS.sub("", cause.message.strip())
                if cause
                else "unknown"
            )
    for evaluation in result.get_asset_check_evaluations():
        is_warning = evaluation.severity == dg.AssetCheckSeverity.WARN
        name = evaluation.asset_key.to_user_string()
        outcome.checks.append(
            (name, evaluation.check_name, evaluation.passed, is_warning, evaluation.description or "")
        )


def stored_rows(source: Source, partitions: Sequence[date]) -> tuple[dict[str, int], tuple[str, int]]:
    """The terms of the conservation law, and the last table with its rows, of some partitions."""
    lake = Lake.present()
    # A source of whole tables takes in all that it has, whatever the run was about.
    of = partitions if source.stepwise else None
    totals = conservation_totals(lake, source, of, description_of(source.name))
    return totals, _last_made(lake, source, partitions)


def _last_made(lake: Lake, source: Source, partitions: Sequence[date]) -> tuple[str, int]:
    """The table that is derived last, and its number of rows in the partitions (all rows if it is unpartitioned)."""
    table = ([each for each in source.tables if not each.is_whole] or list(source.tables))[-1]
    wanted = None if table.is_whole else list(partitions)
    stored = lake.table(source.table(table.name)).snapshot().select_dates(wanted)
    with lake.connect() as connection:
        row = connection.execute(f"SELECT count(*) FROM ({stored})").fetchone()
    assert row is not None
    return table.name, int(row[0])


def show_outcome(console: Console, outcome: Outcome) -> None:
    """Prints an outcome: the table, then what failed, then the warnings."""
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    table.add_column(style="bold")
    table.add_column(justify="right")
    # A source of whole tables takes in all that it has, whatever range was asked for.
    table.add_row("sessions", f"{outcome.partitions:,}" if outcome.partitions else "all")
    for name, count in outcome.rows.items():
        table.add_row(f"rows {name}", f"{count:,}")
    made, count = outcome.made
    table.add_row(made.replace("_", " "), f"{count:,}")
    passed = sum(check[2] for check in outcome.checks)
    if outcome.run_id is not None:
        table.add_row("checks passed", f"{passed} of {len(outcome.checks)}")
    table.add_row("seconds", f"{sum(outcome.seconds.values()):.1f}")
    console.print(table)
    if outcome.run_id is None:
        console.print("Nothing is new: all is loaded, derived, checked and published.")
    for where, name, ok, is_warning, found in outcome.checks:
        if not ok:
            label = "[yellow]warning[/]" if is_warning else "[bold red]failed[/]"
            console.print(f"{label}  {where}: {name}: {escape(found) or 'see the asset page'}", highlight=False)
    for hold in outcome.held:
        console.print(f"[bold red]held back[/]  {escape(str(hold))}", highlight=False)
    if outcome.held:
        console.print("The marts show the source's rows as they were published before, until the check passes.")
    if outcome.error:
        console.print(f"[bold red]run {outcome.run_id} failed[/]: {escape(outcome.error)}", highlight=False)
