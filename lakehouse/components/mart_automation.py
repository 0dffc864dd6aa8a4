"""When the marts are published by themselves."""

from __future__ import annotations

import dagster as dg

from lakehouse.components.mart_specs import live_inputs
from lakehouse.warehouse.parts import Part


def automation_of(part: Part) -> dg.AutomationCondition:
    """Manually materialized sessions reach the marts too, once their blocking checks have run. A source whose
    checks failed doesn't trigger a publication and keeps its published rows, while those of other sources are
    published. Sessions and sources that were never loaded don't delay it.
    """
    live = live_inputs(part)
    if live:
        ignored = dg.AssetSelection.assets(*live)
        return (
            dg.AutomationCondition.any_deps_updated().ignore(ignored).since_last_handled()
            & ~dg.AutomationCondition.any_deps_in_progress().ignore(ignored)
            & ~dg.AutomationCondition.in_progress()
        ).with_label("news of days that are over")
    passed = dg.AutomationCondition.all_checks_match(
        dg.AutomationCondition.check_passed() | dg.AutomationCondition.will_be_requested(), blocking_only=True
    )
    failed = dg.AutomationCondition.any_checks_match(dg.AutomationCondition.check_failed(), blocking_only=True)
    loaded = ~dg.AutomationCondition.missing()
    own_run = dg.AutomationCondition.executed_with_root_target()
    updated = (dg.AutomationCondition.newly_updated() & ~own_run) | dg.AutomationCondition.will_be_requested()
    # The marts' own tests run inside the run that builds them: only the lake's checks can hold it back.
    marts = dg.AssetSelection.groups(part.group)
    sound_news = dg.AutomationCondition.any_deps_match(loaded & passed & (updated | passed.newly_true()))
    news = sound_news.ignore(marts) | dg.AutomationCondition.any_deps_updated().allow(marts)
    unchecked = dg.AutomationCondition.any_deps_match(loaded & ~passed & ~failed).ignore(marts)
    return (
        news.since_last_handled()
        & ~unchecked
        & ~dg.AutomationCondition.any_deps_in_progress()
        & ~dg.AutomationCondition.in_progress()
    ).with_label("news of the lake")
