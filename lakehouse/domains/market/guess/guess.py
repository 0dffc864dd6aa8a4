"""Guesses what a source of bars delivers, from the names of its objects and the first rows of some of them.

What is ambiguous in the text (the time zone, which end of a bar a time is, day and month) is decided by reading the
sample as a load would, once for each possibility: the right one has the first and the last bar of a session at the
calendar's hours. The guess becomes a `defs.yaml` in `draft`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from io import BytesIO
from math import gcd
from typing import IO, TYPE_CHECKING, Any

from lakehouse.domains.market.bars.config import SourceConfig
from lakehouse.domains.market.bars.derive import session_hours
from lakehouse.domains.market.bars.judge import label_votes, looks_minor, median_price
from lakehouse.domains.market.bars.resolve import bar_source
from lakehouse.domains.market.bars.source import BarSource
from lakehouse.domains.market.guess.columns import Columns, guess_columns, is_currency, is_isin, letters
from lakehouse.domains.market.guess.markets import Market
from lakehouse.domains.market.guess.names import NamePattern, data_names, guess_names, without_date
from lakehouse.domains.market.minor_units import minor_unit
from lakehouse.ingest.discover import version_of
from lakehouse.ingest.listing import Listing
from lakehouse.ingest.object_source import ObjectSource
from lakehouse.ingest.rehearsal import ReadObject, read_first
from lakehouse.ingest.row_format import RowTime
from lakehouse.ingest.shape import EPOCH, Shape, renamed, shape_of
from lakehouse.ingest.times import WITH_OFFSET, moments
from lakehouse.ingest.unpacked import CorruptObject
from lakehouse.ingest.variables import Variables

if TYPE_CHECKING:
    import polars as pl

_SAMPLE = 8
_ZONES = (
    *("UTC", "America/New_York", "America/Chicago", "Europe/London", "Europe/Berlin"),
    *("Europe/Athens", "Asia/Tokyo", "Asia/Hong_Kong", "Asia/Kolkata", "Australia/Sydney"),
)
"""Zones that vendors' clocks are usually in, besides the venue's."""
_INTERVALS = (1, 5, 10, 15, 20, 30, *(60 * each for each in (1, 2, 3, 5, 10, 15, 20, 30, 60, 120, 240)), 86_400)
"""Usual lengths of bars, in seconds."""
_NANO_FROM = 1e9
_MOST_ROWS = 20_000
"""Of an object; it is read a dozen times."""


@dataclass(frozen=True)
class Sample:
    """The objects that are looked at.

    Args:
        url: of their place.
        names: of all objects there.
        rows: the listing's rows of the objects that are read.
        store: the place.
    """

    url: str
    names: Sequence[str]
    rows: Sequence[Mapping[str, Any]]
    store: ObjectSource

    def only(self, name: str) -> Sample:
        """One object of the sample's place."""
        listed = self.store.list().objects
        rows = [row for row in listed.iter_rows(named=True) if row["name"] == name]
        return Sample(self.url, [name], rows, self.store)


@dataclass(frozen=True)
class Guess:
    """What was guessed of a source, as the entries of its defs.yaml.

    Args:
        reasons: entry -> why it has its value.
        doubts: what couldn't be told.
        shown: the first lines of a sample.
    """

    attributes: dict[str, Any]
    reasons: dict[str, str] = field(default_factory=dict)
    doubts: tuple[str, ...] = ()
    shown: tuple[str, ...] = ()
    shown_of: str = ""


def sample_of(url: str, store: ObjectSource) -> Sample:
    """Lists a place and chooses objects that are spread over its names.

    Raises:
        SourceUnavailable: the place can't be listed.
    """
    listed = store.list().objects.sort("name")
    names = listed["name"].to_list()
    chosen = data_names(names)
    count = min(_SAMPLE, len(chosen))
    spread = {chosen[place * (len(chosen) - 1) // max(1, count - 1)] for place in range(count)}
    rows = [row for row in listed.iter_rows(named=True) if row["name"] in spread]
    return Sample(url, names, rows, _Kept(store))


@dataclass
class _Kept(ObjectSource):
    """A place whose objects are fetched once."""

    place: ObjectSource
    content: dict[str, bytes] = field(default_factory=dict)

    def list(self, prefix: str = "") -> Listing:
        return self.place.list(prefix)

    def can_read(self, path: str) -> bool:
        return self.place.can_read(path)

    def holds(self, path: str, tag: str | None) -> bool:
        return self.place.holds(path, tag)

    def fetch(self, path: str, tag: str | None) -> IO[bytes]:
        if path not in self.content:
            with self.place.fetch(path, tag) as file:
                self.content[path] = file.read()
        return BytesIO(self.content[path])


def guess(name: str, sample: Sample, market: Market, variables: Variables) -> Guess:
    """Guesses the entries of a source of that name.

    Raises:
        CorruptObject: the sample has no rows that can be read.
        SourceUnavailable: its objects can't be fetched.
    """
    shown_of, shape = _shape(sample)
    columns = guess_columns(shape)
    if not shape.has_header:
        shape, columns = _with_names(shape, columns)
    names = guess_names(sample.names, needs_symbol=not {"symbol", "instrument_id"} & columns.roles.keys())
    (interval, why_interval), days = _interval(shape, columns), _days(shape, columns)
    if len(days) > 2 and names.holds == "day":
        names = without_date(sample.names, names)
    doubts = [*columns.doubts]
    if interval == "1d":
        doubts.append(
            "whether this is the vendor's official daily series, with dividends and splits: then describe it as "
            "`official_daily` instead of `bars`; the defs.yaml of the source wiki is one to begin with"
        )
    bars = _bars(name, sample, shape, columns, names, interval, doubts)
    first, why_first = _first_session(sample, names, days)
    attributes = {
        "source": name,
        "description": f"Bars of {interval} from {market.name}",
        "venue": {
            "mic": market.mic,
            "name": market.name,
            "country": market.country,
            "time_zone": market.time_zone,
            "currency": market.currency,
        },
        "calendar": market.calendar,
        "first_session": first,
        **_of_identifiers(shape, columns),
        "bars": bars,
    }
    reasons = {
        "first_session": why_first,
        "interval": why_interval,
        "pattern": f"{len(sample.names) - len(names.others):,} of {len(sample.names):,} names match",
    }
    chosen = Guess(attributes, reasons, (), shown=_lines(shape), shown_of=shown_of)
    if columns.time and not any(str(each).startswith("TODO") for each in bars["columns"].values()):
        chosen = _decided(chosen, sample, columns, market, variables, doubts)
    else:
        doubts.append("the zone of the times and which end of a bar they are: `time.zone` and `time.label`")
    if names.others:
        some = ", ".join(names.others[:3])
        doubts.append(f"what these are, which match no pattern: {some}; name them in `objects.ignore` if you know them")
    if columns.unused:
        doubts.append(f"what these columns are good for; they are left out: {', '.join(columns.unused)}")
    doubts.append("whether prices are adjusted for splits and dividends: they are taken as traded")
    return replace(chosen, doubts=tuple(doubts))


def _shape(sample: Sample) -> tuple[str, Shape]:
    """The shape of the newest object that has rows."""
    error: CorruptObject | None = None
    for row in reversed(sample.rows):
        try:
            with sample.store.fetch(row["path"], row["tag"]) as file:
                return row["name"], shape_of(row["path"], file)
        except CorruptObject as damage:
            error = error or damage
    raise error or CorruptObject(f"{sample.url} has no object that could be looked at")


def _with_names(shape: Shape, columns: Columns) -> tuple[Shape, Columns]:
    """The columns of an object without a header, named after what they are."""
    known = {column: role for role, column in columns.roles.items()}
    clock = ("date", "time") if len(columns.time) == 2 else ("time",)
    known |= dict(zip(columns.time, clock, strict=False))
    made = renamed(shape, [known.get(column, column) for column in shape.rows.columns])
    roles = {role: known[column] for role, column in columns.roles.items()}
    return made, replace(columns, roles=roles, time=tuple(known[column] for column in columns.time))


def _moments(shape: Shape, columns: Columns) -> pl.DataFrame:
    """series and label of the sample's rows, on the clock of the text."""
    import polars as pl

    key = [columns.roles[role] for role in ("instrument_id", "symbol") if role in columns.roles]
    text = shape.rows.with_columns(object_number=pl.lit(0))
    time = RowTime(columns=columns.time, format=columns.formats[0])
    series = pl.concat_str(key).fill_null("") if key else pl.lit("")
    return text.with_columns(series=series).select("series").hstack(moments(text, time, [])).drop_nulls("label")


def _interval(shape: Shape, columns: Columns) -> tuple[str, str]:
    """The length of a bar, by the distances of the rows of an instrument, and how it was found."""
    import polars as pl

    if not columns.formats:
        return "1min", "TODO: the length of a bar"
    if not _has_clock(columns.formats[0]):
        return "1d", "the times are dates"
    gaps = pl.col("label").sort().diff().over("series", mapping_strategy="explode").dt.total_seconds()
    steps = _moments(shape, columns).select(step=gaps)["step"].drop_nulls()
    counts = steps.filter(steps > 0).value_counts(sort=True)
    if counts.is_empty():
        return "1min", "TODO: the sample has one bar of each instrument"
    usual = counts.filter(pl.col("count") * 100 >= pl.col("count").max())["step"].to_list()
    common = gcd(*(int(step) for step in usual))
    length = max(each for each in _INTERVALS if common % each == 0)
    why = "the most frequent distance of two rows" if length == counts["step"][0] else "it divides the rows' distances"
    for unit, seconds in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if length % seconds == 0:
            return f"{length // seconds}{unit}", why
    return f"{length}s", why


def _has_clock(form: str) -> bool:
    return form == EPOCH or "%H" in form or "%I" in form


def _days(shape: Shape, columns: Columns) -> list[date]:
    """The days of the sample's rows."""
    if not columns.formats:
        return []
    return sorted(_moments(shape, columns)["label"].dt.date().unique().to_list())


def _first_session(sample: Sample, names: NamePattern, days: Sequence[date]) -> tuple[date, str]:
    found = [named.first_day for name in sample.names if (named := names.objects.parse_name(name))]
    if names.holds != "history" and found:
        return min(found), "the earliest day in the objects' names"
    if days:
        return days[0].replace(month=1, day=1), "the year in which the sample begins; rows before are refused"
    return date(2000, 1, 1), "TODO: the first day of the data"


def _bars(
    name: str,
    sample: Sample,
    shape: Shape,
    columns: Columns,
    names: NamePattern,
    interval: str,
    doubts: list[str],
) -> dict[str, Any]:
    form = shape.form
    objects: dict[str, Any] = {"url": sample.url, "pattern": names.pattern}
    if names.date_format:
        objects["date_format"] = names.date_format
    objects["holds"] = names.holds
    bars: dict[str, Any] = {"objects": objects, "format": form.format}
    if form.format == "json":
        bars["records"] = form.records
    if form.format == "csv":
        bars["delimiter"] = form.delimiter
    if form.encoding not in ("utf-8", "utf-16", "utf-32"):
        bars["encoding"] = form.encoding
    if form.header is not None:
        bars["header"] = list(form.header)
    if form.decimal == ",":
        bars["decimal"] = ","
    if len(form.nulls) > 1:
        bars["nulls"] = list(form.nulls)
    bars["time"] = {"columns": list(columns.time) or ["TODO"], "format": (*columns.formats, "%Y-%m-%d %H:%M")[0]}
    if not columns.time:
        doubts.append("which column has the time: `time.columns` and `time.format`")
    bars["interval"] = interval
    if "volume" not in columns.roles:
        bars["volume"] = "none"
        doubts.append("which column is the volume; without one every bar counts as traded")
    prices = ("open", "high", "low", "close")
    order = ("instrument_id", "symbol", "vendor_id", "name", "currency", *prices, "volume", "trades", "vwap")
    roles = dict(columns.roles)
    if "symbol" in roles:
        roles.setdefault("instrument_id", roles["symbol"])
    for price in prices:
        roles.setdefault(price, f"TODO_{price}")
    bars["columns"] = {role: roles[role] for role in order if role in roles}
    if "instrument_id" not in roles:
        if names.has_symbol:
            bars["named"] = {"instrument_id": "symbol", "symbol": "symbol"}
        else:
            bars["constants"] = {"instrument_id": name.upper(), "symbol": name.upper()}
            doubts.append("what the instrument is: neither a column nor the objects' names say it")
    return bars


def _of_identifiers(shape: Shape, columns: Columns) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if (column := columns.roles.get("instrument_id")) and is_isin(shape.texts(column)):
        found["identifier"] = "isin"
    if (column := columns.roles.get("currency")) and not all(is_currency(text) for text in shape.texts(column)):
        found["currencies"] = sorted(shape.texts(column))
    return found


def _lines(shape: Shape) -> tuple[str, ...]:
    """The header and two rows, as far as they are lines of text."""
    if shape.form.format != "csv":
        return ()
    names = [shape.form.delimiter.join(shape.rows.columns)] if shape.has_header else []
    rows = shape.rows.head(2).fill_null("").iter_rows()
    return (*names, *(shape.form.delimiter.join(row) for row in rows))


@dataclass(frozen=True)
class _Reading:
    """The sample, read by one of the possible times."""

    time: dict[str, str]
    read: Sequence[ReadObject]
    rows: pl.DataFrame
    votes: Mapping[str, int]
    regular: float

    @property
    def score(self) -> tuple[float, int, float]:
        """The share of rows that are accepted, how well the hours fit, and the share of the regular segment."""
        received = sum(each.received for each in self.read)
        kept = round(self.rows.height / received, 2) if received else 0.0
        return kept, self.votes["fit"] - max(self.votes["early"], self.votes["late"]), round(self.regular, 2)


def _decided(
    found: Guess, sample: Sample, columns: Columns, market: Market, variables: Variables, doubts: list[str]
) -> Guess:
    """Chooses the format, zone and label by which the sample fits the market's hours, and the unit of its prices."""
    reader = _Reader(found.attributes, sample, columns, variables)
    around_the_clock = market.calendar.startswith("24/")
    readings = _readings(reader, columns.formats, market.time_zone, around_the_clock)
    best = max(readings, key=lambda each: each.score)
    attributes = _timed(found.attributes, best.time)
    alike = [each for each in readings if each.score == best.score and each is not best]
    reasons = dict(found.reasons)
    if around_the_clock:
        reasons["time"] = "zone and label are usual ones: a market around the clock has no hours that show them"
        doubts.append("which end of a bar a time is, and its zone: look at `time`")
    elif best.votes["fit"] >= 2:
        reasons["time"] = f"by this zone and label, first and last bars are at the hours of {market.calendar}"
    else:
        reasons["time"] = f"TODO: first and last bars don't show the hours of {market.calendar}"
        doubts.append("the zone of the times and which end of a bar they are: look at `time.zone` and `time.label`")
    for entry in ("format", "zone", "label"):
        others = sorted({each.time.get(entry, "UTC") for each in alike} - {best.time.get(entry, "UTC")})
        if others and best.votes["fit"] >= 2:
            doubts.append(f"`time.{entry}`: {', '.join(others)} would fit the sample as well")
    typical = median_price(best.rows)
    if typical is not None and typical >= _NANO_FROM:
        _set_price_unit(attributes, 1e-9)
        reasons["price_unit"] = "prices are whole numbers beyond a billion, as if they counted billionths"
    unit = minor_unit(market.mic)
    if unit is not None and "currency" not in columns.roles and looks_minor(best.rows):
        _set_price_unit(attributes, 0.01)
        reasons["price_unit"] = f"prices look like {unit.name}: a hundredth of {unit.currency}"
        doubts.append(f"whether prices are in {unit.name}, as they seem to be, or in {unit.currency}: `price_unit`")
    return replace(found, attributes=attributes, reasons=reasons)


def _readings(reader: _Reader, formats: Sequence[str], zone: str, around_the_clock: bool) -> list[_Reading]:
    """The sample by the formats, zones and labels that are worth a reading."""
    form = formats[0]
    readings = [reader.read(each, zone, "start") for each in formats[:2]] if len(formats) > 1 else []
    if readings:
        form = max(readings, key=lambda each: each.score[0]).time["format"]
        readings = [each for each in readings if each.score[0] == max(other.score[0] for other in readings)]
    is_utc = any(letters(column).startswith(("gmt", "utc")) for column in reader.columns.time)
    has_zone = form == EPOCH or WITH_OFFSET.search(form) is not None or is_utc
    if not _has_clock(form) or around_the_clock:
        # Every hour is one of the calendar's, so that the hours tell nothing.
        return readings or [reader.read(form, "UTC" if has_zone else zone, "start")]
    by_zone = [reader.read(form, each, "start") for each in dict.fromkeys(["UTC"] if has_zone else [zone, *_ZONES])]
    # Where starts are taken for ends, bars are late by one interval.
    likely = max((each.score[0], max(each.votes["fit"], each.votes["late"])) for each in by_zone)
    likeliest = [each for each in by_zone if (each.score[0], max(each.votes["fit"], each.votes["late"])) == likely]
    ends = [reader.read(form, each.time.get("zone", "UTC"), "end") for each in likeliest[:4]]
    return [*by_zone, *ends, *(each for each in readings if each.time["format"] != form)]


def _set_price_unit(attributes: dict[str, Any], unit: float) -> None:
    bars = attributes["bars"]
    last = {entry: bars.pop(entry) for entry in ("columns", "constants", "named") if entry in bars}
    attributes["bars"] = {**bars, "price_unit": unit, **last}


@dataclass(frozen=True)
class _Reader:
    """Reads the sample by a time's format, zone and label."""

    attributes: Mapping[str, Any]
    sample: Sample
    columns: Columns
    variables: Variables

    def read(self, form: str, zone: str, label: str) -> _Reading:
        import duckdb
        import polars as pl

        time = {"format": form, **({"zone": zone} if zone != "UTC" else {}), "label": label}
        source = bar_source(SourceConfig.model_validate(_timed(self.attributes, time)), self.variables)
        versions = (version_of(row, source.bars) for row in self.sample.rows)
        items = [item for item in versions if item is not None]
        with duckdb.connect() as connection:
            connection.execute("SET TimeZone = 'UTC'")
            read = read_first(
                self.sample.store, items, source.bars, connection, chosen=self._some_instruments, explain=False
            )
        frames = [each.rows for each in read if each.rows is not None]
        rows = pl.concat(frames) if frames else pl.DataFrame(schema=source.bars.contract.polars_schema)
        if rows.is_empty():
            return _Reading(time, read, rows, {"fit": 0, "early": 0, "late": 0}, 0.0)
        return _Reading(time, read, rows, label_votes(source, rows), _regular_share(source, rows))

    def _some_instruments(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Of many rows those of a few instruments, with the first and the last bars of their days."""
        import polars as pl

        column = next(
            (self.columns.roles[role] for role in ("symbol", "instrument_id") if role in self.columns.roles), ""
        )
        if rows.height <= _MOST_ROWS or not column:
            return rows.head(_MOST_ROWS)
        counts = rows[column].value_counts(sort=True)
        several = counts.filter(pl.col("count").cum_sum() <= _MOST_ROWS)[column]
        return rows.filter(pl.col(column).is_in((several if several.len() else counts[column].head(1)).implode()))


def _regular_share(source: BarSource, rows: pl.DataFrame) -> float:
    """The share of the volume, or of the bars, that is traded in the regular segment."""
    import polars as pl

    inside = rows.join(session_hours(source), on="session").filter(
        (pl.col("end_at") > pl.col("open_at")) & (pl.col("start_at") < pl.col("regular_end_at"))
    )
    weight = pl.col("volume").fill_null(1.0).sum()
    total = float(rows.select(weight).item())
    return float(inside.select(weight).item()) / total if total else 0.0


def _timed(attributes: Mapping[str, Any], time: Mapping[str, str]) -> dict[str, Any]:
    bars = attributes["bars"]
    return {**attributes, "bars": {**bars, "time": {"columns": bars["time"]["columns"], **time}}}
