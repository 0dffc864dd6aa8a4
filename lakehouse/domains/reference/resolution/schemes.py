"""Tells what kind of identifier a text is. Pure functions.

An identifier is taken by its form, and refused by its check digits: twelve characters that look like an ISIN and have
another check digit are a wrong ISIN, not something else.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from lakehouse.errors import LakehouseError, did_you_mean
from lakehouse.lake.standards import STANDARDS

TARGETS = ("figi", "lei", "isin", "bic", "mic_ticker", "mic", "permid")
"""Kinds of identifiers that are linked with each other."""
_DEFAULT_TARGETS = {"isin": "figi", "mic_ticker": "figi", "figi": "isin", "lei": "isin"}
_FORMS = {
    "lei": r"[0-9A-Z]{18}[0-9]{2}",
    "figi": r"[B-DF-HJ-NP-TV-Z]{2}G[0-9B-DF-HJ-NP-TV-Z]{8}[0-9]",
    "isin": r"[A-Z]{2}[0-9A-Z]{9}[0-9]",
    "mic": r"[0-9A-Z]{4}",
    "bic": r"[0-9A-Z]{4}[A-Z]{2}[0-9A-Z]{2}([0-9A-Z]{3})?",
    "mic_ticker": r"[0-9A-Z]{4}/[^/\s](?:[^/]*[^/\s])?",
    "permid": r"(?:https?://permid\.org/)?(?:1-)?[0-9]{9,12}",
}
_BIC_HEAD_OFFICE = "XXX"


class InvalidIdentifier(LakehouseError, ValueError):
    """A text is no identifier; the message says why, and the check digits that were expected."""


@dataclass(frozen=True)
class Identifier:
    """An identifier of a known kind, in its canonical form."""

    scheme: str
    value: str

    @property
    def default_target(self) -> str:
        """What it is resolved to unless another kind is asked for."""
        return _DEFAULT_TARGETS.get(self.scheme, "lei")


def identified(text: str, mic: str | None = None) -> Identifier:
    """What kind of identifier a text is; with `mic`, a text that is no other identifier is a ticker of that market.

    Raises:
        InvalidIdentifier: it is none.
    """
    value = text.strip().upper()
    forms = [scheme for scheme, form in _FORMS.items() if re.fullmatch(form, value, re.IGNORECASE)]
    sound = [scheme for scheme in forms if scheme not in STANDARDS or STANDARDS[scheme].follows(value)]
    if mic is not None:
        instruments = [scheme for scheme in sound if scheme in ("isin", "figi", "lei")]
        if instruments:
            return Identifier(instruments[0], value)
        if not (wrong := [scheme for scheme in forms if scheme in ("isin", "figi", "lei")]):
            return Identifier("mic_ticker", f"{mic}/{text.strip()}")
        raise InvalidIdentifier(_why_not(text, wrong[0]))
    if sound:
        return Identifier(sound[0], canonical(sound[0], value if sound[0] != "mic_ticker" else text.strip()))
    if forms:
        raise InvalidIdentifier(_why_not(text, forms[0]))
    raise InvalidIdentifier(
        f"{text!r} is no identifier: neither an LEI, ISIN, FIGI, BIC, MIC or PermID, nor a ticker as XNYS/IBM. For a "
        "ticker alone, name its market by --mic"
    )


def of_scheme(text: str, scheme: str) -> str:
    """The canonical form of an identifier that should be of a kind.

    Raises:
        InvalidIdentifier: it isn't.
    """
    value = text.strip() if scheme == "mic_ticker" else text.strip().upper()
    is_sound = STANDARDS[scheme].follows(value) if scheme in STANDARDS else re.fullmatch(_FORMS[scheme], value, re.I)
    if not is_sound:
        raise InvalidIdentifier(_why_not(text, scheme))
    return canonical(scheme, value)


def canonical(scheme: str, value: str) -> str:
    """The form in which identifiers are stored: a BIC of eight characters is that of the head office, XXX."""
    if scheme == "bic" and len(value) == 8:
        return value + _BIC_HEAD_OFFICE
    if scheme == "permid":
        return value.rpartition("/")[2].rpartition("-")[2]
    return value


def require_target(scheme: str) -> str:
    """Returns `scheme` if identifiers of that kind are linked with others.

    Raises:
        InvalidIdentifier: they aren't.
    """
    if scheme not in TARGETS:
        raise InvalidIdentifier(
            f"{scheme!r} is no kind of identifier; write one of {', '.join(TARGETS)}{did_you_mean(scheme, TARGETS)}"
        )
    return scheme


def _why_not(text: str, scheme: str) -> str:
    if scheme not in STANDARDS:
        return f"{text!r} is no {scheme}"
    expected = STANDARDS[scheme].expected(text.strip().upper())
    digits = "digit" if expected and len(expected) == 1 else "digits"
    return f"{text!r} {STANDARDS[scheme].reason}" + (f"; expected the check {digits} {expected}" if expected else "")
