"""Standards of identifiers and codes that a contract may name as a column's `format`.

Only the canonical form is valid: capitals, no separators, no surrounding blanks. python-stdnum does the arithmetic;
where it is wrong or outdated, rules here add to it or replace it. For MIC, whose register is not available, only the
shape is checked. Columns of identifiers are judged by the arrays of `check_digits`, to the same effect.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from typing import TYPE_CHECKING

from lakehouse.errors import did_you_mean
from lakehouse.lake import check_digits

if TYPE_CHECKING:
    import polars as pl

_NO_FIGIS = ("BS", "BM", "GG", "GB", "GH", "KY", "VG")
"""OpenFIGI doesn't assign the prefixes with which an ISIN of another numbering agency could begin."""
_FIGI = re.compile(rf"(?!{'|'.join(_NO_FIGIS)})[B-DF-HJ-NP-TV-Z]{{2}}G[0-9B-DF-HJ-NP-TV-Z]{{8}}[0-9]")
_LEI = re.compile(r"[0-9A-Z]{18}[0-9]{2}")
_BIC = re.compile(r"[0-9A-Z]{4}([A-Z]{2})[0-9A-Z]{2}([0-9A-Z]{3})?")
_MIC = re.compile(r"[0-9A-Z]{4}")
_WKN = re.compile(r"[0-9A-HJ-NP-Z]{6}")
_KOSOVO = "XK"
"""Used in BICs, though ISO 3166 has no code for it."""


@dataclass(frozen=True)
class Standard:
    """A standard.

    Args:
        follows: tells whether a text follows it.
        reason: describes a text that doesn't.
        bulk: the same as `follows` for a column; None: text by text.
        check_digits: where a text has its check digits (first character, number of characters); None: it has none.
    """

    follows: Callable[[str], bool]
    reason: str
    bulk: Callable[[pl.Series], pl.Series] | None = None
    check_digits: tuple[int, int] | None = None

    def follow(self, texts: pl.Series) -> pl.Series:
        """Whether each text of a column follows it; null doesn't."""
        import polars as pl

        if self.bulk is not None:
            return self.bulk(texts)
        return pl.Series(texts.name, [text is not None and self.follows(text) for text in texts], dtype=pl.Boolean)

    def expected(self, text: str) -> str | None:
        """The check digits with which a text would follow the standard; None if it follows it, or never would."""
        if self.check_digits is None or self.follows(text):
            return None
        start, length = self.check_digits
        head, tail = text[:start], text[start + length :]
        digits = (f"{number:0{length}}" for number in range(10**length))
        return next((found for found in digits if len(text) >= start and self.follows(head + found + tail)), None)


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


def _isins(texts: pl.Series) -> pl.Series:
    return check_digits.judged(texts, 12, check_digits.isin_of(_isin_prefixes()))


def _matching(pattern: re.Pattern[str], texts: pl.Series) -> pl.Series:
    return texts.str.contains(rf"\A(?:{pattern.pattern})\z").fill_null(False)


def _bics(texts: pl.Series) -> pl.Series:
    return _matching(_BIC, texts) & texts.str.slice(4, 2).is_in([*_countries(), _KOSOVO]).fill_null(False)


@cache
def _isin_prefixes() -> frozenset[str]:
    from stdnum import isin

    return frozenset(isin._country_codes)


STANDARDS = {
    "isin": Standard(_isin, "is not an ISIN (ISO 6166: twelve characters with a check digit)", _isins, (11, 1)),
    "figi": Standard(
        _figi,
        "is not a FIGI (twelve characters, the third a G, with a check digit)",
        partial(check_digits.judged, length=12, judge=check_digits.figi(_NO_FIGIS)),
        (11, 1),
    ),
    "cusip": Standard(
        _cusip,
        "is not a CUSIP (nine characters with a check digit)",
        partial(check_digits.judged, length=9, judge=check_digits.cusip),
        (8, 1),
    ),
    "sedol": Standard(
        _sedol,
        "is not a SEDOL (seven characters with a check digit)",
        partial(check_digits.judged, length=7, judge=check_digits.sedol),
        (6, 1),
    ),
    "wkn": Standard(_wkn, "is not a WKN (six characters)", partial(_matching, _WKN)),
    "lei": Standard(
        _lei,
        "is not an LEI (ISO 17442: twenty characters, the last two check digits)",
        partial(check_digits.judged, length=20, judge=check_digits.lei),
        (18, 2),
    ),
    "bic": Standard(_bic, "is not a BIC (ISO 9362: eight or eleven characters, the fifth and sixth a country)", _bics),
    "mic": Standard(_mic, "is not a MIC (ISO 10383: four capitals or digits)", partial(_matching, _MIC)),
    "iban": Standard(
        _iban,
        "is not an IBAN (ISO 13616: the country's length and form, with check digits)",
        check_digits=(2, 2),
    ),
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
