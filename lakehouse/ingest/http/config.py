"""What a `defs.yaml` and the environment say of a vendor's API: address, key, symbols, and how fast it may be asked.

The clients that ask are in `client` (answers of a REST vendor) and `poller` (quotes of a feed).
"""

from __future__ import annotations

import logging
import re
from functools import cache
from typing import TYPE_CHECKING, Literal
from urllib.parse import urlsplit

from pydantic import Field, field_validator

from lakehouse.errors import SourceError
from lakehouse.ingest.dataset import Strict
from lakehouse.settings import settings

if TYPE_CHECKING:
    from pyrate_limiter import Limiter

UNLIMITED = 1_000_000
"""Requests a minute of who is not limited."""
_LOOPBACK = ("127.0.0.1", "::1", "localhost")


class ApiKey(Strict):
    """The key that each request carries. It comes from the environment and never stands in YAML."""

    parameter: str = Field("apikey", description="Name of the query parameter.")
    variable: str = Field(pattern=r"^[A-Z][A-Z0-9_]*$", description="Environment variable that holds the key.")


class Api(Strict):
    """A vendor's API: one address that answers GET requests, and how it is to be treated."""

    url: str = Field(
        pattern=r"^https?://[^/\s]", description="Address without parameters; LAKEHOUSE_<SOURCE>_URL goes before."
    )
    key: ApiKey | None = Field(None, description="The key, where the vendor wants one.")
    symbols: tuple[str, ...] = Field(
        min_length=1, description="What is asked for; LAKEHOUSE_<SOURCE>_SYMBOLS (comma-separated) takes precedence."
    )
    requests_per_minute: int = Field(
        ge=1,
        description="How many requests the vendor allows a minute; they are evenly spread, further tries too. "
        "LAKEHOUSE_<SOURCE>_REQUESTS_PER_MINUTE takes precedence, as plans differ.",
    )
    timeout_s: float = Field(60.0, gt=0, description="Seconds of silence after which a try is given up.")
    answer_timeout_s: float = Field(
        300.0, gt=0, description="Seconds within which an answer has to be whole, however steadily its bytes come."
    )
    run_timeout_s: float = Field(
        4 * 3600.0, gt=0, description="Seconds for which a run may ask; the next one asks for what is left."
    )
    tries: int = Field(5, ge=1, description="How often a request is made before it counts as unanswered.")
    concurrency: int = Field(4, ge=1, description="How many requests may be under way at once.")
    refusals: dict[str, Literal["permanent", "rate"]] = Field(
        description="How the vendor says no with status 200: member of a JSON object -> permanent (the request is "
        "wrong), or rate (ask again later)."
    )
    quota_words: tuple[str, ...] = Field(
        (),
        description="Regular expressions, upper or lower case, for refusals which say that the day's quota is used up "
        "or that the plan doesn't cover the request: nothing more is asked in this run.",
    )

    @field_validator("quota_words")
    @classmethod
    def _are_expressions(cls, quota_words: tuple[str, ...]) -> tuple[str, ...]:
        for words in quota_words:
            try:
                re.compile(words)
            except re.error as error:
                raise ValueError(f"{words!r} is no regular expression: {error}") from None
        return quota_words


def symbols_of(source: str, api: Api) -> tuple[str, ...]:
    """The symbols to ask for: LAKEHOUSE_<SOURCE>_SYMBOLS, or else the YAML's; each once, in the given order.

    Raises:
        SourceError: the variable is set, but names none; or a symbol can't name an object.
    """
    said = settings().source_variable(source, "symbols")
    symbols = api.symbols if said is None else [symbol.strip() for symbol in said.split(",")]
    if not any(symbols):
        raise SourceError(
            f"LAKEHOUSE_{source.upper()}_SYMBOLS names no symbol; list some, separated by commas, "
            f"or unset it to take those of the defs.yaml of {source}"
        )
    if unfit := sorted(symbol for symbol in symbols if "/" in symbol or symbol in (".", "..")):
        raise SourceError(
            f"{', '.join(unfit)} can't be asked for: symbols stand in addresses and in names of objects, which a slash "
            f"divides. Take it out of LAKEHOUSE_{source.upper()}_SYMBOLS or the defs.yaml"
        )
    return tuple(dict.fromkeys(symbol for symbol in symbols if symbol))


def address_of(source: str, api: Api, url: str | None = None) -> str:
    """Where to ask: `url`, or else LAKEHOUSE_<SOURCE>_URL, or else the YAML's.

    Raises:
        SourceError: it is no address of an API.
    """
    address = url or settings().source_variable(source, "url") or api.url
    try:
        parts = urlsplit(address)
        is_one = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        is_one = False
    if not is_one:
        # What has another form may begin with a password.
        shown = address.rpartition("@")[2]
        raise SourceError(f"{shown!r} is no address of an API; set LAKEHOUSE_{source.upper()}_URL to an http(s) URL")
    return address


def key_of(source: str, api: Api, key: str | None = None) -> str | None:
    """The key that requests carry: `key`, or else the environment's; None where the vendor wants none.

    Raises:
        SourceError: the vendor wants one and there is none.
    """
    if api.key is None:
        return None
    key = key or settings().secret(api.key.variable)
    if key is None:
        raise SourceError(
            f"{source} wants a key and {api.key.variable} is not set; put the one that the vendor gave you into that "
            "environment variable, or into .env"
        )
    return key


def warn_of_open_key(source: str, api: Api, address: str) -> None:
    """Logs, once a process, that everybody between here and the vendor can read the key; on this machine there is
    nobody.
    """
    parts = urlsplit(address)
    if api.key is not None and parts.scheme == "http" and parts.hostname not in _LOOPBACK:
        _warn_of_open_key(source, parts.hostname or "", api.key.variable)


@cache
def _warn_of_open_key(source: str, host: str, variable: str) -> None:
    logging.getLogger(__name__).warning(
        "%s sends the key in %s to %s unencrypted: use an https:// address in LAKEHOUSE_%s_URL or the defs.yaml",
        *(source, variable, host, source.upper()),
    )


def lacks_key(source: str, api: Api | None) -> str | None:
    """Why a source can't be asked by itself; None where it can."""
    if api is None or api.key is None or settings().secret(api.key.variable) is not None:
        return None
    return f"{api.key.variable} is not set, so that {source} can't be asked"


def requests_per_minute(source: str, api: Api, address: str) -> int:
    """The YAML's number, unless LAKEHOUSE_<SOURCE>_REQUESTS_PER_MINUTE says what the user's plan allows. A vendor who
    is played on this machine has no plan.

    Raises:
        SourceError: the variable holds no number of requests.
    """
    said = settings().source_variable(source, "requests_per_minute")
    if said is None:
        return UNLIMITED if urlsplit(address).hostname in _LOOPBACK else api.requests_per_minute
    if not said.isdecimal() or not int(said):
        raise SourceError(
            f"LAKEHOUSE_{source.upper()}_REQUESTS_PER_MINUTE is {said!r}; set it to a whole number of 1 or more"
        )
    return int(said)


def limiter(requests_a_minute: int) -> Limiter:
    """What a client waits for before each request."""
    from pyrate_limiter import Duration, Limiter, Rate, SingleBucketFactory, StateBucket, TokenBucket

    # A bucket of a single token spreads the requests evenly. A bucket of a minute's worth would let through up to
    # twice the vendor's number in the first minute. Its state is two numbers: nothing has to be cleaned up.
    bucket = StateBucket([Rate(requests_a_minute, Duration.MINUTE, burst=1)], algorithm=TokenBucket())
    return Limiter(SingleBucketFactory(bucket, schedule_leak=False), buffer_ms=1)
