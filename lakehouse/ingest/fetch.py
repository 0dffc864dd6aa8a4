"""Requests the partitions of a run from an API and lands its answers.

A run always sends requests, since only the vendor knows whether it has corrected something. An answer is landed only if
it adds information: other rows, or the fact that a partition that has ended since, or a request that failed before, has
no rows. The oldest requests are repeated first: if the quota runs out, the next run continues where this one stopped.
Requests about months before the vendor's data begin are left out for a while (see `unoffered`).
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
from lakehouse.ingest.partitioning import Partitioning, begun, start_of, today
from lakehouse.ingest.unoffered import ASK_AGAIN_AFTER, unoffered
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
    only_new: bool = False,
) -> list[dict[str, Any]]:
    """Requests all subjects and the months of `partitions`, and lands what is new. With `only_new`, leaves out the
    questions that were answered before.

    Returns: a ledger row with the error for each unanswered request, unless its last ledger entry has the same error.

    Raises:
        SourceError: the key is missing, or the settings name nothing to request.
        SourceUnavailable: the landing can't be read or written.
    """
    landing = Landing(lake.uri, dataset.source)
    failed, refused, last_news = _last_news(lake, dataset)
    begun_at = datetime.now(UTC)
    idle = _not_asked_yet(lake, dataset, begun_at)
    questions = [question for question in origin.requests.questions(lake, partitions) if question.name not in idle]
    if only_new:
        questions = [question for question in questions if question.name in failed or question.name not in last_news]
    newest = _newest_answers(landing, origin, partitions)
    # Unanswered and new requests come first: an answer that adds nothing leaves no trace to continue from.
    questions.sort(key=lambda question: (question.name not in failed, last_news.get(question.name, _NEVER)))
    errors: list[Unanswered | None] = []
    pointless = Event()

    with ApiClient(origin.endpoint) as client, ThreadPoolExecutor(origin.endpoint.api.concurrency) as pool:

        def ask(batch: Sequence[Question]) -> list[Unanswered | None]:
            """Returns why each question has no answer; None if it has one."""
            if pointless.is_set():
                return [Unanswered(_NOT_ASKED)] * len(batch)
            found: list[Unanswered | None] = []
            for question, answer in zip(batch, client.answers([each.parameters for each in batch]), strict=True):
                if isinstance(answer, Unanswered):
                    found.append(answer)
                    if answer.ends_run:
                        pointless.set()
                    continue
                known = newest.get(question.name)
                outdated = _outdated(question, known, answer.published_at, dataset.partitioning)
                old = question.name not in failed and not outdated
                kind = "csv" if origin.endpoint.api.records is None else "jsonl"
                landing.put(question.name, answer.body, answer.published_at, known, kind=kind, unless_known=old)
                found.append(None)
            return found

        progress(f"answers of {dataset.source}", 0, len(questions))
        size = client.questions_at_once
        batches = [questions[start : start + size] for start in range(0, len(questions), size)]
        # Send one request first, so that an unreachable vendor is detected before the others queue up.
        first = [ask(batch) for batch in batches[:1]]
        for error in chain.from_iterable(chain(first, pool.map(ask, batches[1:]))):
            errors.append(error)
            progress(f"answers of {dataset.source}", len(errors), len(questions))
    # A refusal says something about the request only if others were answered: else the key may be wrong.
    speaks = any(error is None for error in errors)
    unanswered: list[dict[str, Any]] = []
    for question, error in zip(questions, errors, strict=True):
        if error is None:
            continue
        before = last_news.get(question.name, _NEVER)
        is_refused = error.is_verdict and _is_over(question, dataset) and (speaks or question.name in refused)
        is_known = error.error == failed.get(question.name) and is_refused == (question.name in refused)
        # An entry that says the same again moves the day on which it is asked again.
        if not is_known or (is_refused and before <= begun_at - ASK_AGAIN_AFTER):
            unanswered.append(_failed(dataset, question, error.error, is_refused, run_id))
    return unanswered


def _not_asked_yet(lake: Lake, dataset: Dataset, now: datetime) -> set[str]:
    """The requests that the vendor has nothing for, as it said not long ago."""
    known = unoffered([dataset], ledger_of(lake, dataset.source))
    return {each.object for each in known if each.asked_at > now - ASK_AGAIN_AFTER}


def _is_over(question: Question, dataset: Dataset) -> bool:
    """Whether a question is about a month that is over."""
    return question.month is not None and question.month < start_of("month", today(dataset.partitioning))


def _last_news(lake: Lake, dataset: Dataset) -> tuple[dict[str, str], set[str], dict[str, datetime]]:
    """From the ledger, by object: the error of those that failed last, those of them that were refused, and the time of
    each one's last entry.
    """
    columns = ("object", "error", "is_refused", "ingested_at")
    rows = newest_entries(ledger_of(lake, dataset.source)).select(columns).collect().rows()
    failed = {name: error for name, error, _, _ in rows if error is not None}
    refused = {name for name, _, is_refused, _ in rows if is_refused}
    return failed, refused, {name: ingested_at for name, _, _, ingested_at in rows}


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


def _failed(dataset: Dataset, question: Question, error: str, is_refused: bool, run_id: str | None) -> dict[str, Any]:
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
        "is_refused": is_refused,
        "first_session": inside[0],
        "last_session": inside[-1],
        "rows_received": 0,
        "rows_quarantined": 0,
        "parts": [],
        "published_at": now,
        "ingested_at": now,
        "run_id": run_id,
    }
