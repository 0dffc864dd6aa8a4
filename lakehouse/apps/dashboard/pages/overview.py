"""The first page: what is stored, and what needs attention."""

from __future__ import annotations

from datetime import UTC, datetime

from lakehouse.api import Lake
from lakehouse.apps.dashboard.answer import Answer, Asked
from lakehouse.apps.dashboard.pages import movers
from lakehouse.apps.dashboard.pages.checks import counted
from lakehouse.apps.dashboard.pages.coverage import covered_sources
from lakehouse.apps.dashboard.pages.freshness import freshness
from lakehouse.apps.dashboard.reading import age, mart_rows, marts, rows
from lakehouse.derive.held_back import holds
from lakehouse.domains.market.bars.coverage import State
from lakehouse.domains.market.bars.status import publication_of
from lakehouse.governance.quality import checked_runs, states
from lakehouse.lake.releases import release_in_use

_MOVERS = 5
_GRAVE = (State.failed, State.missing, State.incomplete)


def make(lake: Lake, asked: Asked) -> Answer:
    """The page `/`."""
    now = datetime.now(UTC)
    stored = freshness(lake, now)
    if not stored:
        return Answer("empty.html", {"uri": lake.uri})
    published, checks = publication_of(lake), states(checked_runs(lake, newest=1))
    covered = [
        {
            "source": source.name,
            "venue": source.config.venue.name,
            "sessions": len(sessions),
            "last": sessions[-1].session,
            "faults": {state.value: sum(each.state is state for each in sessions) for state in _GRAVE},
            "recent": sessions[-40:],
        }
        for source, sessions in covered_sources(lake)
        if sessions
    ]
    refused = rows(lake, "SELECT count(*) AS rows, count(DISTINCT source) AS sources FROM lake.quarantine")[0]
    return Answer(
        "overview.html",
        {
            "published": published,
            "published_age": age(published.at, now),
            "release": release_in_use(lake.config),
            "counts": counted(checks),
            "attention": [state for state in checks if not state.newest.passed][:6],
            "covered": covered,
            "refused": refused,
            "stored": stored,
            "rows": sum(each.rows for each in stored),
            "late": [each for each in stored if each.is_late],
            "held": [str(hold) for hold in holds(lake)],
            "movers": _movers(lake),
            "now": now,
        },
    )


def _movers(lake: Lake) -> dict[str, object] | None:
    """The highest gains and losses of the newest session."""
    if "daily_movers" not in marts(lake):
        return None
    newest = mart_rows(
        lake,
        "SELECT source, max(session) AS session FROM marts.daily_movers GROUP BY source ORDER BY session DESC, source "
        "LIMIT 1",
    )
    if not newest:
        return None
    source, session = newest[0]["source"], newest[0]["session"]
    found = movers.of_session(lake, source, str(session), _MOVERS)
    gains = [each for each in found if each["gain_rank"] <= _MOVERS and each["change"] > 0]
    losses = sorted(
        (each for each in found if each["loss_rank"] <= _MOVERS and each["change"] < 0),
        key=lambda each: each["loss_rank"],
    )
    return {"source": source, "session": session, "gains": gains, "losses": losses}
