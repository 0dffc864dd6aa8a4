"""A vendor's answers from files that it once gave: what a real vendor said, damage included, said again.

Files only; invented data belongs in `us_market`.
"""

from __future__ import annotations

import gzip
import re
from datetime import date, datetime, timedelta
from functools import cache, lru_cache
from glob import escape
from pathlib import Path

_MOMENT = re.compile(r"(\d{4}-\d\d)-\d\d \d\d:\d\d:\d\d")
_DAY = re.compile(r"\d{4}-\d\d-\d\d")
_REGULAR = ("09:30:00", "15:59:00")


class ServedFiles:
    """The content of a folder of Alpha Vantage files; a vendor for `vendor_api.VendorApi`.

    The folder holds `intraday_1min/intraday_1min_<symbol>.csv.gz` and `daily_adjusted/DA-<symbol>-T-*.csv.gz` (or
    `DA-<symbol>-T-*.csv`). Every line is served as it stands, in the month whose timestamp it carries, but for the
    timestamps of minutes: the files stamp a bar's end, as the vendor did then, and it stamps the start today. A line
    without a timestamp, as the vendor's error at the end of a file, comes with the oldest month. Prices are
    adjusted as of the files' download: there is no answer to `adjusted=false`.

    Args:
        folder: where the files are.
        until: the last day of the daily series, as in a download on that day; its adjusted closes stay those of the
            file's own download.

    Raises:
        FileNotFoundError: if there is no such folder.
    """

    line_end = "\n"

    def __init__(self, folder: Path, until: date | None = None) -> None:
        if not folder.is_dir():
            raise FileNotFoundError(f"No folder of vendor files at {folder}: name one that has intraday_1min/ in it.")
        self._folder = folder
        self._until = until
        self._months = lru_cache(maxsize=None)(self._split_by_month)

    @property
    def symbols(self) -> tuple[str, ...]:
        """The symbols that have a file of one-minute bars."""
        files = (self._folder / "intraday_1min").glob("intraday_1min_*.csv.gz")
        return tuple(sorted(file.name.removeprefix("intraday_1min_").removesuffix(".csv.gz") for file in files))

    def intraday(self, symbol: str, month: str, adjusted: bool, extended: bool, now: datetime) -> list[str] | None:
        """See `vendor_answers.Content`; `now` changes nothing."""
        if not adjusted or symbol not in self.symbols:
            return None
        header, months = self._months(symbol)
        lines = months.get(month, [])
        return [header, *(line for line in lines if extended or _is_regular(line))]

    def daily(self, symbol: str, now: datetime) -> list[str] | None:
        """See `vendor_answers.Content`; `now` changes nothing. A file that is only an error is served as it stands."""
        files = sorted((self._folder / "daily_adjusted").glob(f"DA-{escape(symbol)}-T-*.csv*"))
        if not files:
            return None
        header, *lines = _lines(files[-1])
        days = [(match[0] if (match := _DAY.match(line)) else "", line) for line in lines]
        if self._until:
            days = [(day, line) for day, line in days if day <= self._until.isoformat()]
        # The files are oldest first, the vendor's answers newest first.
        newest_first = sorted(days, key=lambda pair: pair[0], reverse=True)
        return [header, *(line for _, line in newest_first)]

    def _split_by_month(self, symbol: str) -> tuple[str, dict[str, list[str]]]:
        header, *lines = _lines(self._folder / "intraday_1min" / f"intraday_1min_{symbol}.csv.gz")
        months: dict[str, list[str]] = {}
        undated = []
        for line in lines:
            if match := _MOMENT.search(line):
                months.setdefault(match[1], []).append(line.replace(match[0], _minute_before(match[0])))
            else:
                undated.append(line)
        if months:
            months[min(months)] += undated
        return header, months


@cache
def _minute_before(moment: str) -> str:
    return str(datetime.fromisoformat(moment) - timedelta(minutes=1))


def _lines(path: Path) -> list[str]:
    body = path.read_bytes()
    text = (gzip.decompress(body) if path.suffix == ".gz" else body).decode()
    return text.removesuffix("\n").split("\n")


def _is_regular(line: str) -> bool:
    match = _MOMENT.search(line)
    return match is None or _REGULAR[0] <= match[0][11:] <= _REGULAR[1]
