"""Checks a source before anything is loaded: whether its place or API can be reached with the settings, what is there,
and what the first rows of its newest objects would be in the lake.

The objects are read by `lakehouse.ingest.rehearsal`. What a domain knows of its rows (sessions, labels, currencies) it
says in `Source.judge`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from lakehouse.derive.source import Remark, Source
from lakehouse.errors import LakehouseError
from lakehouse.ingest.dataset import Dataset, ObjectOrigin
from lakehouse.ingest.rehearsal import Rehearsal, rehearse
from lakehouse.lake.lake import Lake

_NAMED = 3


@dataclass(frozen=True)
class DatasetReport:
    """What a check found out about a dataset; `rehearsal` is None where nothing could be listed."""

    dataset: Dataset
    rehearsal: Rehearsal | None
    remarks: Sequence[Remark]


@dataclass(frozen=True)
class SourceReport:
    """What a check found out about a source."""

    source: Source
    datasets: Sequence[DatasetReport]
    remarks: Sequence[Remark] = ()

    @property
    def is_sound(self) -> bool:
        """Whether nothing is wrong, apart from warnings."""
        return not any(remark.kind == "error" for remark in self.all_remarks)

    @property
    def all_remarks(self) -> list[Remark]:
        """The remarks about the source, and those about its datasets."""
        return [*self.remarks, *(remark for each in self.datasets for remark in each.remarks)]


def check_source(empty: Lake, source: Source) -> SourceReport:
    """Checks a source; loads nothing, and sends no request to an API.

    Args:
        empty: a lake without tables, so that every object is new.
    """
    lacks = source.lacks()
    if not source.datasets:
        return SourceReport(source, [], [Remark("error", lacks)] if lacks else [])
    return SourceReport(source, [_check(empty, source, dataset) for dataset in source.datasets])


def _check(empty: Lake, source: Source, dataset: Dataset) -> DatasetReport:
    try:
        dataset.require_settings()
        if not isinstance(dataset.origin, ObjectOrigin):
            note = Remark("note", "the API has a key and symbols to be asked for; a check sends no request")
            return DatasetReport(dataset, None, [note])
        found = rehearse(empty, dataset)
        return DatasetReport(dataset, found, [*_remarks(found), *source.judge(source, found)])
    except LakehouseError as error:
        return DatasetReport(dataset, None, [Remark("error", str(error))])


def _remarks(found: Rehearsal) -> Iterator[Remark]:
    dataset = found.dataset
    if not found.found:
        lands = isinstance(dataset.origin, ObjectOrigin) and dataset.origin.land is not None
        if lands:
            yield Remark("note", "its place is read by a cursor, in a load only")
        elif found.skipped:
            there = "".join(f"; {each}" for each in found.skipped)
            what = f"it offers nothing that {dataset.name} would load{there}"
            yield Remark("error", f"{what}. Correct `pattern` and `date_format`, or the place")
        else:
            yield Remark("warning", "its place is empty")
    yield from (Remark("warning", str(each)) for each in found.skipped if found.found)
    unreadable = [each.error for each in found.read if each.error is not None]
    yield from (Remark("error", error) for error in unreadable[:_NAMED])
    if len(unreadable) > _NAMED:
        yield Remark("error", f"{len(unreadable) - _NAMED} more of the newest objects can't be read")
    verdict = found.refusal.verdict(dataset.refusals)
    if found.refusal.refused:
        yield Remark("error" if verdict == "fail" else "warning", str(found.refusal))
    if found.outside:
        received = sum(each.received for each in found.read)
        is_most = 2 * found.outside > received
        yield Remark(
            "error" if is_most else "warning",
            f"{found.outside:,} of {received:,} rows are refused, since {dataset.partitioning.without}"
            + ("; correct the time's format, zone or the calendar" if is_most else ""),
        )
    mistakes = dict.fromkeys(mistake for each in found.read for mistake in each.mistakes)
    yield from (Remark("hint", mistake) for mistake in islice(mistakes, _NAMED))
