"""`lakehouse init`: a source of one's own from a sample of its files."""

from __future__ import annotations

import re
import shlex
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lakehouse.cli.explained import console, explained
from lakehouse.cli.next_steps import try_next
from lakehouse.errors import SourceError

if TYPE_CHECKING:
    from lakehouse.domains.market.guess.guess import Guess, Sample
    from lakehouse.domains.market.guess.markets import Market

_NAME = re.compile(r"[a-z][a-z0-9_]*")
_OF_ANSWERS = ("http", "https", "ws", "wss")
_FOR_ANSWERS = """\
{place} answers requests, and init describes files. Begin with the vendor whose answers are most alike, and edit the \
defs.yaml that it makes:
  lakehouse vendors add tiingo             bars as CSV, a request for each symbol and month
  lakehouse vendors add alpaca             bars as JSON, page by page, with keys in headers
  lakehouse vendors add coinbase           bars as JSON, in one page
  lakehouse vendors add finnhub            quotes as JSON, a request for each symbol
`lakehouse check NAME` then says what is wrong, without a request to the vendor. Files that were downloaded from it \
can be described by init"""


def init(
    name: Annotated[str, typer.Argument(help="Name of the new source, such as acme.")],
    place: Annotated[
        str,
        typer.Option("--from", metavar="FILE_OR_URL", help="A file, a folder, or a bucket such as s3://vendor/bars."),
    ],
    market: Annotated[
        str | None,
        typer.Option("--market", metavar="MIC", help="Where the bars were made, such as XLON, XNYS or 24/7."),
    ] = None,
    to: Annotated[
        Path | None,
        typer.Option("--to", help="Folder of sources (default: LAKEHOUSE_DEFS, else lakehouse/defs/market)."),
    ] = None,
) -> None:
    """Write the defs.yaml of a new source from a sample of its files, with what the sample doesn't tell.

    It guesses format, columns, times, zone and units, and reads the sample by them. Nothing is loaded.
    """
    from lakehouse.catalog import new_defs_folder
    from lakehouse.domains.market.guess.draft import draft

    with explained():
        target = (to / name if to else new_defs_folder(name)) / "defs.yaml"
        _require_new(name, target)
        sample = _sample(place)
        chosen = _as_described(_market(market, sample))
        found = _guess(name, sample, chosen)
        command = f"lakehouse init {name} --from {shlex.quote(place)} --market {chosen.code}"
        _write(target, draft(found, command))
    console.print(f"{name} is described by {target}", highlight=False, markup=False, soft_wrap=True)
    if found.doubts:
        console.print("The sample doesn't tell:", highlight=False)
    for doubt in found.doubts:
        console.print(f"  - {doubt}", highlight=False, markup=False, soft_wrap=True)
    try_next(f"check {name}")


def _require_new(name: str, target: Path) -> None:
    from lakehouse.catalog import descriptions

    if _NAME.fullmatch(name) is None:
        raise SourceError(f"{name!r} can't be a source's name: write it in lower case, as acme or acme_5min")
    if target.exists():
        raise SourceError(f"{target} exists; it may have been edited, so it is not replaced. Remove it first")
    if name in descriptions().files:
        raise SourceError(f"{descriptions().files[name]} describes a source {name!r}; choose another name")


def _sample(place: str) -> Sample:
    """The objects below a place; of a file or a bucket's object, it alone."""
    from lakehouse.domains.market.guess.guess import sample_of
    from lakehouse.ingest.object_store import objects_at
    from lakehouse.urls import scheme_of, without_password

    url = place
    if scheme_of(place) in _OF_ANSWERS:
        raise SourceError(_FOR_ANSWERS.format(place=without_password(place.split("?")[0])))
    if scheme_of(place) is None:
        path = Path(place).expanduser().absolute()
        url = str(path)
        if path.is_file():
            return sample_of(str(path.parent), objects_at(str(path.parent))).only(path.name)
    sample = sample_of(url, objects_at(url))
    above, _, name = url.rstrip("/").rpartition("/")
    if not sample.rows and scheme_of(above) is not None and not above.endswith("/"):
        sample = sample_of(above, objects_at(above)).only(name)
    if not sample.rows:
        raise SourceError(f"{place} has no objects; name a folder or bucket with the vendor's files, or one of them")
    return sample


def _market(code: str | None, sample: Sample) -> Market:
    from lakehouse.domains.market.guess.markets import market_in, market_of, markets

    if code is not None:
        return market_of(code)
    found = market_in(sample.names)
    if found is None:
        known = ", ".join(markets())
        raise SourceError(
            "it is not known which market the bars are of: add --market with its code, which is one of "
            f"{known}, or a calendar of exchange_calendars, such as 24/7 for crypto currencies"
        )
    return found


def _as_described(market: Market) -> Market:
    """The market with the name that the first source of it has: the marts show one row per MIC."""
    from lakehouse.catalog import descriptions
    from lakehouse.domains.market.bars.config import SourceConfig

    for _, (_, config) in sorted(descriptions().found.items()):
        if isinstance(config, SourceConfig) and config.venue.mic == market.mic:
            return replace(market, name=config.venue.name)
    return market


def _guess(name: str, sample: Sample, market: Market) -> Guess:
    from lakehouse.domains.market.guess.guess import guess
    from lakehouse.settings import settings

    with console.status("reading the sample"):
        return guess(name, sample, market, settings())


def _write(target: Path, text: str) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        with target.open("x") as file:
            file.write(text)
    except FileExistsError:
        raise SourceError(f"{target} exists; it may have been edited, so it is not replaced. Remove it first") from None
