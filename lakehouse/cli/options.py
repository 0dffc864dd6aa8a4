"""Arguments and options that several commands have."""

from __future__ import annotations

from datetime import date, datetime
from typing import Annotated

import typer

SourceArgument = Annotated[str, typer.Argument(help="Name of the source, such as xetra.")]
FeedArgument = Annotated[str | None, typer.Argument(help="Name of the feed; the only one by default.")]


def day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(f"'{text}' is not a date; write it as 2017-06-20") from None


def moment(text: str) -> datetime:
    from lakehouse.lake.sql import parse_moment

    try:
        return parse_moment(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


AsOfOption = Annotated[
    datetime | None,
    typer.Option(
        "--as-of",
        parser=moment,
        metavar="TIMESTAMP",
        help="Answer with what the lake knew then (UTC unless an offset is given).",
    ),
]
