"""What the checks found: the newest result of each, and the runs before it."""

from __future__ import annotations

from dataclasses import dataclass

from markupsafe import Markup

from lakehouse.api import Lake
from lakehouse.apps.dashboard.answer import Answer, Asked
from lakehouse.catalog import domains_by_kind
from lakehouse.catalog import sources as sources_described
from lakehouse.governance.quality import CheckedRun, CheckState, checked_runs, states
from lakehouse.printable import printable

RUNS = 30
"""The newest runs of each table that are shown."""
_CELL = 9
_STRIP = Markup('<svg class="strip" width="{0}" height="14" viewBox="0 0 {0} 14" role="img" aria-label="{1}">{2}</svg>')


@dataclass(frozen=True)
class Checked:
    """A check with the strip of its runs."""

    state: CheckState
    strip: Markup


def make(lake: Lake, asked: Asked) -> Answer:
    """The page `/checks?source=xetra&show=all`."""
    runs = checked_runs(lake, newest=RUNS)
    sources = sorted({run.source for run in runs})
    source = asked.chosen("source", sources)
    show = asked.chosen("show", ["all", "attention"], "all")
    wanted = [run for run in runs if source in (None, run.source)]
    found = states(wanted)
    shown = [state for state in found if show == "all" or not state.newest.passed]
    return Answer(
        "checks.html",
        {
            "sources": sources,
            "source": source,
            "show": show,
            "counts": counted(found),
            "total": len(found),
            "by_table": _by_table(wanted, shown),
            "runs": RUNS,
        },
    )


def counted(found: list[CheckState]) -> dict[str, int]:
    """Outcome -> checks whose newest result it is."""
    counts = dict.fromkeys(("failed", "warned", "passed"), 0)
    for state in found:
        counts[state.newest.outcome] += 1
    return counts


def checks_of(lake: Lake, domain: str) -> list[CheckState]:
    """The newest results of the checks of a domain's sources."""
    domains = domains_by_kind()
    of_domain = [source.name for source in sources_described().values() if domains[source.kind] == domain]
    return states([run for source in of_domain for run in checked_runs(lake, source, newest=1)])


def _by_table(runs: list[CheckedRun], shown: list[CheckState]) -> dict[str, list[Checked]]:
    """Table -> its checks, tables with the gravest first."""
    order: dict[tuple[str, str], list[str]] = {}
    of_check: dict[tuple[str, str, str], dict[str, CheckedRun]] = {}
    for run in runs:
        order.setdefault((run.source, run.table), []).append(run.run_id)
        of_check.setdefault((run.source, run.table, run.check), {})[run.run_id] = run
    found: dict[str, list[Checked]] = {}
    for state in shown:
        newest = state.newest
        in_order = list(dict.fromkeys(order[newest.source, newest.table]))[-RUNS:]
        own = of_check[newest.source, newest.table, newest.check]
        found.setdefault(f"{newest.source}.{newest.table}", []).append(
            Checked(state, _strip([own.get(run_id) for run_id in in_order]))
        )
    return found


def _strip(runs: list[CheckedRun | None]) -> Markup:
    """A square for each run, the newest at the right."""
    cells = []
    for place, run in enumerate(runs):
        hint = "not evaluated" if run is None else f"{run.at:%Y-%m-%d %H:%M} {run.outcome}: {run.summary}"
        cells.append(
            Markup('<rect class="{}" x="{}" y="0" width="{}" height="14" rx="2"><title>{}</title></rect>').format(
                "absent" if run is None else run.outcome, place * _CELL, _CELL - 2, printable(hint)
            )
        )
    width = max(len(runs), 1) * _CELL
    return _STRIP.format(width, f"the last {len(runs)} runs", Markup("").join(cells))
