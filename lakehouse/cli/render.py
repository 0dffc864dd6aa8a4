"""Renders the status of sources and feeds on a terminal.

Query results belong in `results`; commands in `app`, and their errors in `explained`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from rich.console import Console, ConsoleOptions, RenderableType
from rich.markup import escape
from rich.segment import Segment
from rich.table import Table

from lakehouse.printable import printable

if TYPE_CHECKING:
    from lakehouse.derive.status import SourceStatus
    from lakehouse.domains.market.bars.status import Status
    from lakehouse.domains.market.quotes.status import FeedStatus
    from lakehouse.ingest.unoffered import Unoffered


class SafeConsole(Console):
    """A console that escapes control characters: texts can't move the cursor, change colours or reorder letters."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterator[Segment]:
        """Renders with control characters escaped."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(printable(segment.text, keep="\n"), segment.style)


def print_status(console: Console, found: Status) -> None:
    """Prints the status of a source."""
    table = _facts()
    span = f" ({found.first_session} to {found.last_session})" if found.sessions_loaded else ""
    table.add_row("sessions loaded", f"{found.sessions_loaded:,}{span}")
    table.add_row("sessions missing", _listed([str(session) for session in found.missing]))
    table.add_row(
        "sessions incomplete", _listed([f"{session}: {', '.join(what)}" for session, what in found.incomplete.items()])
    )
    if found.ending_early:
        early = [f"{session}: {_first(symbols)}" for session, symbols in found.ending_early.items()]
        table.add_row("sessions ending early", _listed(early))
    table.add_row("objects", ", ".join(f"{count:,} {name}" for name, count in sorted(found.objects.items())) or "none")
    if found.rebuild_due:
        count = f"{found.rebuild_due:,} {'object holds' if found.rebuild_due == 1 else 'objects hold'}"
        table.add_row(
            "rebuild due", f"{count} an older version than was loaded last: run lakehouse rebuild {found.source}"
        )
    if found.read_otherwise:
        count = f"{found.read_otherwise:,} {'object was' if found.read_otherwise == 1 else 'objects were'}"
        table.add_row("reload due", f"{count} read by other settings: run lakehouse reload {found.source}")
    table.add_row("objects skipped", _listed([str(entry) for entry in found.skipped]))
    if found.empty_sessions:
        table.add_row(
            "sessions empty", _listed([f"{session}: no row in any object" for session in found.empty_sessions])
        )
    several = len(found.rows_received) > 1
    received = [f"{rows:,}" + (f" of {name}" if several else "") for name, rows in found.rows_received.items()]
    table.add_row("rows received", ", ".join(received) or "0")
    for refused in found.refusals.values():
        table.add_row("rows refused", escape(str(refused)))
    # One vendor's errors about many objects differ only in the objects' names.
    failed = [str(entry["object"]) for entry in found.failed_objects]
    table.add_row("failed objects", _listed(failed))
    if failed:
        table.add_row("", escape(f"the first: {found.failed_objects[0]['error']}"))
    if found.unoffered:
        table.add_row("not offered", _listed(_months_before(found.unoffered)))
    table.add_row("quarantine", _refused(found.quarantine, "last_object"))
    _print_facts(console, found.source, table)


def print_source_status(console: Console, found: SourceStatus) -> None:
    """Prints the status of a source without sessions."""
    table = _facts()
    for what, text in found.notes.items():
        table.add_row(what, escape(text))
    if found.objects is not None:
        table.add_row("objects", ", ".join(f"{count:,} {name}" for name, count in found.objects.items()) or "none")
    if found.read_otherwise:
        count = f"{found.read_otherwise:,} {'object was' if found.read_otherwise == 1 else 'objects were'}"
        table.add_row("reload due", f"{count} read by other settings: run lakehouse reload {found.source}")
    if found.objects is not None:
        table.add_row("rows received", f"{found.rows_received:,}")
    if found.skipped:
        table.add_row("objects skipped", _listed([str(entry) for entry in found.skipped]))
    if found.failed_objects:
        table.add_row("failed objects", _listed([str(entry["object"]) for entry in found.failed_objects]))
        table.add_row("", escape(f"the first: {found.failed_objects[0]['error']}"))
    table.add_row("quarantine", _refused(found.quarantine, "last_object"))
    _print_facts(console, found.source, table)


def print_feed_status(console: Console, found: FeedStatus) -> None:
    """Prints the status of a feed."""
    table = _facts()
    span = f" of {len(found.days):,} days ({found.days[0]} to {found.days[-1]})" if found.days else ""
    table.add_row("quotes stored", f"{found.quotes:,}{span}")
    moments = {
        "newest quote": found.newest_quote,
        "last commit": found.last_commit,
        "windows closed": found.closed_through,
    }
    for what, moment in moments.items():
        table.add_row(what, f"{moment:%Y-%m-%d %H:%M:%S} UTC" if moment else "none yet")
    table.add_row("without an answer", _listed([f"{polls:,}  {symbol}" for symbol, polls in found.unanswered.items()]))
    table.add_row("quarantine", _refused(found.quarantine, "last_session"))
    _print_facts(console, found.source, table)


def _facts() -> Table:
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    table.add_column(style="bold")
    table.add_column()
    return table


def _print_facts(console: Console, source: str, table: Table) -> None:
    console.rule(f"[bold]{source}", align="left")
    console.print(table)


def _refused(quarantine: list[dict[str, object]], last: str) -> str:
    return _listed([f"{entry['rows']:,}  {entry['reason']} (last: {entry[last]})" for entry in quarantine])


def _months_before(requests: list[Unoffered]) -> list[str]:
    """One line a subject: which months the vendor refused, and the first of its reasons."""
    lines = []
    for subject in sorted({each.subject for each in requests}):
        own = sorted((each for each in requests if each.subject == subject), key=lambda each: each.month)
        count = "1 month" if len(own) == 1 else f"{len(own):,} months"
        lines.append(f"{subject}: {count} up to {own[-1].month:%Y-%m}, before the vendor's data begin ({own[0].error})")
    return lines


def _first(names: list[str], shown: int = 5) -> str:
    more = f" and {len(names) - shown:,} more" if len(names) > shown else ""
    return f"{', '.join(names[:shown])}{more}"


def _listed(entries: list[str], shown: int = 12) -> str:
    if not entries:
        return "none"
    more = [f"... and {len(entries) - shown} more"] if len(entries) > shown else []
    return escape("\n".join(entries[:shown] + more))
