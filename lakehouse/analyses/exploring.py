"""Runs variants of an analysis, and stores none of them: sweeps over inputs and keywords, and a check against
look-ahead.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from itertools import product
from typing import TYPE_CHECKING, Any

from lakehouse.analyses.limited import Outcome, Request
from lakehouse.analyses.spec import AnalysisError, Definition
from lakehouse.analyses.values import kind_of
from lakehouse.errors import did_you_mean

if TYPE_CHECKING:
    import polars as pl

MAX_VARIANTS = 500
_EQUITY = "trade.equity"
_FACTORS = (0.1, 10.0)
"""What the prices of the last day are multiplied by, to see whether its positions depend on them."""


@dataclass(frozen=True)
class Variant:
    """An analysis with other inputs or keywords: what was chosen, the rows, and the inputs."""

    chosen: Mapping[str, Any]
    definition: Definition
    inputs: Mapping[str, Any]


def variants(definition: Definition, inputs: Mapping[str, Any], over: Mapping[str, Sequence[Any]]) -> list[Variant]:
    """The variants for all combinations of values.

    Args:
        over: an input, or `key.keyword` for a keyword of the task that makes the key -> its values.

    Raises:
        AnalysisError: there is no such input or task, or there are too many combinations.
    """
    known = dict.fromkeys([*definition.inputs, *definition.input_keys])
    for name in over:
        key = name.partition(".")[0]
        choices = definition.output_keys if "." in name else known
        if key not in choices:
            raise AnalysisError(
                f"{definition.name} has no {'output' if '.' in name else 'input'} '{key}'{did_you_mean(key, choices)}; "
                "write an input, or key.keyword such as longSMA.window"
            )
    combinations = list(product(*over.values()))
    if len(combinations) > MAX_VARIANTS:
        raise AnalysisError(f"these are {len(combinations):,} combinations; at most {MAX_VARIANTS} are run")
    return [_variant(definition, inputs, dict(zip(over, values, strict=True))) for values in combinations]


def _variant(definition: Definition, inputs: Mapping[str, Any], chosen: Mapping[str, Any]) -> Variant:
    rows = list(definition.rows)
    for name, value in chosen.items():
        key, _, keyword = name.partition(".")
        if keyword:
            place = next(place for place, row in enumerate(rows) if key in row.output_keys)
            rows[place] = replace(rows[place], kwargs={**rows[place].kwargs, keyword: value})
    given = {name: value for name, value in chosen.items() if "." not in name}
    return Variant(chosen, replace(definition, rows=tuple(rows)), {**inputs, **given})


def sweep_row(variant: Variant, outcome: Outcome) -> dict[str, Any]:
    """A line of a sweep's table: what was chosen, the numbers that came out, else the last values of the series."""
    numbers = {key: about["value"] for key, about in outcome.figures.items() if _is_number(about.get("value"))}
    lasts = {key: about["last_value"] for key, about in outcome.figures.items() if "last_value" in about}
    return {**variant.chosen, **(numbers or lasts), "error": outcome.error}


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def shortened(request: Request, whole: Outcome, cuts: int = 3) -> list[Request]:
    """The same run on data that end earlier; the last of each three runs as it is, the others with the prices of the
    last day multiplied.
    """
    dates = _dates(whole)
    days = [dates[len(dates) * number // (cuts + 1)] for number in range(1, cuts + 1)] if dates else []
    return [
        replace(request, until=day, scale_last=factor) for day in dict.fromkeys(days) for factor in (*_FACTORS, None)
    ]


def _dates(outcome: Outcome) -> list[date]:
    """The dates of the shortest series with values."""
    found = [
        value.drop_nulls("value")["date"].to_list() for value in outcome.made.values() if kind_of(value) == "series"
    ]
    return min((dates for dates in found if dates), key=len, default=[])


def look_ahead(whole: Outcome, cut: Sequence[tuple[Request, Outcome]]) -> Iterator[str]:
    """What depends on later data: values that change when later rows are left out, and positions that change with the
    prices of their own day.
    """
    definition = cut[0][0].definition if cut else None
    positions = {
        row.input_keys[1]
        for row in (definition.rows if definition else ())
        if row.func_path.partition("@")[0].removeprefix("practice.") == _EQUITY and len(row.input_keys) > 1
    }
    found: dict[str, str] = {}
    plain: Outcome | None = None
    for request, outcome in reversed(cut):
        day = request.until
        if request.scale_last is None:
            plain = outcome
            for key, value in outcome.made.items():
                if kind_of(value) == "series" and (changed := _first_change(whole.made[key], value)):
                    found.setdefault(
                        key, f"{key} looks ahead: its value of {changed} is another when the data end on {day}"
                    )
            continue
        for key in sorted(positions & outcome.made.keys()):
            if plain is not None and key in plain.made and _last(plain.made[key]) != _last(outcome.made[key]):
                found.setdefault(
                    key, f"{key} looks ahead: the position of {day} depends on that day's prices; lag its signal by 1"
                )
    yield from found.values()


def _first_change(whole: pl.DataFrame, cut: pl.DataFrame) -> date | None:
    """The first date of the shorter series with another value than in the whole one."""
    import polars as pl

    both = cut.join(whole, on="date", how="left", suffix="_whole")
    differs = both.filter(~pl.col("value").eq_missing(pl.col("value_whole")))
    return min(differs["date"], default=None)


def _last(series: pl.DataFrame) -> Any:
    return series["value"][-1] if series.height else None
