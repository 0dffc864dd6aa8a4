"""The sensor that tells people what failed: runs, checks, and assets that stay behind.

A failed object, a request without an answer and an exhausted quota are what a check of a raw table finds; a feed that
stopped is an asset that is stale. What was told is kept in the sensor's cursor, and told again only when it happens
anew. Where notices go belongs in `lakehouse.sinks`.
"""

import html
import json
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from urllib.parse import urlsplit

import dagster as dg
from dagster._core.definitions.assets.graph.base_asset_graph import BaseAssetGraph
from dagster._core.definitions.freshness import TimeWindowFreshnessPolicy

from lakehouse.api import Lake
from lakehouse.components.sources.run_tags import tagged_span
from lakehouse.governance.quality import checked_runs, states
from lakehouse.settings import settings
from lakehouse.sinks import NoticeRefused, Sink, SinkUnavailable

VARIABLE = "LAKEHOUSE_ALERTS"
_INTERVAL_S = 30
_RUNS_AT_ONCE = 50
_SLACK = "hooks.slack.com"


@dataclass(frozen=True)
class Alert:
    """Something that people should look at."""

    key: str
    subject: str
    text: str
    made_at: datetime
    origin: str = "alerts"
    email: str = ""
    is_for_slack: bool = False

    @property
    def document(self) -> dict[str, str]:
        """The alert as JSON; Slack takes a text alone."""
        text = f"{self.subject}\n{self.text}"
        if self.is_for_slack:
            # Slack reads <...> as links and mentions: https://docs.slack.dev/messaging/formatting-message-text
            return {"text": html.escape(text, quote=False)}
        return {"key": self.key, "subject": self.subject, "text": text, "made_at": self.made_at.isoformat()}


@dataclass
class Told:
    """What was told: runs up to a moment, and of what lasts, each key by sink."""

    runs_to: float
    lasting: dict[str, list[str]] = field(default_factory=dict)

    @staticmethod
    def of(cursor: str | None, now: datetime) -> "Told":
        """What a cursor says; without one, runs are told from now on."""
        return Told(**json.loads(cursor)) if cursor else Told(now.timestamp())

    def __str__(self) -> str:
        return json.dumps(vars(self))


def failed_runs(instance: dg.DagsterInstance, since: datetime) -> list[Alert]:
    """The runs that failed after a moment, oldest first."""
    wanted = dg.RunsFilter(statuses=[dg.DagsterRunStatus.FAILURE], updated_after=since)
    found = []
    records = instance.get_run_records(wanted, limit=_RUNS_AT_ONCE, order_by="update_timestamp", ascending=True)
    for record in records:
        run, span = record.dagster_run, tagged_span(record.dagster_run.tags)
        about = f" over {span[0]} to {span[1]}" if span else ""
        text = f"{_cause(instance, run.run_id)}\nRun {run.run_id}"
        found.append(
            Alert(f"run:{run.run_id}", f"{run.job_name} failed{about}", text, _moment(record.update_timestamp))
        )
    return found


def _moment(stamp: datetime) -> datetime:
    return stamp if stamp.tzinfo else stamp.replace(tzinfo=UTC)


def _cause(instance: dg.DagsterInstance, run_id: str) -> str:
    """Why a run failed: the first error of a step, or else what Dagster says of the run."""
    for entry in instance.all_logs(run_id, of_type={dg.DagsterEventType.STEP_FAILURE, dg.DagsterEventType.RUN_FAILURE}):
        event = entry.dagster_event
        if event is None:
            continue
        if event.event_type == dg.DagsterEventType.STEP_FAILURE:
            failure = event.step_failure_data
            if failure.user_failure_data and failure.user_failure_data.description:
                return failure.user_failure_data.description
            if failure.error is not None:
                return (failure.error.cause or failure.error).message.strip()
        elif event.message:
            return event.message
    return "The cause is unknown"


def failed_checks(lake: Lake) -> list[Alert]:
    """The checks that fail now, by their newest results; warnings aren't told."""
    found = []
    for state in states(checked_runs(lake)):
        newest = state.newest
        if newest.outcome == "failed":
            key = f"check:{newest.source}.{newest.table}.{newest.check}:{state.since.isoformat()}"
            subject = f"check {newest.check} of {newest.source}.{newest.table} fails"
            found.append(Alert(key, subject, newest.summary or "see the asset's page", newest.at))
    return found


def stale_assets(instance: dg.DagsterInstance, graph: BaseAssetGraph, now: datetime) -> list[Alert]:
    """The assets that were made once, and not for longer than their freshness policy allows."""
    allowed: dict[dg.AssetKey, timedelta] = {}
    for key in graph.get_all_asset_keys():
        policy = graph.get(key).freshness_policy
        if isinstance(policy, TimeWindowFreshnessPolicy):
            allowed[key] = policy.fail_window.to_timedelta()
    found = []
    for record in instance.get_asset_records(list(allowed)):
        made = record.asset_entry.last_materialization_record
        if made is None:
            continue
        at, window = datetime.fromtimestamp(made.timestamp, UTC), allowed[record.asset_entry.asset_key]
        if now - at > window:
            name = record.asset_entry.asset_key.to_user_string()
            text = f"It was updated last at {at:%Y-%m-%d %H:%M:%S} UTC, and should be at least every {window}"
            found.append(Alert(f"stale:{name}:{at.isoformat()}", f"{name} is stale", text, now))
    return found


def send(alerts: Iterable[Alert], setting: str, told: Collection[str]) -> tuple[list[str], list[str]]:
    """Sends to a sink what it wasn't told yet.

    Returns:
        The keys that the sink knows now, and what went wrong.

    Raises:
        SinkFault: the setting can't be used.
    """
    sink, known, faults = Sink(setting, VARIABLE), list[str](), list[str]()
    is_for_slack = urlsplit(setting).hostname == _SLACK
    wanted = list(alerts)
    known += [alert.key for alert in wanted if alert.key in told]
    waiting = [alert for alert in wanted if alert.key not in told]
    if not waiting:
        return known, faults
    try:
        with sink.opened() as outlet:
            for alert in waiting:
                try:
                    outlet.send(replace(alert, is_for_slack=is_for_slack))
                except NoticeRefused as error:
                    faults.append(f"{alert.key} was refused: {error}")
                known.append(alert.key)
    except SinkUnavailable as error:
        faults.append(str(error))
    return known, faults


def tick(lake: Lake, instance: dg.DagsterInstance, graph: BaseAssetGraph, cursor: str | None, now: datetime) -> Told:
    """Looks at everything, tells the sinks what is new, and returns what they were told; see `Told`. A sink that takes
    nothing now is told at the next look.

    Raises:
        SinkFault: a setting can't be used.
    """
    before = Told.of(cursor, now)
    runs = failed_runs(instance, datetime.fromtimestamp(before.runs_to, UTC))
    alerts = [*runs, *failed_checks(lake), *stale_assets(instance, graph, now)]
    after = Told(max([before.runs_to, *(alert.made_at.timestamp() for alert in runs)]))
    for setting in (lake.config.alerts or "").split():
        # A digest would do; the settings' place in the list is as good, and holds no password.
        name = str(len(after.lasting))
        after.lasting[name], faults = send(alerts, setting, before.lasting.get(name, ()))
        for fault in faults:
            _log_fault(fault)
        if {alert.key for alert in runs} - {*after.lasting[name]}:
            after.runs_to = before.runs_to
    return after


def _log_fault(fault: str) -> None:
    dg.get_dagster_logger("alerts").warning("An alert was not sent: %s", fault)


@dg.sensor(
    name="alerts",
    minimum_interval_seconds=_INTERVAL_S,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description=f"Tells {VARIABLE} of failed runs, failed checks and stale assets.",
)
def alerts_sensor(context: dg.SensorEvaluationContext) -> dg.SkipReason:
    """Tells what is new, each once."""
    config = settings()
    if not config.alerts:
        return dg.SkipReason(f"no place for alerts: set {VARIABLE} to a webhook, a mail server or a file")
    assert context.repository_def is not None
    told = tick(
        Lake.present(config), context.instance, context.repository_def.asset_graph, context.cursor, datetime.now(UTC)
    )
    context.update_cursor(str(told))
    return dg.SkipReason(f"{max(map(len, told.lasting.values()), default=0)} alerts last")
