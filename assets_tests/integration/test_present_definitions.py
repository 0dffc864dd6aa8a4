"""A process that starts several runs makes the definitions once, and again when what they are made of changes."""

from __future__ import annotations

import pytest

from lakehouse.definitions import defs, present_definitions
from lakehouse.settings import settings


def test_present_definitions__are_made_again_when_a_source_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    first = present_definitions()
    assert present_definitions() is first
    monkeypatch.setenv("LAKEHOUSE_ALPHA_VANTAGE_SYMBOLS", "ONE,TWO")
    second = present_definitions()
    assert second is not first
    assert present_definitions() is second


def test_present_definitions__are_kept_while_settings_have_the_same_values(monkeypatch: pytest.MonkeyPatch) -> None:
    first = present_definitions()
    settings.cache_clear()
    assert present_definitions() is first
    monkeypatch.setenv("LAKEHOUSE_HOME", str(settings().home / "another"))
    settings.cache_clear()
    assert present_definitions() is not first


def test_definitions__without_types_of_components_are_the_same() -> None:
    shown, own = defs().get_repository_def(), present_definitions().get_repository_def()
    assert own.asset_graph.get_all_asset_keys() == shown.asset_graph.get_all_asset_keys()
    assert own.asset_graph.asset_check_keys == shown.asset_graph.asset_check_keys
    assert set(own.job_names) == set(shown.job_names)
    assert {each.name for each in own.sensor_defs} == {each.name for each in shown.sensor_defs}
    assert {each.name for each in own.schedule_defs} == {each.name for each in shown.schedule_defs}
