"""Requests the partitions of a run from an API and lands its answers.

A run always sends requests, since only the vendor knows whether it has corrected something. An answer is landed only if
it adds information: other rows, or the fact that a partition that has ended since, or a request that failed before, has
no rows. The oldest requests are repeated first: if the quota runs out, the next run continues where this one stopped.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta
from itertools import chain
from threading import Event
from typing import Any

from lakehouse.ingest.dataset import ApiOrigin, Dataset
from lakehouse.ingest.http.client import ApiClient, Unanswered
from lakehouse.ingest.http.requests import Question
from lakehouse.ingest.landing import Landing, published
from lakehouse.ingest.ledger import UNANSWERED, ledger_of, newest_entries
from lakehouse.ingest.partitioning import Partitioning, begun
from lakehouse.lake.lake import Lake
from lakehouse.progress import Progress

_NOT_ASKED = "not asked: the vendor answered nothing more, or the run's time is over; the next run asks again"
_NEVER = datetime.min.replace(tzinfo=UTC)


def fetch(
    lake: Lake,
    dataset: Dataset,
    origin: ApiOrigin,
    partitions: Sequence[date],
    *,
    run_id: str | None,
    progress: Progress,
) -> list[dict[str, Any]]:
    """Requests all subjects and the months of `partitions`, and lands what is new.

    Returns: a ledger row with the error for each unanswered request, unless its last ledger entry has the same error.

    Raises:
        SourceError: the key is missing, or the settings name nothing to request.
        SourceUnavailable: the landing can't be read or written.
    """
    landing = Landing(lake.uri, dataset.source)
    failed, last_news = _last_news(lake, dataset)
    questions = origin.requests.questions(partitions)
    newest = _newest_answers(landing, origin, partitions)
    # Unanswered and new requests come first: an answer that adds nothing leaves no trace to continue from.
    questions.sort(key=lambda question: (question.name not in failed, last_news.get(question.name, _NEVER)))
    unanswered: list[dict[str, Any]] = []
    pointless = Event()

    with ApiClient(origin.endpoint) as client, ThreadPoolExecutor(origin.endpoint.api.concurrency) as pool:

        def ask(batch: Sequence[Question]) -> list[str | None]:
            """Returns why each question has no answer; None if it has one."""
            if pointless.is_set():
                return [_NOT_ASKED] * len(batch)
            errors: list[str | None] = []
            for question, answer in zip(batch, client.answers([each.parameters for each in batch]), strict=True):
                if isinstance(answer, Unanswered):
                    errors.append(answer.error)
                    if answer.ends_run:
                        pointless.set()
                    continue
                known = newest.get(question.name)
                outdated = _outdated(question, known, answer.published_at, dataset.partitioning)
                old = question.name not in failed and not outdated
                kind = "csv" if origin.endpoint.api.records is None else "jsonl"
                landing.put(question.name, answer.body, answer.published_at, known, kind=kind, unless_known=old)
                errors.append(None)
            return errors

        progress(f"answers of {dataset.source}", 0, len(questions))
        size = client.questions_at_once
        batches = [questions[start : start + size] for start in range(0, len(questions), size)]
        # Send one request first, so that an unreachable vendor is detected before the others queue up.
        first = [ask(batch) for batch in batches[:1]]
        errors = chain.from_iterable(chain(first, pool.map(ask, batches[1:])))
        for done, (question, error) in enumerate(zip(questions, errors, strict=True), start=1):
            if error is not None and error != failed.get(question.name):
                unanswered.append(_failed(dataset, question, error, run_id))
            progress(f"answers of {dataset.source}", done, len(questions))
    return unanswered


def _last_news(lake: Lake, dataset: Dataset) -> tuple[dict[str, str], dict[str, datetime]]:
    """From the ledger, by object: the error of those that failed last, and the time of each one's last entry."""
    rows = newest_entries(ledger_of(lake, dataset.source)).select("object", "error", "ingested_at").collect().rows()
    failed = {name: error for name, error, _ in rows if error is not None}
    return failed, {name: ingested_at for name, _, ingested_at in rows}


def _newest_answers(landing: Landing, origin: ApiOrigin, partitions: Sequence[date]) -> dict[str, str]:
    """The version of the newest landed answer to each question."""
    listed = landing.list(origin.requests.prefixes(partitions)).objects.sort("version").group_by("name").last()
    return dict(listed.select("name", "version").iter_rows())


def _outdated(question: Question, newest: str | None, now: datetime, partitioning: Partitioning) -> bool:
    """Whether a partition of the question's month has ended since its newest answer."""
    if question.month is None or newest is None:
        return False
    known = published(newest)
    last = (question.month + timedelta(days=31)).replace(day=1) - timedelta(days=1)
    month = partitioning.between(question.month, last)
    return any(known < partitioning.over_at(partition) <= now for partition in month)


def _failed(dataset: Dataset, question: Question, error: str, run_id: str | None) -> dict[str, Any]:
    now, partitioning = datetime.now(UTC), dataset.partitioning
    named = dataset.parse_name(question.name)
    assert named is not None
    first = max(named.first_day, partitioning.first)
    inside = [each for each in begun(partitioning, first, now) if each <= named.last_day] or [first]
    return {
        "source": dataset.source,
        "object": question.name,
        "object_version": f"{now:%Y%m%dT%H%M%S.%fZ}{UNANSWERED}",
        "sequence": None,
        "reading": None,
        "product": dataset.name,
        "size": 0,
        "status": "failed",
        "error": error,
        "first_session": inside[0],
        "last_session": inside[-1],
        "rows_received": 0,
        "rows_quarantined": 0,
        "parts": [],
        "published_at": now,
        "ingested_at": now,
        "run_id": run_id,
    }
