"""Standards of identifiers and codes that a contract may name as a column's `format`.

Only the canonical form is valid: capitals, no separators, no surrounding blanks. python-stdnum does the arithmetic;
where it is wrong or outdated, rules here add to it or replace it. For MIC, whose register is not available, only the
shape is checked.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

from lakehouse.errors import did_you_mean

_FIGI = re.compile(r"(?!BS|BM|GG|GB|GH|KY|VG)[B-DF-HJ-NP-TV-Z]{2}G[0-9B-DF-HJ-NP-TV-Z]{8}[0-9]")
"""OpenFIGI doesn't assign the prefixes with which an ISIN of another numbering agency could begin."""
_LEI = re.compile(r"[0-9A-Z]{18}[0-9]{2}")
_BIC = re.compile(r"[0-9A-Z]{4}([A-Z]{2})[0-9A-Z]{2}([0-9A-Z]{3})?")
_MIC = re.compile(r"[0-9A-Z]{4}")
_KOSOVO = "XK"
"""Used in BICs, though ISO 3166 has no code for it."""


@dataclass(frozen=True)
class Standard:
    """`follows` tells whether a text follows the standard; `reason` describes one that doesn't."""

    follows: Callable[[str], bool]
    reason: str


def _isin(text: str) -> bool:
    from stdnum import isin

    return text == isin.compact(text) and isin.is_valid(text)


def _figi(text: str) -> bool:
    from stdnum import figi

    return _FIGI.fullmatch(text) is not None and figi.is_valid(text)


def _cusip(text: str) -> bool:
    from stdnum import cusip

    return text == cusip.compact(text) and cusip.is_valid(text)


def _sedol(text: str) -> bool:
    from stdnum.gb import sedol

    return text == sedol.compact(text) and sedol.is_valid(text)


def _wkn(text: str) -> bool:
    from stdnum.de import wkn

    return text == wkn.compact(text) and wkn.is_valid(text)


def _iban(text: str) -> bool:
    from stdnum import iban

    return text == iban.compact(text) and iban.is_valid(text)


def _lei(text: str) -> bool:
    # stdnum accepts any length, such as '1' and '98'.
    return _LEI.fullmatch(text) is not None and int("".join(str(int(sign, 36)) for sign in text)) % 97 == 1


def _bic(text: str) -> bool:
    # stdnum accepts no digits among the first four characters; ISO 9362 does.
    match = _BIC.fullmatch(text)
    return match is not None and (match[1] in _countries() or match[1] == _KOSOVO)


def _mic(text: str) -> bool:
    return _MIC.fullmatch(text) is not None


def _country(text: str) -> bool:
    return text in _countries()


def _currency(text: str) -> bool:
    return text in _currencies()


@cache
def _countries() -> frozenset[str]:
    import pycountry

    return frozenset(country.alpha_2 for country in pycountry.countries)


@cache
def _currencies() -> frozenset[str]:
    import pycountry

    return frozenset(currency.alpha_3 for currency in pycountry.currencies)


STANDARDS = {
    "isin": Standard(_isin, "is not an ISIN (ISO 6166: twelve characters with a check digit)"),
    "figi": Standard(_figi, "is not a FIGI (twelve characters, the third a G, with a check digit)"),
    "cusip": Standard(_cusip, "is not a CUSIP (nine characters with a check digit)"),
    "sedol": Standard(_sedol, "is not a SEDOL (seven characters with a check digit)"),
    "wkn": Standard(_wkn, "is not a WKN (six characters)"),
    "lei": Standard(_lei, "is not an LEI (ISO 17442: twenty characters, the last two check digits)"),
    "bic": Standard(_bic, "is not a BIC (ISO 9362: eight or eleven characters, the fifth and sixth a country)"),
    "mic": Standard(_mic, "is not a MIC (ISO 10383: four capitals or digits)"),
    "iban": Standard(_iban, "is not an IBAN (ISO 13616: the country's length and form, with check digits)"),
    "country": Standard(_country, "is not an ISO 3166 country code of two letters"),
    "currency": Standard(_currency, "is not an ISO 4217 currency code"),
}


def require_standard(name: str) -> str:
    """Returns `name` if it is that of a standard.

    Raises:
        ValueError: it is not.
    """
    if name not in STANDARDS:
        known = ", ".join(STANDARDS)
        raise ValueError(f"'{name}' is not a format; write one of {known}{did_you_mean(name, STANDARDS)}")
    return name
