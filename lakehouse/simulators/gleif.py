"""A publisher of legal entities, as GLEIF is: golden copies (three a day), files of changes beside them, and mappings
of ISIN and BIC, written to a folder under the names and headings that GLEIF gives them.

It knows what is true at each moment, so that tests can hold the lake against it. Faults are made on purpose: see
`renamed`, `truncated`, `doubled` and `as_html`.
"""

from __future__ import annotations

import csv
import io
import random
import zipfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from datetime import date, datetime
from pathlib import Path

_ADDRESS = ("City", "Region", "Country", "PostalCode")
ENTITY_COLUMNS = (
    "LEI",
    "Entity.LegalName",
    *(f"Entity.LegalAddress.{part}" for part in _ADDRESS),
    *(f"Entity.HeadquartersAddress.{part}" for part in _ADDRESS),
    "Entity.LegalJurisdiction",
    "Entity.EntityCategory",
    "Entity.LegalForm.EntityLegalFormCode",
    "Entity.EntityStatus",
    *(f"Entity.SuccessorEntity.{number}.SuccessorLEI" for number in range(1, 6)),
    *(
        f"Entity.LegalEntityEvents.LegalEntityEvent.{number}.LegalEntityEvent{what}"
        for number in range(1, 3)
        for what in ("Type", "EffectiveDate", "RecordedDate")
    ),
    "Registration.InitialRegistrationDate",
    "Registration.LastUpdateDate",
    "Registration.RegistrationStatus",
    "Registration.NextRenewalDate",
    "Registration.ManagingLOU",
)
RELATIONSHIP_COLUMNS = (
    "Relationship.StartNode.NodeID",
    "Relationship.EndNode.NodeID",
    "Relationship.RelationshipType",
    "Relationship.RelationshipStatus",
    *(f"Relationship.Period.{number}.{what}" for number in (1, 2) for what in ("startDate", "endDate", "periodType")),
    "Registration.RegistrationStatus",
    "Registration.LastUpdateDate",
)
EXCEPTION_COLUMNS = ("LEI", "Exception.Category", "Exception.Reason.1")
_KINDS: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "lei2": (ENTITY_COLUMNS, ("LEI",)),
    "rr": (RELATIONSHIP_COLUMNS, RELATIONSHIP_COLUMNS[:3]),
    "repex": (EXCEPTION_COLUMNS, EXCEPTION_COLUMNS[:2]),
}
"""File kind -> its headings, and those that identify a row."""
SPANS = {"intra-day": 8, "last-day": 24, "last-week": 7 * 24, "last-month": 31 * 24}
"""Kind of a file of changes -> the hours that it is about."""
_LETTERS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"

Row = dict[str, str]
Rows = dict[tuple[str, ...], Row]


def lei_of(number: int, issuer: str = "5299") -> str:
    """An LEI with valid check digits."""
    body = issuer + "00" + _in_base(number, 36).rjust(12, "0")
    return f"{body}{98 - int(''.join(str(int(sign, 36)) for sign in body + '00')) % 97:02d}"


def isin_of(number: int, country: str = "DE") -> str:
    """An ISIN with a valid check digit."""
    body = country + f"{number:09d}"
    digits = "".join(str(int(sign, 36)) for sign in body)
    doubled = [int(sign) * (2 if place % 2 == 0 else 1) for place, sign in enumerate(reversed(digits))]
    return f"{body}{-sum(value // 10 + value % 10 for value in doubled) % 10}"


def _in_base(number: int, base: int) -> str:
    return (_in_base(number // base, base) if number >= base else "") + _LETTERS[number % base]


@dataclass
class Gleif:
    """The publisher: what is true now, and what was at each golden copy.

    Args:
        folder: where it publishes.
        fillers: further columns in each golden copy; GLEIF's have some 300.
    """

    folder: Path
    fillers: int = 10
    rows: dict[str, Rows] = field(default_factory=lambda: {kind: {} for kind in _KINDS})
    pairs: dict[str, set[tuple[str, str]]] = field(default_factory=lambda: {"isin": set(), "bic": set()})
    states: dict[datetime, dict[str, Rows]] = field(default_factory=dict)

    def put_entity(self, number: int, name: str, updated: datetime, **further: str) -> str:
        """Adds or changes an entity. `further`: heading -> value, with `__` for its points."""
        lei = lei_of(number)
        row = dict.fromkeys(ENTITY_COLUMNS, "")
        row |= {"LEI": lei, "Entity.LegalName": name, "Entity.LegalAddress.Country": "DE"}
        row |= {"Entity.LegalAddress.City": "Frankfurt am Main", "Entity.HeadquartersAddress.Country": "DE"}
        row |= {"Entity.LegalJurisdiction": "DE", "Entity.EntityCategory": "GENERAL", "Entity.EntityStatus": "ACTIVE"}
        row |= {"Registration.RegistrationStatus": "ISSUED", "Registration.ManagingLOU": lei_of(1)}
        row |= {"Registration.InitialRegistrationDate": "2013-10-03T11:07:26+02:00"}
        row |= {"Registration.LastUpdateDate": updated.isoformat(), "Registration.NextRenewalDate": ""}
        row |= {heading.replace("__", "."): value for heading, value in further.items()}
        self.rows["lei2"][lei,] = row
        return lei

    def put_relationship(self, child: str, parent: str, kind: str, start: date, end: date | None = None) -> None:
        """Adds or changes a relationship; `kind` is DIRECTLY or ULTIMATELY."""
        said = f"IS_{kind}_CONSOLIDATED_BY"
        row = dict.fromkeys(RELATIONSHIP_COLUMNS, "")
        row |= {"Relationship.StartNode.NodeID": child, "Relationship.EndNode.NodeID": parent}
        row |= {"Relationship.RelationshipType": said, "Relationship.RelationshipStatus": "ACTIVE"}
        row |= {"Relationship.Period.1.periodType": "ACCOUNTING_PERIOD"}
        row |= {"Relationship.Period.1.startDate": f"{start.year}-01-01T00:00:00Z"}
        row |= {"Relationship.Period.2.periodType": "RELATIONSHIP_PERIOD"}
        row |= {"Relationship.Period.2.startDate": f"{start}T00:00:00Z"}
        row |= {"Relationship.Period.2.endDate": "" if end is None else f"{end}T00:00:00Z"}
        row |= {"Registration.RegistrationStatus": "PUBLISHED"}
        self.rows["rr"][child, parent, said] = row

    def put_exception(self, lei: str, category: str, reason: str) -> None:
        """Adds or changes a reporting exception."""
        self.rows["repex"][lei, category] = {"LEI": lei, "Exception.Category": category, "Exception.Reason.1": reason}

    def tick(self, moment: datetime) -> None:
        """Makes what is true now the state of a golden copy."""
        self.states[moment] = deepcopy(self.rows)

    def publish_full(self, moment: datetime, kinds: Iterable[str] = tuple(_KINDS)) -> list[Path]:
        """Writes the golden copy of a moment."""
        return [
            self._write(moment, kind, "golden-copy", self.states[moment][kind].values(), _KINDS[kind][0])
            for kind in kinds
        ]

    def publish_delta(self, moment: datetime, since: datetime, span: str = "intra-day") -> list[Path]:
        """Writes the changes from one golden copy to another; what is gone has a `DeletedAt`."""
        found = []
        for kind, (columns, _) in _KINDS.items():
            before, after = self.states[since][kind], self.states[moment][kind]
            changed = [row | {"DeletedAt": ""} for key, row in after.items() if before.get(key) != row]
            gone = [row | {"DeletedAt": moment.isoformat()} for key, row in before.items() if key not in after]
            found.append(self._write(moment, kind, span, [*changed, *gone], (*columns, "DeletedAt")))
        return found

    def publish_pairs(self, what: str, moment: datetime) -> Path:
        """Writes all pairs of ISIN or BIC with an LEI."""
        rows = sorted((lei, value) for value, lei in self.pairs[what])
        return self._zip(f"lei-{what}-{moment:%Y%m%dT%H%M%S}.csv", ("LEI", what.upper()), rows, ".zip")

    def _write(self, moment: datetime, kind: str, what: str, rows: Iterable[Row], columns: Sequence[str]) -> Path:
        fillers = [f"Extension.Filler.{number}" for number in range(self.fillers)]
        values = ([row.get(column, "") for column in columns] + [""] * len(fillers) for row in rows)
        name = f"{moment:%Y%m%d-%H%M}-gleif-goldencopy-{kind}-{what}.csv"
        return self._zip(name, (*columns, *fillers), values, ".zip")

    def _zip(self, name: str, columns: Sequence[str], rows: Iterable[Sequence[str]], suffix: str) -> Path:
        text = io.StringIO()
        writer = csv.writer(text, quoting=csv.QUOTE_ALL, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(rows)
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / f"{name}{suffix}"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
            archive.writestr(name, text.getvalue())
        return path

    def grow(self, count: int, updated: datetime, chance: random.Random) -> None:
        """Adds entities with ISINs and BICs, some of which are direct children of others."""
        start = len(self.rows["lei2"]) + 1
        for number in range(start, start + count):
            lei = self.put_entity(number, f"Company {number} SE", updated)
            self.pairs["isin"].add((isin_of(number), lei))
            if number % 3 == 0:
                self.pairs["bic"].add((f"{'ABCD'[number % 4] * 4}DE{number % 100:02d}XXX", lei))
            if number > 1 and number % 2 == 0:
                parent = lei_of(chance.randrange(1, number))
                self.put_relationship(lei, parent, "DIRECTLY", date(2015, 1, 1))
                self.put_relationship(lei, parent, "ULTIMATELY", date(2015, 1, 1))
            elif number > 1:
                self.put_exception(lei, "DIRECT_ACCOUNTING_CONSOLIDATION_PARENT", "NATURAL_PERSONS")


def _rewritten(path: Path, change: Callable[[str], str]) -> None:
    with zipfile.ZipFile(path) as archive:
        (name,) = archive.namelist()
        text = archive.read(name).decode()
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, change(text))


def renamed(path: Path, heading: str, other: str) -> None:
    """Gives a column of a published file another heading."""
    _rewritten(path, lambda text: text.replace(f'"{heading}"', f'"{other}"', 1))


def truncated(path: Path) -> None:
    """Cuts a published file in half."""
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def doubled(path: Path) -> None:
    """Puts a second CSV into a published zip."""
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("another.csv", "LEI\n")


def as_html(path: Path) -> None:
    """Replaces a published file by an error page, as a proxy does that answers with 200."""
    path.write_text("<!DOCTYPE html><html><head><title>Service unavailable</title></head></html>")
