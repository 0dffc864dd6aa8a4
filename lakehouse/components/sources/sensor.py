"""The sensor of a source: finds new and changed objects, including late ones and corrections of old sessions, and
requests runs over the sessions that they touch.

Each tick lists where news can be (`lakehouse.ingest.recent`), the first one of a day everything. Dagster evaluates a
sensor every five seconds at most: in between, a tick without news watches its folder, so that a new file waits for less
than a second.

The sensor keeps no list of pending objects: pending is whatever the source lists and the ledger doesn't know. So a
restart, or a backfill that got there first, needs no special handling. A run's tags record what it was requested for:
while one is in progress, no second is requested; a failed one is retried up to a limit and then reported, whether it
failed before or after its objects were loaded.

A withheld object may become readable without a new version. The sensor probes it at growing intervals (see
`lakehouse.ingest.withheld`) and requests a run only once it can be read.
"""

import hashlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

import dagster as dg

from lakehouse.components.resources import LakeResource
from lakehouse.components.sources.run_tags import NEXT_RUN_TAG, range_tags, tagged_span
from lakehouse.derive.source import Source
from lakehouse.ingest.dataset import Dataset, ObjectOrigin
from lakehouse.ingest.discover import Discovery, ObjectVersion, discover
from lakehouse.ingest.ledger import ledger_of
from lakehouse.ingest.skipped import record_skipped
from lakehouse.ingest.stale_readings import read_otherwise
from lakehouse.ingest.withheld import Asking
from lakehouse.lake.lake import Lake

CHANGES_TAG = "lakehouse/changes"
SOURCE_TAG = "lakehouse/source"
TRIES = 3
"""Failed runs over the same changes before the sensor gives up and reports them."""
_INTERVAL_S, _UNCONFIGURED_INTERVAL_S = 5, 60
"""Settings are those of the process: a source without a location stays so."""
_RUNS_PER_TICK = 10
_RUNS_LOOKED_AT = 200
_LISTED_IN_FULL_EVERY = timedelta(days=1)
_WATCHED_SECONDS, _PAUSE_SECONDS = 4.0, 0.25
"""How long a tick watches a folder, and how often it looks."""
IN_PROGRESS = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]
"""Statuses of runs that are queued or in progress."""


@dataclass(frozen=True)
class PartitionRange:
    """Adjacent partitions with pending objects, loaded by one run; without partitions for whole tables."""

    first: date | None
    last: date | None
    changes: str
    """Digest of the object versions, so that the same changes are recognised at every tick."""

    def __str__(self) -> str:
        return "all" if self.first is None else f"{self.first} to {self.last}"


def stretches(pending: Sequence[ObjectVersion], partitions: Sequence[date]) -> list[PartitionRange]:
    """Groups pending objects by ranges of adjacent partitions, oldest first; leaves out objects of other partitions
    than `partitions`.
    """
    number = {partition: position for position, partition in enumerate(partitions)}
    groups: list[list[ObjectVersion]] = []
    for item in pending:
        if item.first_partition not in number:
            continue
        if groups and number[item.first_partition] - number[groups[-1][-1].first_partition] <= 1:
            groups[-1].append(item)
        else:
            groups.append([item])
    return [PartitionRange(group[0].first_partition, group[-1].first_partition, _digest(group)) for group in groups]


def _digest(objects: Sequence[ObjectVersion]) -> str:
    digest = hashlib.sha256()
    for item in sorted(objects, key=lambda item: (item.name, item.version)):
        # A withheld object that is probed again is a new request each time.
        slot = f"\0{item.slot}" if item.slot else ""
        digest.update(f"{item.name}\0{item.version}{slot}\n".encode())
    return digest.hexdigest()[:16]


def source_sensor(
    resolve: Callable[[], Source], partitions: dg.PartitionsDefinition | None, job_name: str
) -> dg.SensorDefinition:
    """The sensor of one source; it requests runs of `job_name`.

    Args:
        resolve: makes the source from the settings at each tick.
    """
    made = resolve()
    is_configured = all(dataset.lacks is None for dataset in made.stepwise or made.datasets if not dataset.is_asked)

    @dg.sensor(
        name=f"{made.name}_objects",
        job_name=job_name,
        minimum_interval_seconds=_INTERVAL_S if is_configured else _UNCONFIGURED_INTERVAL_S,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description=f"Runs {job_name} over the partitions that have new, changed or late objects.",
    )
    def new_objects(context: dg.SensorEvaluationContext, lake: LakeResource) -> Iterator[dg.RunRequest | dg.SkipReason]:
        source = resolve()
        delivered = [dataset for dataset in source.stepwise or source.datasets if not dataset.is_asked]
        if lacking := next(filter(None, (dataset.lacks for dataset in delivered)), None):
            yield dg.SkipReason(lacking)
            return
        opened, now, busy = lake.open(), _now(), runs_in_progress(context.instance, source)
        looked = _Looked.of(context.cursor)
        is_recent = looked.in_full_at is not None and now - looked.in_full_at < _LISTED_IN_FULL_EVERY
        ask_again = False if busy else Asking(looked.at, now)
        found = _discovered(opened, delivered, ask_again, is_recent)
        if not busy:
            context.update_cursor(str(_Looked(now, looked.in_full_at if is_recent else now)))
        # Objects that no dataset takes are the same for all datasets of a place.
        passed_over = found[0].skipped
        if not is_recent:
            record_skipped(opened, source.name, passed_over)
        notes = [str(entry) for entry in passed_over if entry.objects]
        if outdated := read_otherwise(source.datasets, ledger_of(opened, source.name)).height:
            objects = "object was" if outdated == 1 else "objects were"
            notes.append(f"{outdated:,} {objects} read by other settings: run the job {source.name}_reload")
        pending = [item for each in found for item in each.pending]
        noted = "".join(f"; {note}" for note in notes)
        if partitions is not None:
            # Naming all partitions of a long history takes a tenth of a second.
            keys = partitions.get_partition_keys() if pending else ()
            fresh = stretches(pending, [date.fromisoformat(key) for key in keys])
        else:
            fresh = [PartitionRange(None, None, _digest(pending))] if pending else []
        failed = failed_ranges(context.instance, source)
        if not fresh and not failed:
            yield dg.SkipReason(f"no new or changed objects{noted}")
            return
        if busy:
            yield dg.SkipReason(
                f"{len(pending):,} objects wait for run {busy[0].run_id}, which is loading {source.name}{noted}"
            )
            return
        tries = {stretch.changes: count for stretch, count in failed}
        asked = list(dict.fromkeys([*(stretch for stretch, _ in failed), *fresh]))
        for stretch in [stretch for stretch in asked if tries.get(stretch.changes, 0) < TRIES][:_RUNS_PER_TICK]:
            yield _request(source, stretch, tries.get(stretch.changes, 0))
        if given_up := [str(stretch) for stretch in asked if tries.get(stretch.changes, 0) >= TRIES]:
            message = (
                f"given up after {TRIES} failed runs: {', '.join(given_up)}. "
                "Correct the cause and materialize these partitions in Dagster"
            )
            context.log.error(message)
            yield dg.SkipReason(message)

    return new_objects


def _now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True)
class _Looked:
    """When a sensor looked: at withheld objects, and at a listing of everything. Its cursor holds nothing else."""

    at: datetime | None
    in_full_at: datetime | None

    def __str__(self) -> str:
        return " ".join(moment.isoformat() for moment in (self.at, self.in_full_at) if moment)

    @staticmethod
    def of(cursor: str | None) -> "_Looked":
        """The moments in a cursor; None for those that it doesn't hold."""
        try:
            moments = [datetime.fromisoformat(text) for text in (cursor or "").split()]
        except ValueError:
            moments = []
        known = [moment if moment.tzinfo else None for moment in moments[:2]]
        return _Looked(*known, *[None] * (2 - len(known)))


def _discovered(lake: Lake, datasets: Sequence[Dataset], ask_again: bool | Asking, is_recent: bool) -> list[Discovery]:
    """What the datasets' places offer now, or as soon as something comes into a folder within the tick."""
    before = _stamps(datasets) if is_recent and ask_again else []
    found = [discover(lake, dataset, retry_failed=ask_again, recent=is_recent) for dataset in datasets]
    if any(each.pending for each in found) or not any(before):
        return found
    until = time.monotonic() + _WATCHED_SECONDS
    while time.monotonic() < until:
        if _stamps(datasets) != before:
            return [discover(lake, dataset, retry_failed=ask_again, recent=True) for dataset in datasets]
        time.sleep(_PAUSE_SECONDS)
    return found


def _stamps(datasets: Sequence[Dataset]) -> list[int | None]:
    origins = [dataset.origin for dataset in datasets if isinstance(dataset.origin, ObjectOrigin)]
    return [origin.place().stamp(origin.days.below if origin.days else "") for origin in origins]


def failed_ranges(instance: dg.DagsterInstance, source: Source) -> list[tuple[PartitionRange, int]]:
    """Returns the ranges that runs of the sensor or the command line failed to bring to the marts, with the number of
    attempts: neither a retry nor a later run over these sessions succeeded. A backfill killed between loading and
    publishing leaves nothing pending, so its run's tags are the only record of what is missing.
    """
    by_changes: dict[str, list[dg.DagsterRun]] = {}
    for run in instance.get_runs(dg.RunsFilter(tags={SOURCE_TAG: source.name}), limit=_RUNS_LOOKED_AT):
        # A run of whole tables is about all of them, and names no partitions.
        if tagged_span(run.tags) or CHANGES_TAG in run.tags or not source.stepwise:
            by_changes.setdefault(run.tags.get(CHANGES_TAG, run.run_id), []).append(run)
    found = []
    for changes, runs in by_changes.items():
        failed = runs[0].status in (dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED)
        if not failed and (not runs[0].is_success or _was_continued(instance, runs[0])):
            continue
        first, last = tagged_span(runs[0].tags) or (None, None)
        stretch = PartitionRange(first, last, changes)
        if not _done_since(instance, source, stretch, runs[0].run_id):
            found.append((stretch, len(runs)))
    return found


def _done_since(instance: dg.DagsterInstance, source: Source, stretch: PartitionRange, run_id: str) -> bool:
    """Whether any run that started after `run_id` brought all partitions of the range to the source's last table, and
    was continued.
    """
    began = instance.get_run_records(dg.RunsFilter(run_ids=[run_id]))[0].create_timestamp
    last_table = dg.AssetKey([source.name, _last_table(source)])
    later = instance.get_runs(
        dg.RunsFilter(statuses=[dg.DagsterRunStatus.SUCCESS], created_after=began), limit=_RUNS_LOOKED_AT
    )
    return any(
        _covers(run.tags, stretch)
        and (
            run.tags.get(SOURCE_TAG) == source.name
            or run.job_name in _jobs(source)
            or last_table in (run.asset_selection or ())
        )
        and _was_continued(instance, run)
        for run in later
    )


def _was_continued(instance: dg.DagsterInstance, run: dg.DagsterRun) -> bool:
    """Whether the run that continues this one was started, if there is to be one."""
    following = run.tags.get(NEXT_RUN_TAG)
    return following is None or instance.has_run(following)


def _covers(tags: Mapping[str, str], stretch: PartitionRange) -> bool:
    """Whether a run with these tags covers the range."""
    if stretch.first is None or stretch.last is None:
        return True
    span = tagged_span(tags)
    return span is not None and span[0] <= stretch.first and span[1] >= stretch.last


def _last_table(source: Source) -> str:
    """The table that is derived last from the datasets that the sensor watches."""
    made = [table for table in source.tables if not table.is_whole] or list(source.tables)
    return made[-1].name


def _request(source: Source, stretch: PartitionRange, tries: int) -> dg.RunRequest:
    about = range_tags(stretch.first, stretch.last) if stretch.first and stretch.last else {}
    return dg.RunRequest(
        run_key=f"{source.name}-{stretch.changes}-{tries}",
        tags={**about, CHANGES_TAG: stretch.changes, SOURCE_TAG: source.name},
    )


def runs_in_progress(instance: dg.DagsterInstance, source: Source) -> list[dg.DagsterRun]:
    """Unfinished runs that load the source: the sensor's own, and those started manually or by backfills."""
    raw = {dg.AssetKey(dataset.table.split("/")) for dataset in source.datasets}
    runs = instance.get_runs(dg.RunsFilter(statuses=IN_PROGRESS), limit=_RUNS_LOOKED_AT)
    return [run for run in runs if run.job_name in _jobs(source) or raw & set(run.asset_selection or ())]


def _jobs(source: Source) -> tuple[str, str]:
    return f"{source.name}_update", f"{source.name}_reload"
