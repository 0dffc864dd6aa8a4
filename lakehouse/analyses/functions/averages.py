"""Moving averages as Polars expressions. A result is NULL until its window is full."""

from __future__ import annotations

import polars as pl


def simple(values: pl.Expr, window: int) -> pl.Expr:
    """The mean of the last `window` values."""
    return values.rolling_mean(window)


def seeded(values: pl.Expr, window: int, alpha: float, skip: int = 0) -> pl.Expr:
    """Exponential smoothing that begins with the mean of the first `window` values, after `skip` ones, as TA-Lib's.
    NULLs at the beginning don't count.
    """
    place = values.is_not_null().cum_sum()
    seed = values.drop_nulls().slice(skip, window).mean()
    begun = pl.when(place < skip + window).then(None).when(place == skip + window).then(seed).otherwise(values)
    return begun.ewm_mean(alpha=alpha, adjust=False, ignore_nulls=True)


def exponential_seeded(values: pl.Expr, window: int, skip: int = 0) -> pl.Expr:
    """The exponential average with the factor 2 / (window + 1), which begins with a simple one."""
    return seeded(values, window, 2 / (window + 1), skip)


def exponential_from_first(values: pl.Expr, window: int) -> pl.Expr:
    """The same, which begins with the first value; so there is no warm-up without values."""
    return values.ewm_mean(alpha=2 / (window + 1), adjust=False, ignore_nulls=True)


def sign_of_difference(one: pl.Expr, other: pl.Expr) -> pl.Expr:
    """1, 0 or -1; differences of at most 1e-9 of the other count as 0."""
    difference = one - other
    equal = difference.abs() <= 1e-9 * other.abs()
    return pl.when(equal).then(0).otherwise(difference.sign().cast(pl.Int64))
