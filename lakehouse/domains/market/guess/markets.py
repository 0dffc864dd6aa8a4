"""What is known of the markets that people usually have files of: a MIC's name, country, time zone and currency.

For these `lakehouse init` fills in the venue; for others it asks to. The calendar has the MIC's name.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from lakehouse.domains.market.calendar_codes import calendar_codes
from lakehouse.errors import SourceError, did_you_mean

UNKNOWN_MIC, UNKNOWN_COUNTRY = "XXXX", "ZZ"
"""ISO 10383's code where there is no market, and a country of ISO 3166 that is the user's own."""


@dataclass(frozen=True)
class Market:
    """A venue as a defs.yaml describes it."""

    mic: str
    name: str
    country: str
    time_zone: str
    currency: str
    calendar: str

    @property
    def code(self) -> str:
        """By which `market_of` finds it."""
        return self.mic if self.mic in markets() else self.calendar


_ROWS = """
XLON|London Stock Exchange|GB|Europe/London|GBP
XNYS|New York Stock Exchange|US|America/New_York|USD
XNAS|Nasdaq|US|America/New_York|USD|XNYS
XETR|Xetra|DE|Europe/Berlin|EUR
XFRA|Frankfurt Stock Exchange|DE|Europe/Berlin|EUR
XPAR|Euronext Paris|FR|Europe/Paris|EUR
XAMS|Euronext Amsterdam|NL|Europe/Amsterdam|EUR
XBRU|Euronext Brussels|BE|Europe/Brussels|EUR
XLIS|Euronext Lisbon|PT|Europe/Lisbon|EUR
XDUB|Euronext Dublin|IE|Europe/Dublin|EUR
XMIL|Borsa Italiana|IT|Europe/Rome|EUR
XMAD|Bolsa de Madrid|ES|Europe/Madrid|EUR
XSWX|SIX Swiss Exchange|CH|Europe/Zurich|CHF
XWBO|Wiener Boerse|AT|Europe/Vienna|EUR
XSTO|Nasdaq Stockholm|SE|Europe/Stockholm|SEK
XCSE|Nasdaq Copenhagen|DK|Europe/Copenhagen|DKK
XHEL|Nasdaq Helsinki|FI|Europe/Helsinki|EUR
XOSL|Oslo Bors|NO|Europe/Oslo|NOK
XWAR|Warsaw Stock Exchange|PL|Europe/Warsaw|PLN
XPRA|Prague Stock Exchange|CZ|Europe/Prague|CZK
XBUD|Budapest Stock Exchange|HU|Europe/Budapest|HUF
ASEX|Athens Exchange|GR|Europe/Athens|EUR
XIST|Borsa Istanbul|TR|Europe/Istanbul|TRY
XTSE|Toronto Stock Exchange|CA|America/Toronto|CAD
BVMF|B3|BR|America/Sao_Paulo|BRL
XMEX|Bolsa Mexicana de Valores|MX|America/Mexico_City|MXN
XTKS|Tokyo Stock Exchange|JP|Asia/Tokyo|JPY
XHKG|Hong Kong Exchanges|HK|Asia/Hong_Kong|HKD
XSHG|Shanghai Stock Exchange|CN|Asia/Shanghai|CNY
XSHE|Shenzhen Stock Exchange|CN|Asia/Shanghai|CNY|XSHG
XKRX|Korea Exchange|KR|Asia/Seoul|KRW
XTAI|Taiwan Stock Exchange|TW|Asia/Taipei|TWD
XSES|Singapore Exchange|SG|Asia/Singapore|SGD
XBOM|BSE|IN|Asia/Kolkata|INR
XNSE|National Stock Exchange of India|IN|Asia/Kolkata|INR|XBOM
XASX|ASX|AU|Australia/Sydney|AUD
XNZE|New Zealand Exchange|NZ|Pacific/Auckland|NZD
XJSE|Johannesburg Stock Exchange|ZA|Africa/Johannesburg|ZAR
XTAE|Tel Aviv Stock Exchange|IL|Asia/Jerusalem|ILS
XSAU|Saudi Exchange|SA|Asia/Riyadh|SAR
CMES|CME Globex|US|America/Chicago|USD
"""


def markets() -> dict[str, Market]:
    """The known markets by MIC."""
    found: dict[str, Market] = {}
    for line in _ROWS.strip().splitlines():
        mic, name, country, zone, currency, *calendar = line.split("|")
        found[mic] = Market(mic, name, country, zone, currency, calendar[0] if calendar else mic)
    return found


def market_of(code: str) -> Market:
    """The market of a MIC, or of a calendar of exchange_calendars, whose name and currency are to be filled in.

    Raises:
        SourceError: the code is neither.
    """
    known = markets()
    if code in known:
        return known[code]
    if code not in calendar_codes():
        near = did_you_mean(code.upper(), sorted({*known, *calendar_codes()}))
        raise SourceError(f"{code!r} is neither a known market nor a calendar of exchange_calendars{near}")
    mic = code if re.fullmatch(r"[A-Z0-9]{4}", code) else UNKNOWN_MIC
    return Market(mic, f"TODO {code}", UNKNOWN_COUNTRY, _zone_of(code), "USD", code)


def market_in(names: Iterable[str]) -> Market | None:
    """The only known MIC that stands as a word in the names of objects; None without one, and with several."""
    words = {word.upper() for name in names for word in re.split(r"[^A-Za-z0-9]|(?<=[A-Za-z])(?=[0-9])", name)}
    found = [market for mic, market in markets().items() if mic in words]
    return found[0] if len(found) == 1 else None


def _zone_of(code: str) -> str:
    import exchange_calendars

    return str(exchange_calendars.get_calendar(code).tz)
