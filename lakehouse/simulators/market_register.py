"""A register of markets, as the authority of ISO 10383 publishes it: a CSV a month, in one of two styles of
headings, with or without a byte order mark.

It knows what is true at each publication. Rows change without a new date of the last update, as they do in the real
register.
"""

from __future__ import annotations

import csv
import io
import random
from copy import deepcopy
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

HEADINGS = (
    "MIC",
    "OPERATING MIC",
    "OPRT/SGMT",
    "MARKET NAME-INSTITUTION DESCRIPTION",
    "LEGAL ENTITY NAME",
    "LEI",
    "MARKET CATEGORY CODE",
    "ACRONYM",
    "ISO COUNTRY CODE (ISO 3166)",
    "CITY",
    "WEBSITE",
    "STATUS",
    "CREATION DATE",
    "LAST UPDATE DATE",
    "LAST VALIDATION DATE",
    "EXPIRY DATE",
    "COMMENTS",
)
_COUNTRIES = ("DE", "US", "NA", "GB", "ZZ")
"""NA is Namibia, and no missing value; ZZ is no country."""


@dataclass
class MarketRegister:
    """The register: the rows that are true now, and those of each publication."""

    folder: Path
    rows: dict[str, dict[str, str]] = field(default_factory=dict)
    published: dict[date, dict[str, dict[str, str]]] = field(default_factory=dict)

    def add(self, mic: str, day: date, *, operator: str | None = None, lei: str = "", name: str | None = None) -> None:
        """Adds a market: a segment, if it has an operator."""
        row = dict.fromkeys(HEADINGS, "")
        row |= {"MIC": mic, "OPERATING MIC": operator or mic, "OPRT/SGMT": "SGMT" if operator else "OPRT", "LEI": lei}
        row |= {"MARKET NAME-INSTITUTION DESCRIPTION": name or f"MARKET {mic}", "MARKET CATEGORY CODE": "NSPD"}
        row |= {"ISO COUNTRY CODE (ISO 3166)": _COUNTRIES[len(self.rows) % len(_COUNTRIES)], "CITY": "A, TOWN"}
        row |= {"STATUS": "ACTIVE", "CREATION DATE": f"{day:%Y%m%d}", "LAST UPDATE DATE": f"{day:%Y%m%d}"}
        self.rows[mic] = row

    def change(self, mic: str, **values: str) -> None:
        """Changes a market; heading -> value, with `_` for the signs between its words. Dates stay what they are."""
        for name, value in values.items():
            (heading,) = [each for each in HEADINGS if _underscored(each) == name]
            self.rows[mic][heading] = value

    def change_at_random(self, day: date, chance: random.Random) -> None:
        """A month's changes: something new, something renamed, updated, expired or gone."""
        number = len(self.published)
        self.add(f"N{number:03d}", day)
        for mic in chance.sample(sorted(self.rows), min(3, len(self.rows))):
            match chance.randrange(4):
                case 0:
                    self.change(mic, MARKET_NAME_INSTITUTION_DESCRIPTION=f"RENAMED {number}")
                case 1:
                    self.change(mic, STATUS="UPDATED", LAST_UPDATE_DATE=f"{day:%Y%m%d}")
                case 2:
                    self.change(mic, STATUS="EXPIRED", EXPIRY_DATE=f"{day:%Y%m%d}")
                case _:
                    if not any(row["OPERATING MIC"] == mic != row["MIC"] for row in self.rows.values()):
                        del self.rows[mic]

    def publish(self, day: date) -> None:
        """Makes what is true now the publication of a day."""
        self.published[day] = deepcopy(self.rows)

    def write(self, day: date, *, underscored: bool = False, marked: bool = False) -> Path:
        """Writes the publication of a day.

        Args:
            underscored: with headings such as OPERATING_MIC.
            marked: with a byte order mark.
        """
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\r\n" if underscored else "\n")
        writer.writerow([_underscored(heading) if underscored else heading for heading in HEADINGS])
        writer.writerows([row[heading] for heading in HEADINGS] for row in self.published[day].values())
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / f"ISO10383_MIC_{day}.csv"
        path.write_bytes(text.getvalue().encode("utf-8-sig" if marked else "utf-8"))
        return path


def _underscored(heading: str) -> str:
    return heading.partition(" (")[0].replace(" ", "_").replace("/", "_").replace("-", "_")
