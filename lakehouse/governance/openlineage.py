"""Lineage as OpenLineage events (https://openlineage.io), to a file or an HTTP server, for catalogues that read them.

What can't be sent is logged: it never fails a run. The library is an extra, `lakehouse[lineage]`.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import NAMESPACE_URL, UUID, uuid5

from lakehouse.errors import LakehouseError
from lakehouse.governance.described import DescribedTable
from lakehouse.governance.lineage import Source
from lakehouse.urls import scheme_of, without_password

if TYPE_CHECKING:
    from openlineage.client.event_v2 import RunEvent
    from openlineage.client.transport import Transport

NAMESPACE = "lakehouse"
PRODUCER = "urn:lakehouse"
_TIMEOUT_S = 5.0
_log = logging.getLogger(__name__)


class LineageNotSent(LakehouseError):
    """An event could not be sent; the message says why and what to do."""


def run_events(
    table: DescribedTable, sources: Mapping[str, Sequence[Source]], run_id: str, started: datetime, ended: datetime
) -> list[RunEvent]:
    """The events of a run that wrote a table: its start and its completion.

    Args:
        sources: column -> what it is made from.
        run_id: Dagster's, from which the event's own is made.
    """
    from openlineage.client.event_v2 import InputDataset, Job, OutputDataset, Run, RunEvent, RunState
    from openlineage.client.facet_v2 import column_lineage_dataset, parent_run, schema_dataset

    fields = [schema_dataset.SchemaDatasetFacetFields(each.name, each.type, each.description) for each in table.columns]
    made_from = {
        column: column_lineage_dataset.Fields(
            [
                column_lineage_dataset.InputField(
                    NAMESPACE,
                    each.column.table,
                    each.column.column,
                    [column_lineage_dataset.Transformation("DIRECT", "IDENTITY" if each.is_copy else "TRANSFORMATION")],
                )
                for each in found
            ]
        )
        for column, found in sources.items()
        if found
    }
    facets: dict[str, Any] = {"schema": schema_dataset.SchemaDatasetFacet(fields=fields)}
    if made_from:
        facets["columnLineage"] = column_lineage_dataset.ColumnLineageDatasetFacet(fields=made_from)
    run_of_dagster = parent_run.ParentRunFacet(
        run=parent_run.Run(runId=str(_uuid(run_id))), job=parent_run.Job(namespace=NAMESPACE, name="dagster")
    )
    run = Run(str(uuid5(_uuid(run_id), table.sql_name)), facets={"parent": run_of_dagster})
    job = Job(NAMESPACE, table.sql_name)
    before = sorted({each.column.table for found in sources.values() for each in found})
    inputs = [InputDataset(NAMESPACE, name) for name in before]
    outputs = [OutputDataset(NAMESPACE, table.sql_name, facets=facets)]
    moments = ((RunState.START, started), (RunState.COMPLETE, ended))
    return [
        RunEvent(
            eventTime=moment.astimezone(UTC).isoformat(),
            producer=PRODUCER,
            run=run,
            job=job,
            eventType=state,
            inputs=inputs,
            outputs=outputs,
        )
        for state, moment in moments
    ]


def _uuid(run_id: str) -> UUID:
    try:
        return UUID(run_id)
    except ValueError:
        return uuid5(NAMESPACE_URL, run_id)


def send(url: str, events: Sequence[RunEvent]) -> None:
    """Sends events to a file, one line each, or an HTTP server.

    Raises:
        LineageNotSent: the server doesn't answer or refuses, or the file can't be written.
    """
    from requests import RequestException

    try:
        transport = _transport(url)
        for event in events:
            transport.emit(event)
    except (RequestException, OSError, RuntimeError) as error:
        raise LineageNotSent(
            f"lineage could not be sent to {without_password(url)}: {error}; correct LAKEHOUSE_OPENLINEAGE_URL"
        ) from error


def _transport(url: str) -> Transport:
    from openlineage.client.transport.file import FileConfig, FileTransport
    from openlineage.client.transport.http import HttpConfig, HttpTransport

    if scheme_of(url) in ("http", "https"):
        return HttpTransport(HttpConfig(url=url, timeout=_TIMEOUT_S, retry={"total": 0}))
    path = Path(url.removeprefix("file://")).expanduser()
    path.parent.mkdir(parents=True, exist_ok=True)
    return FileTransport(FileConfig(log_file_path=str(path), append=True))


def tell(
    url: str, table: DescribedTable, sources: Mapping[str, Sequence[Source]], run_id: str, started: datetime
) -> None:
    """Sends the events of a run that wrote a table; logs why it could not."""
    try:
        send(url, run_events(table, sources, run_id, started, datetime.now(UTC)))
    except ImportError:
        _log.warning(
            "LAKEHOUSE_OPENLINEAGE_URL is set, but the library is missing: install it by "
            "`pip install 'lakehouse[lineage]'`"
        )
    except LineageNotSent as error:
        _log.warning("%s", error)
