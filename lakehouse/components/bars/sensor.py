"""The sensor of a source: finds new and changed objects, also late ones and corrections of old sessions, and
asks for runs over the sessions that they touch.

What is still to be loaded is not remembered here: it is what the source lists and the ledger doesn't know. A
    restart, or a backfill that got there first, therefore needs no special care. What a run was asked for
    stands in the run's tags: while one is on its way no second is asked for, and one that failed, before or
    after its objects were loaded, is tried again up to a limit and then reported.

An object that the store kept back becomes readable without a new version. It is asked for again at growing intervals
(see `lakehouse.ingest.withheld`), by the sensor itself: only one that can be read by now asks for a run.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime

import dagster as dg

from lakehouse.components.bars.run_tags import PARTITION_TAG, RANGE_END_TAG, RANGE_START_TAG, range_tags
from lakehouse.components.resources import LakeResource
from lakehouse.domains.market.bars.config import SourceConfig, SourceError
from lakehouse.ingest.discover import PendingObject, discover
from lakehouse.ingest.ledger import ledger_of
from lakehouse.ingest.skipped import record_skipped
from lakehouse.ingest.stale_readings import read_otherwise
from lakehouse.ingest.withheld import Asking

CHANGES_TAG = "lakehouse/changes"
SOURCE_TAG = "lakehouse/source"
TRIES = 3
"""How often a run over the same changes is tried before it is reported and left to people."""
_RUNS_PER_TICK = 10
_RUNS_LOOKED_AT = 200
IN_PROGRESS = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]
"""Statuses of runs that still work, or will."""


@dataclass(frozen=True)
class Stretch:
    """Neighbouring sessions with pending objects: what one run takes in."""

    first: date
    last: date
    changes: str
    """Digest of the object versions: the same changes have the same name in every tick."""


def stretches(pending: Sequence[PendingObject], sessions: Sequence[date]) -> list[Stretch]:
    """Groups pending objects by runs of neighbouring sessions, oldest first; objects of other days than
    `sessions` wait for theirs.
    """
    number = {session: position for position, session in enumerate(sessions)}
    groups: list[list[PendingObject]] = []
    for item in pending:
        if item.first_session not in number:
            continue
        if groups and number[item.first_session] - number[groups[-1][-1].first_session] <= 1:
            groups[-1].append(item)
        else:
            groups.append([item])
    return [Stretch(group[0].first_session, group[-1].first_session, _digest(group)) for group in groups]


def _digest(objects: Sequence[PendingObject]) -> str:
    digest = hashlib.sha256()
    for item in sorted(objects, key=lambda item: (item.name, item.version)):
        # One that is asked for again is another request each time.
        slot = f"\0{item.slot}" if item.slot else ""
        digest.update(f"{item.name}\0{item.version}{slot}\n".encode())
    return digest.hexdigest()[:16]


def source_sensor(config: SourceConfig, partitions: dg.PartitionsDefinition, job_name: str) -> dg.SensorDefinition:
    """The sensor of one source; it asks for runs of `job_name`."""

    @dg.sensor(
        name=f"{config.source}_objects",
        job_name=job_name,
        minimum_interval_seconds=30,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description=f"Runs {job_name} over the sessions that have new, changed or late objects.",
    )
    def new_objects(context: dg.SensorEvaluationContext, lake: LakeResource) -> Iterator[dg.RunRequest | dg.SkipReason]:
        try:
            config.url()
        except SourceError as error:
            yield dg.SkipReason(str(error))
            return
        opened, now, busy = lake.open(), _now(), _runs_in_progress(context.instance, config)
        ask_again = False if busy else Asking(_asked_until(context.cursor), now)
        found = discover(opened, config, config.bars, config.calendar_frame(), retry_failed=ask_again)
        if not busy:
            context.update_cursor(now.isoformat())
        record_skipped(opened, config.source, found.skipped)
        notes = [str(entry) for entry in found.skipped if entry.objects]
        if outdated := read_otherwise(config, ledger_of(opened, config.source)).height:
            objects = "object was" if outdated == 1 else "objects were"
            notes.append(f"{outdated:,} {objects} read by other settings: run the job {config.source}_reload")
        pending, noted = found.pending, "".join(f"; {note}" for note in notes)
        fresh = stretches(pending, [date.fromisoformat(key) for key in partitions.get_partition_keys()])
        failed = failed_stretches(context.instance, config)
        if not fresh and not failed:
            yield dg.SkipReason(f"no new or changed objects{noted}")
            return
        if busy:
            yield dg.SkipReason(
                f"{len(pending):,} objects wait for run {busy[0].run_id}, which is loading {config.source}{noted}"
            )
            return
        tries = {stretch.changes: count for stretch, count in failed}
        asked = list(dict.fromkeys([*(stretch for stretch, _ in failed), *fresh]))
        for stretch in [stretch for stretch in asked if tries.get(stretch.changes, 0) < TRIES][:_RUNS_PER_TICK]:
            yield _request(config, stretch, tries.get(stretch.changes, 0))
        if given_up := [
            f"{stretch.first} to {stretch.last}" for stretch in asked if tries.get(stretch.changes, 0) >= TRIES
        ]:
            message = (
                f"given up after {TRIES} failed runs: {', '.join(given_up)}. "
                "Mend the cause and materialize these sessions by hand"
            )
            context.log.error(message)
            yield dg.SkipReason(message)

    return new_objects


def _now() -> datetime:
    return datetime.now(UTC)


def _asked_until(cursor: str | None) -> datetime | None:
    """Up to when objects that were kept back have been asked for again; the cursor holds nothing else."""
    try:
        moment = datetime.fromisoformat(cursor or "")
    except ValueError:
        return None
    return moment if moment.tzinfo else None


def failed_stretches(instance: dg.DagsterInstance, config: SourceConfig) -> list[tuple[Stretch, int]]:
    """What the sensor's runs and the command line's failed to bring through to the marts, with the number of tries: no
    run over it succeeded, and no later one over its sessions. A backfill that was killed between loading and deriving
    has left nothing pending; what it lacks is named by its run.
    """
    by_changes: dict[str, list[dg.DagsterRun]] = {}
    for run in instance.get_runs(dg.RunsFilter(tags={SOURCE_TAG: config.source}), limit=_RUNS_LOOKED_AT):
        if RANGE_START_TAG in run.tags:
            by_changes.setdefault(run.tags.get(CHANGES_TAG, run.run_id), []).append(run)
    found = []
    for changes, runs in by_changes.items():
        if runs[0].status not in (dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED):
            continue
        first, last = (date.fromisoformat(runs[0].tags[tag]) for tag in (RANGE_START_TAG, RANGE_END_TAG))
        stretch = Stretch(first, last, changes)
        if not _done_since(instance, config, stretch, runs[0].run_id):
            found.append((stretch, len(runs)))
    return found


def _done_since(instance: dg.DagsterInstance, config: SourceConfig, stretch: Stretch, run_id: str) -> bool:
    """Whether a run that began after `run_id`, by whomever, brought all sessions of the stretch to daily bars."""
    began = instance.get_run_records(dg.RunsFilter(run_ids=[run_id]))[0].create_timestamp
    daily_bars = dg.AssetKey([config.source, "daily_bars"])
    later = instance.get_runs(
        dg.RunsFilter(statuses=[dg.DagsterRunStatus.SUCCESS], created_after=began), limit=_RUNS_LOOKED_AT
    )
    return any(
        run.tags.get(RANGE_START_TAG, run.tags.get(PARTITION_TAG, "9999")) <= str(stretch.first)
        and run.tags.get(RANGE_END_TAG, run.tags.get(PARTITION_TAG, "")) >= str(stretch.last)
        and (
            run.tags.get(SOURCE_TAG) == config.source
            or run.job_name in _jobs(config)
            or daily_bars in (run.asset_selection or ())
        )
        for run in later
    )


def _request(config: SourceConfig, stretch: Stretch, tries: int) -> dg.RunRequest:
    return dg.RunRequest(
        run_key=f"{config.source}-{stretch.changes}-{tries}",
        tags={**range_tags(stretch.first, stretch.last), CHANGES_TAG: stretch.changes, SOURCE_TAG: config.source},
    )


def _runs_in_progress(instance: dg.DagsterInstance, config: SourceConfig) -> list[dg.DagsterRun]:
    """Runs on their way that load the source: the sensor's own, and those that people or backfills started."""
    raw_bars = dg.AssetKey([config.source, "raw_bars"])
    runs = instance.get_runs(dg.RunsFilter(statuses=IN_PROGRESS), limit=_RUNS_LOOKED_AT)
    return [run for run in runs if run.job_name in _jobs(config) or raw_bars in (run.asset_selection or ())]


def _jobs(config: SourceConfig) -> tuple[str, str]:
    return f"{config.source}_update", f"{config.source}_reload"
