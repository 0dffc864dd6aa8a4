"""What a run of the terminal says of itself."""

from __future__ import annotations

import io
from datetime import UTC, datetime

import dagster as dg
from rich.console import Console

from lakehouse.derive.held_back import Hold
from lakehouse.errors import SourceError
from lakehouse.local_dagster.backfill import Outcome, _add, show_outcome


def test_outcome__tells_an_error_without_the_name_of_its_class() -> None:
    @dg.op
    def failing() -> None:
        raise SourceError("/x/defs.yaml: its type is missing", "Set it")

    @dg.job
    def some_job() -> None:
        failing()

    outcome = Outcome("run", False, 1, {}, ("daily bars", 0))
    _add(outcome, some_job.execute_in_process(raise_on_error=False))
    assert outcome.error == "/x/defs.yaml: its type is missing. Set it"


def test_outcome__of_a_source_that_is_held_back_is_not_sound() -> None:
    """Its run ended well over other sessions, and nothing of it is published."""
    outcome = Outcome("run", True, 1, {"received": 2}, ("daily bars", 1))
    assert outcome.is_sound
    since = datetime(2024, 3, 1, 12, tzinfo=UTC)
    outcome.held.append(Hold("xetra", "daily_bars", "contract", None, "1 rule is broken", since))
    assert not outcome.is_sound
    text = io.StringIO()
    show_outcome(Console(file=text, width=200), outcome)
    assert "held back  xetra since 2024-03-01 12:00:00 UTC, daily_bars: contract: 1 rule is broken" in text.getvalue()
