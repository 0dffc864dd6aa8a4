"""The functions that come with Lakehouse. What they compute on columns are Polars expressions, which the modules
`averages`, `momentum` and `returns` have; a variant is part of a function's name.
"""

from lakehouse.analyses.functions import charts, indicators, series, trading

SHIPPED = [*series.TASKS, *indicators.TASKS, *trading.TASKS, *charts.TASKS]
