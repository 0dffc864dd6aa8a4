"""Standards by name: identifiers that the publishers give pass, and what python-stdnum takes wrongly doesn't."""

from __future__ import annotations

import csv
import json
from itertools import product
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from stdnum import figi, iban, isin, lei

from assets_tests.conftest import PROJECT_ROOT
from lakehouse.lake.contract import Column
from lakehouse.lake.standards import STANDARDS

REFERENCE_DATA = PROJECT_ROOT.parent / "shared" / "data" / "reference"

SOUND = {
    "isin": ["DE0005190003", "US0378331005", "XS2021832634", "EU000A1G0AA6"],
    "figi": ["BBG000BLNNH6", "BBG000B9XRY4"],
    "cusip": ["037833100", "38259P508"],
    "sedol": ["0263494", "B15KXQ8"],
    "wkn": ["519000", "A0RPWH"],
    "lei": ["529900GRZ2BQY5ZM9N49", "213800KUD8LAJWSQ9D15"],
    "bic": ["DEUTDEFF", "DEUTDEFF500", "E097AEXX", "NCBVXKPR"],
    "mic": ["XETR", "XNAS", "3579"],
    "iban": ["DE89370400440532013000", "GB29NWBK60161331926819"],
    "country": ["DE", "NA", "GB"],
    "currency": ["EUR", "USD", "XAU"],
}
WRONG = {
    "isin": ["US0378331006", "us0378331005", "ZZ0378331005", "DE 0005190003", "DE-0005190003"],
    "figi": ["GHG000000009", "KYG000000007", "BBG000BLNNH5", "BBF000BLNNH6", "BAG000BLNNH6", "BBG000BLNN H6"],
    "cusip": ["037833101", "03783310", "0378331 00"],
    "sedol": ["0263495", "B15KXQ9", "B15KXQ", "0263 494"],
    "wkn": ["51900", "5190000", "A0RPWO", "a0rpwh"],
    "lei": ["1", "01", "98", "529900GRZ2BQY5ZM9N48", "529900grz2bqy5zm9n49", "SPARSE00000000000001"],
    "bic": ["DEUTDEF", "DEUTDEFF50", "DEUTZZFF", "deutdeff", "DEUT DEFF", "DEUTDEFF\n"],
    "mic": ["xetr", "XET", "XETRA", "XE R"],
    "iban": [
        "DE89370400440532013001",
        "DE8937040044053201300",
        "DE89 3704 0044 0532 0130 00",
        "ZZ89370400440532013000",
    ],
    "country": ["UK", "XK", "de", "DEU"],
    "currency": ["EUX", "GBX", "eur", "EURO"],
}


@pytest.mark.parametrize("name", STANDARDS)
def test_standards__take_what_publishers_give_and_nothing_else(name: str) -> None:
    follows = STANDARDS[name].follows
    assert [text for text in SOUND[name] if not follows(text)] == []
    assert [text for text in [*WRONG[name], "", " ", "\x00", "é" * 12] if follows(text)] == []
    spelt = {form for text in SOUND[name] for form in (f" {text}", f"{text}\n", text.lower())} - set(SOUND[name])
    assert [text for text in sorted(spelt) if follows(text)] == []


def test_python_stdnum_still_takes_what_is_wrong() -> None:
    """Where it no longer does, a rule of ours is no longer needed."""
    assert lei.is_valid("1")
    assert lei.is_valid("98")
    assert figi.is_valid("GHG000000009")
    assert figi.is_valid("KYG000000007")
    assert isin.is_valid("DE 0005190003")
    assert iban.is_valid("DE89 3704 0044 0532 0130 00")


@given(text=st.from_regex(r"\A[0-9A-Z]{18}[0-9]{2}\Z"))
def test_leis_of_twenty_characters_are_judged_as_stdnum_does(text: str) -> None:
    assert STANDARDS["lei"].follows(text) == lei.is_valid(text)
    sound = next(
        f"{text[:18]}{tens}{ones}"
        for tens, ones in product("0123456789", repeat=2)
        if lei.is_valid(f"{text[:18]}{tens}{ones}")
    )
    assert STANDARDS["lei"].follows(sound)


@given(
    prefix=st.sampled_from(["BB", "BS", "BM", "GG", "GB", "GH", "KY", "VG", "NR"]),
    rest=st.from_regex(r"\A[0-9B-DF-HJ-NP-TV-Z]{8}\Z"),
)
def test_figis_of_a_forbidden_prefix_are_refused_whatever_their_check_digit(prefix: str, rest: str) -> None:
    body = f"{prefix}G{rest}"
    assert STANDARDS["figi"].follows(body + figi.calc_check_digit(body)) == (prefix in ("BB", "NR"))


def test_a_format_is_a_known_one_and_of_a_text() -> None:
    with pytest.raises(ValidationError, match=r"'isni' is not a format.*did you mean 'isin'"):
        Column.model_validate({"name": "a", "type": "string", "description": "", "format": "isni"})
    with pytest.raises(ValidationError, match="column a is a bigint; only a string has a format"):
        Column.model_validate({"name": "a", "type": "bigint", "description": "", "format": "isin"})


@pytest.mark.skipif(not REFERENCE_DATA.exists(), reason="needs ../shared/data/reference")
def test_the_published_mics_countries_and_leis_follow_their_standards() -> None:
    with (REFERENCE_DATA / "ISO10383_MIC_2024-10-28.csv").open(encoding="utf-8-sig", newline="") as lines:
        rows = list(csv.DictReader(lines))
    leis = [row["LEI"] for row in rows if row["LEI"]]
    assert (len(rows), len(leis), len(set(leis))) == (2701, 2027, 985)
    assert [row["MIC"] for row in rows if not STANDARDS["mic"].follows(row["MIC"])] == []
    assert [text for text in leis if not STANDARDS["lei"].follows(text)] == []
    codes = {row["ISO COUNTRY CODE (ISO 3166)"] for row in rows}
    assert {code for code in codes if not STANDARDS["country"].follows(code)} <= {"ZZ"}


@pytest.mark.skipif(not REFERENCE_DATA.exists(), reason="needs ../shared/data/reference")
def test_the_published_figis_follow_their_standard() -> None:
    figis: set[str] = set()
    for path in sorted(Path(REFERENCE_DATA / "openfigi").rglob("*.json")):
        figis |= set(values_of(json.loads(path.read_text()), ("figi", "compositeFIGI", "shareClassFIGI")))
    assert len(figis) > 100
    assert [text for text in sorted(figis) if not STANDARDS["figi"].follows(text)] == []


def values_of(document: object, names: tuple[str, ...]) -> list[str]:
    """The texts of some members, anywhere in a JSON document."""
    if isinstance(document, list):
        return [text for each in document for text in values_of(each, names)]
    if isinstance(document, dict):
        own = [value for name, value in document.items() if name in names and isinstance(value, str)]
        return own + [text for each in document.values() for text in values_of(each, names)]
    return []
