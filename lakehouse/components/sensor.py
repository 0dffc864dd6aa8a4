"""The sensor of a source: finds new and changed objects, also late ones and corrections of old sessions, and asks for runs over the sessions that they touch.

What is still to be done is not remembered here: it is what the source lists and the ledger doesn't know. A restart, a backfill that got there first, or a failed run therefore need no
special care. What the sensor does remember, in the tags of the runs it asked for, is which changes a run was for: while one is on its way no second is asked for, and changes whose
run failed are tried again up to a limit and then reported.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date

import dagster as dg

from lakehouse.components.resources import LakeResource
from lakehouse.components.sessions import range_tags
from lakehouse.pipeline.load import PendingObject, pending_objects
from lakehouse.sources.config import BarFileConfig, SourceError

CHANGES_TAG = "lakehouse/changes"
SOURCE_TAG = "lakehouse/source"
TRIES = 3
"""How often a run over the same changes is tried before it is reported and left to people."""
_RUNS_PER_TICK = 10
_IN_PROGRESS = [dg.DagsterRunStatus.QUEUED, dg.DagsterRunStatus.NOT_STARTED, dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.CANCELING]


@dataclass(frozen=True)
class Stretch:
    """Neighbouring sessions with pending objects: what one run takes in."""

    first: date
    last: date
    changes: str
    """Digest of the object versions: the same changes have the same name in every tick."""
    objects: int


def stretches(pending: Sequence[PendingObject], sessions: Sequence[date]) -> list[Stretch]:
    """Groups pending objects by runs of neighbouring sessions, oldest first; objects of other days than `sessions` wait for theirs."""
    number = {session: position for position, session in enumerate(sessions)}
    groups: list[list[PendingObject]] = []
    for item in pending:
        if item.session not in number:
            continue
        if groups and number[item.session] - number[groups[-1][-1].session] <= 1:
            groups[-1].append(item)
        else:
            groups.append([item])
    return [Stretch(group[0].session, group[-1].session, _digest(group), len(group)) for group in groups]


def _digest(objects: Sequence[PendingObject]) -> str:
    digest = hashlib.sha256()
    for item in sorted(objects, key=lambda item: (item.name, item.version)):
        digest.update(f"{item.name}\0{item.version}\n".encode())
    return digest.hexdigest()[:16]


def source_sensor(config: BarFileConfig, partitions: dg.PartitionsDefinition, job_name: str) -> dg.SensorDefinition:
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
        pending = pending_objects(lake.open(), config, config.calendar_frame(), retry_failed=False)
        found = stretches(pending, [date.fromisoformat(key) for key in partitions.get_partition_keys()])
        if not found:
            yield dg.SkipReason("no new or changed objects")
            return
        if busy := _runs_in_progress(context.instance, config):
            yield dg.SkipReason(f"{len(pending):,} objects wait for run {busy[0].run_id}, which is loading {config.source}")
            return
        given_up = []
        for stretch in found[:_RUNS_PER_TICK]:
            failed = _failed_runs(context.instance, stretch)
            if len(failed) >= TRIES:
                given_up.append(f"{stretch.first} to {stretch.last} ({stretch.objects} objects, last in run {failed[0].run_id})")
                continue
            yield _request(config, stretch, tries=len(failed))
        if given_up:
            message = f"given up after {TRIES} failed runs: {'; '.join(given_up)}. Mend the cause and materialize these sessions by hand, or replace the objects"
            context.log.error(message)
            yield dg.SkipReason(message)

    return new_objects


def _request(config: BarFileConfig, stretch: Stretch, tries: int) -> dg.RunRequest:
    return dg.RunRequest(
        run_key=f"{config.source}-{stretch.changes}-{tries}",
        tags={
            **range_tags(stretch.first, stretch.last),
            CHANGES_TAG: stretch.changes,
            SOURCE_TAG: config.source,
        },
    )


def _runs_in_progress(instance: dg.DagsterInstance, config: BarFileConfig) -> list[dg.DagsterRun]:
    """Runs on their way that load the source: the sensor's own, and those that people or backfills started."""
    raw_bars = dg.AssetKey([config.source, "raw_bars"])
    runs = instance.get_runs(dg.RunsFilter(statuses=_IN_PROGRESS), limit=100)
    return [run for run in runs if run.tags.get(SOURCE_TAG) == config.source or raw_bars in (run.asset_selection or ())]


def _failed_runs(instance: dg.DagsterInstance, stretch: Stretch) -> list[dg.DagsterRun]:
    """The ended runs over the same changes, newest first. They left the changes pending, so whatever their status, they failed to take them in."""
    ended = [dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED, dg.DagsterRunStatus.SUCCESS]
    return list(instance.get_runs(dg.RunsFilter(tags={CHANGES_TAG: stretch.changes}, statuses=ended), limit=TRIES))
