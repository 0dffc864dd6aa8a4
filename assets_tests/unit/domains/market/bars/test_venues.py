"""Sources that describe one venue: whether they agree, and what both YAMLs are told if they don't."""

from __future__ import annotations

from typing import Any

from lakehouse.catalog import source_named
from lakehouse.components import MarketSource
from lakehouse.domains.market.bars.config import Calendar, SourceConfig
from lakehouse.domains.market.bars.venues import contradictions, venue_check

XETRA = source_named("xetra").config


def described(source: str, calendar: object = None, **venue: object) -> SourceConfig:
    entries: dict[str, Any] = {"source": source, "venue": XETRA.venue.model_copy(update=venue)}
    if calendar is not None:
        entries["calendar"] = Calendar.model_validate(calendar)
    return XETRA.model_copy(update=entries)


def test_contradictions__are_between_sources_of_one_mic() -> None:
    sources = {"xetra": XETRA, "same": described("same"), "other": described("other", mic="XFRA", name="Frankfurt")}
    assert contradictions("xetra", sources) == {}
    assert contradictions("other", sources) == {}


def test_contradictions__are_told_to_both() -> None:
    sources = {
        "xetra": XETRA,
        "bourse": described("bourse", name="XETRA", time_zone="UTC"),
        "crypto": described("crypto", calendar={"code": "XETR", "closed": ["2024-01-02"]}),
    }
    told = contradictions("xetra", sources)
    assert told == {
        "bourse": "XETR differently: name 'Xetra' and 'XETRA', time_zone 'Europe/Berlin' and 'UTC'. The marts show "
        "what bourse says",
        "crypto": "XETR differently: calendar {'code': 'XETR'} and {'code': 'XETR', 'closed': ['2024-01-02']}. The "
        "marts show what bourse says",
    }
    assert contradictions("bourse", dict(reversed(sources.items())))["xetra"] == (
        "XETR differently: name 'XETRA' and 'Xetra', time_zone 'UTC' and 'Europe/Berlin'. The marts show what bourse "
        "says"
    )


def test_venue_check__names_both_files() -> None:
    sources = {"xetra": XETRA, "bourse": described("bourse", country="LU")}
    check = venue_check("bars", sources, {"xetra": "xetra/defs.yaml", "bourse": "bourse/defs.yaml"})
    finding = check.run(None, source_named("xetra"), None)
    assert not finding.passed
    assert finding.summary.startswith("xetra/defs.yaml and bourse/defs.yaml describe XETR differently: country 'DE'")
    assert check.severity == "warn"


def test_every_shipped_source_agrees_with_the_others() -> None:
    for name in ("alpha_vantage", "binance", "wiki", "xetra"):
        source = MarketSource(source_named(name).config).resolve()
        (check,) = (check for check in source.checks if check.name == "venue_agrees")
        assert check.run(None, source, None).passed
