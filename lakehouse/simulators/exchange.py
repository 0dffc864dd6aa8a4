"""A simulated exchange that publishes Xetra-format hourly bar files, with the dirt of the real feed.

The market is in `market_model`, the files' format in `bar_files`, the dirt in `dirt`; here they become
objects, in the stages in which a vendor publishes them, and the `truth` about them. The same arguments give
the same bytes.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from lakehouse.simulators.bar_files import (
    VendorObject,
    file_bytes,
    object_name,
    publication_time,
    write_objects,
)
from lakehouse.simulators.dirt import (
    BAR_KEY,
    erroneous_version,
    system_test_bars,
    technical_bars,
    unwanted_rows,
)
from lakehouse.simulators.market_model import Listing, day_minute, in_currency_units, simulate_market
from lakehouse.simulators.truth import STAGES, CorrectedBar, DirtyRow, ObjectTruth, RowCounts, Stage, Truth

_DELAY = {"late": timedelta(hours=6), "repaired": timedelta(hours=7), "corrected": timedelta(hours=8)}
_FEWEST_BARS_TO_SPOIL = 6


class Exchange:
    """A vendor's feed of one-minute bars over some sessions.

    Args:
        sessions: (session, open_at, close_at) of each trading day, ascending, moments in UTC.
        seed: the same seed and arguments give the same bytes.
        instruments: how many ISINs; one of them is quoted in two currencies.
        dirt: without it the feed has traded bars alone (and still its split and renamed instruments). A feed
            of few bars has as much dirt as there is room for.
        compress: publish `.csv.gz` objects, else `.csv`.

    Raises:
        ValueError: without a session or an instrument, or with sessions out of order.
    """

    def __init__(
        self,
        sessions: Sequence[tuple[date, datetime, datetime]],
        seed: int = 1,
        instruments: int = 100,
        dirt: bool = True,
        compress: bool = True,
    ) -> None:
        self.market = simulate_market(seed, sessions, instruments)
        self._compress = compress
        self._name = partial(object_name, compress=compress)
        days = [session.session for session in self.market.sessions]
        first_hour = day_minute(days[0]) // 60
        self._hours = range(first_hour, first_hour + 24 * ((days[-1] - days[0]).days + 1))

        bars = self.market.bars
        rng = np.random.default_rng([seed, 1])
        self._test_day = _day_off(days) if dirt else None
        if dirt:
            bars = pl.concat([bars, technical_bars(self.market, rng)])
        if self._test_day:
            bars = pl.concat([bars, system_test_bars(self.market, self._test_day, rng)])
        self._bars = bars.sort(BAR_KEY).with_columns(hour=pl.col("minute") // 60)
        self._lines = self._render(self._bars)
        self._first_lines = dict(self._lines)

        traded = self._bars.filter(pl.col("volume") > 0).group_by("hour").len().sort("hour")
        busy = traded.filter(pl.col("len") >= _FEWEST_BARS_TO_SPOIL)["hour"].to_list() if dirt else []
        # An object published in two versions has no other dirt, so that the stages' counts simply add up.
        sites = [busy[index] for index in rng.permutation(len(busy))]
        self._late: int | None = sites.pop() if len(sites) > 3 else None
        self._damaged: int | None = sites.pop() if self._late is not None else None
        self._corrected, self._uncorrected_bars, self._corrections = None, None, []
        for hour in sites:
            version = erroneous_version(self._bars.filter(pl.col("hour") == hour), rng)
            if version:
                sites.remove(hour)
                self._corrected = hour
                self._uncorrected_bars, self._corrections = version[0].sort(BAR_KEY), version[1]
                self._first_lines |= self._render(self._uncorrected_bars)
                break
        self._dirty_rows = self._insert(unwanted_rows(self._lines, sites, rng))
        self.truth = self._tell()

    def objects(self, stage: Stage = "first") -> Iterator[VendorObject]:
        """What the vendor publishes at a stage, in the order of publication.

        "first": every hour of every day from the first session to the last, one object damaged, one missing.
        "late": the missing one. "repaired": the damaged one, whole. "corrected": a new version of a sound
        one. The later stages are published hours after the last object of the first.
        """
        empty = file_bytes([], self._compress)
        for hour, lines in self._published(stage):
            body = file_bytes(lines, self._compress) if lines else empty
            if stage == "first" and hour == self._damaged:
                # Half of a gzip stream; of plain text a piece of the header, since more would look sound.
                body = body[: len(body) // 2 if self._compress else 60]
            regular = publication_time(hour if stage == "first" else self._hours[-1])
            yield VendorObject(self._name(hour), body, regular + _DELAY.get(stage, timedelta()))

    def write(self, folder: Path, stage: Stage = "first") -> list[Path]:
        """Write a stage's objects below `folder`, replacing older versions.

        A file's modification time is its object's publication.

        Raises:
            OSError: if the folder can't be written.
        """
        return write_objects(folder, self.objects(stage))

    def _published(self, stage: Stage) -> list[tuple[int, list[str]]]:
        if stage == "first":
            return [(hour, self._first_lines.get(hour, [])) for hour in self._hours if hour != self._late]
        hour = {"late": self._late, "repaired": self._damaged, "corrected": self._corrected}[stage]
        return [] if hour is None else [(hour, self._lines[hour])]

    def _render(self, bars: pl.DataFrame) -> dict[int, list[str]]:
        """The lines of each hour's object, for bars ordered by minute and listing, as the vendor does."""
        prices = [in_currency_units(bars[name]) for name in ("open", "high", "low", "close")]
        clocks = bars.select(pl.col("minute").unique(maintain_order=True)).with_columns(
            clock=(pl.col("minute") * 60_000_000).cast(pl.Datetime("us")).dt.strftime("%Y-%m-%d,%H:%M")
        )
        lines = (
            bars.with_columns(price.cast(pl.String).str.strip_suffix(".0") for price in prices)
            .join(clocks, on="minute", how="left", maintain_order="left")
            .join_asof(self._identities(), on="minute", by="listing", check_sortedness=False)
            .select(
                pl.col("minute") // 60,
                line=pl.concat_str(
                    "identity", "clock", "open", "high", "low", "close", "volume", "trades", separator=","
                ),
            )
        )
        hours, starts = np.unique(lines["minute"].to_numpy(), return_index=True)
        texts = lines["line"].to_list()
        ends = [*starts[1:].tolist(), len(texts)]
        return {int(hour): texts[start:end] for hour, start, end in zip(hours, starts, ends, strict=True)}

    def _identities(self) -> pl.DataFrame:
        """The first six columns of each listing's rows as text, with the minute from which they read so."""
        rows = []
        for index, listing in enumerate(self.market.listings):
            rows.append((index, 0, _identity(listing)))
            for rename in sorted(self.market.renames, key=lambda rename: rename.first_session):
                if (rename.isin, rename.currency) == (listing.isin, listing.currency):
                    renamed: dict[str, Any] = {rename.field: rename.new}
                    listing = replace(listing, **renamed)
                    rows.append((index, day_minute(rename.first_session), _identity(listing)))
        return pl.DataFrame(rows, schema={"listing": pl.Int64, "minute": pl.Int64, "identity": pl.String}, orient="row")

    def _insert(self, inserts: list[tuple[int, int, str, str]]) -> tuple[DirtyRow, ...]:
        by_hour = defaultdict(list)
        for hour, place, kind, text in inserts:
            by_hour[hour].append((place, kind, text))
        dirty_rows = []
        for hour, rows in sorted(by_hour.items()):
            lines = list(self._first_lines[hour])
            for shift, (place, kind, text) in enumerate(sorted(rows)):
                lines.insert(place + shift, text)
                dirty_rows.append(DirtyRow(self._name(hour), place + shift + 1, kind, text))
            self._first_lines[hour] = lines
        return tuple(dirty_rows)

    def _bars_after(self, stages: Sequence[Stage]) -> pl.DataFrame:
        bars = self._bars
        absent = [self._late] * ("late" not in stages) + [self._damaged] * ("repaired" not in stages)
        if self._uncorrected_bars is not None and "corrected" not in stages:
            bars = pl.concat([bars.filter(pl.col("hour") != self._corrected), self._uncorrected_bars])
        names = pl.DataFrame(
            [(index, listing.isin, listing.currency) for index, listing in enumerate(self.market.listings)],
            schema={"listing": pl.Int64, "isin": pl.String, "currency": pl.String},
            orient="row",
        )
        absent_hours = [missing for missing in absent if missing is not None]
        return bars.filter(pl.col("session").is_not_null(), ~pl.col("hour").is_in(absent_hours)).join(
            names, on="listing"
        )

    def _tell(self) -> Truth:
        kinds = Counter(row.kind for row in self._dirty_rows)
        duplicates = kinds.pop("duplicate", 0)
        faulty = Counter(row.object for row in self._dirty_rows if row.kind != "duplicate")
        test_rows = self._bars.filter(pl.col("session").is_null())["hour"].to_list()
        faulty.update(self._name(hour) for hour in test_rows)
        if test_rows:
            kinds["not_a_session"] = len(test_rows)

        objects, counts = [], {}
        kept_first = self._bars_after(("first",)).height
        for stage in STAGES:
            for hour, lines in self._published(stage):
                name = self._name(hour)
                if stage == "first" and hour == self._damaged:
                    objects.append(ObjectTruth(name, stage, "failed", 0, 0))
                else:
                    objects.append(ObjectTruth(name, stage, "loaded" if lines else "empty", len(lines), faulty[name]))
            received = sum(item.received for item in objects if item.stage == stage)
            kept = kept_first if stage == "first" else self._bars_after(("first", stage)).height - kept_first
            counts[stage] = RowCounts(received=received, kept=kept)
        counts["first"] = replace(counts["first"], duplicates=duplicates, quarantined=dict(sorted(kinds.items())))
        corrections = Counter(kind for kind, _, _ in self._corrections)
        counts["corrected"] = replace(
            counts["corrected"],
            # Both versions contain the bars that the correction doesn't change.
            duplicates=counts["corrected"].received - corrections["changed"] - corrections["added"],
            superseded=corrections["changed"] + corrections["withdrawn"],
        )
        late, damaged, corrected = (
            None if hour is None else self._name(hour) for hour in (self._late, self._damaged, self._corrected)
        )
        return Truth(
            test_day=self._test_day,
            late_object=late,
            damaged_object=damaged,
            corrected_object=corrected,
            zero_volume_bars=self._bars.filter(pl.col("session").is_not_null(), pl.col("volume") == 0).height,
            dirty_rows=self._dirty_rows,
            corrected_bars=tuple(
                CorrectedBar(
                    corrected or "",
                    kind,
                    self.market.listings[listing].isin,
                    self.market.listings[listing].currency,
                    datetime.fromtimestamp(minute * 60, UTC),
                )
                for kind, minute, listing in self._corrections
            ),
            splits=self.market.splits,
            renames=self.market.renames,
            objects=tuple(objects),
            counts_of=counts,
            bars_after=self._bars_after,
        )


def _identity(listing: Listing) -> str:
    texts = listing.isin, listing.mnemonic, listing.description, listing.security_type, listing.currency
    return ",".join([*(f'"{text}"' for text in texts), str(listing.security_id)])


def _day_off(days: Sequence[date]) -> date | None:
    """A day without a session between the first session and the last, a Saturday if there is one."""
    between = [days[0] + timedelta(days=count) for count in range((days[-1] - days[0]).days)]
    off = [day for day in between if day not in set(days)]
    return next((day for day in off if day.weekday() == 5), off[0] if off else None)
