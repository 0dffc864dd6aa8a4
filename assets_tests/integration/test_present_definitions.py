"""A process that starts several runs makes the definitions once, and again when what they are made of changes."""

from __future__ import annotations

import pytest

from lakehouse.local_dagster.present_definitions import present_definitions


def test_present_definitions__are_made_again_when_a_source_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    first = present_definitions()
    assert present_definitions() is first
    monkeypatch.setenv("LAKEHOUSE_ALPHA_VANTAGE_SYMBOLS", "ONE,TWO")
    second = present_definitions()
    assert second is not first
    assert present_definitions() is second
