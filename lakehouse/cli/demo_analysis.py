"""The demo's analysis: the crossover of two moving averages of a share that the simulated vendor has."""

from __future__ import annotations

from dataclasses import replace
from datetime import date

from rich.console import Console

from lakehouse.analyses.exploring import variants
from lakehouse.api import Lake

ANALYSIS = "demo_crossover"


def play_analysis(console: Console, source: str, symbol: str, first: date, last: date) -> None:
    """Stores the crossover on a source's official daily prices, runs it for a symbol, and prints its last signal."""
    analyses = Lake.present().analyses
    inputs = {"ticker": symbol, "start": first.isoformat(), "end": last.isoformat()}
    known = analyses.get("sma_crossover")
    (on_source,) = variants(known, {}, {"data.table": [f"{source}.official_daily"]})
    definition = replace(on_source.definition, name=ANALYSIS, inputs={**known.inputs, **inputs})
    analyses.add(definition)
    outputs = analyses.run(definition).run.outputs
    signal, prices = outputs["crossSMA"]["figures"], outputs["priceSliced"]["figures"]
    console.print(
        f"\n[bold]{ANALYSIS}[/]: {prices['rows']:,} closes of {symbol} to {prices['last']}; the last signal of their "
        f"averages of 15 and 50 days is {signal['last_value']:+d}",
        highlight=False,
    )
