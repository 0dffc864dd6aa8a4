"""The analysis of four tasks whose results are known, and tasks that misbehave. Child processes import them, too."""

from __future__ import annotations

from typing import Any

import polars as pl

from lakehouse.analyses import Tasks

TASKS = Tasks()


@TASKS.task("four.f")
def f() -> int:
    """2."""
    return 2


@TASKS.task("four.g")
def g(a: int) -> int:
    """a + 4."""
    return a + 4


@TASKS.task("four.h")
def h(a: int, b: int, x: float = 0.5, xx: int = 1, **kw: Any) -> tuple[float, int]:
    """(a + b) x, and a + b."""
    return (a + b) * x, a + b


@TASKS.task("four.delete")
def delete(store: dict[str, Any]) -> None:
    """Deletes c11."""
    del store["c11"]


@TASKS.task("four.for_ever")
def for_ever() -> None:
    """Never ends."""
    while True:
        pass


@TASKS.task("four.hoard")
def hoard() -> list[bytearray]:
    """Takes all memory."""
    kept = []
    while True:
        kept.append(bytearray(b"x" * 2**24))


@TASKS.task("four.fail")
def fail(a: int) -> None:
    """Fails."""
    raise RuntimeError(f"no luck with {a}")


ROWS: list[list[Any]] = [
    [0, "four.f", [], {}, "a"],
    [1, "four.g", "a", None, ["b"]],
    [2, "four.h", ["a", "b"], {"x": 0.75}, ["c11", "c12"]],
    [2, "four.h", ("a", "b"), {"z": "z"}, ["c1", "c2"]],
]
RESULTS = {"a": 2, "b": 6, "c11": 6.0, "c12": 8, "c1": 4.0, "c2": 8}


@TASKS.task("four.centered")
def centered(series: pl.DataFrame) -> pl.DataFrame:
    """An average that takes values of later days."""
    return series.with_columns(pl.col("value").rolling_mean(5, center=True))
