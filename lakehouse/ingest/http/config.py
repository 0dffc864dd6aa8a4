"""What a `defs.yaml` and the settings say of a vendor's API: address, key, and how fast it may be asked.

The clients that ask are in `client` (answers of a REST vendor) and `poller` (quotes of a feed).
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, ClassVar, Literal
from urllib.parse import urlsplit

from pydantic import Field, model_validator

from lakehouse.errors import SourceError
from lakehouse.ingest.entry_types import Expression
from lakehouse.ingest.http.batch import Batch
from lakehouse.ingest.http.paging import AnyPaging
from lakehouse.ingest.strict import Strict
from lakehouse.ingest.variables import Variables

if TYPE_CHECKING:
    from pyrate_limiter import Limiter

UNLIMITED = 1_000_000
"""Requests a minute of who is not limited."""
_LOOPBACK = ("127.0.0.1", "::1", "localhost")


class ApiKey(Strict):
    """The key that each request carries. It comes from the environment, never from YAML."""

    parameter: str = Field("apikey", description="Name of the query parameter.")
    header: str | None = Field(
        None,
        pattern=r"^[A-Za-z][A-Za-z0-9-]*$",
        description="Name of the header that carries it instead; that of Authorization is `Bearer <key>`.",
    )
    variable: str = Field(pattern=r"^[A-Z][A-Z0-9_]*$", description="Environment variable that holds the key.")


class Api(Strict):
    """A vendor's API: one address that answers GET requests, and how it is to be treated."""

    renamed: ClassVar[Mapping[str, str]] = {
        "tries": "max_attempts",
        "refusals": "error_members",
        "quota_words": "quota_patterns",
    }

    url: str = Field(
        pattern=r"^https?://[^/\s]", description="Address without parameters; LAKEHOUSE_<SOURCE>_URL goes before."
    )
    key: ApiKey | None = Field(None, description="The key, where the vendor wants one.")
    requests_per_minute: int = Field(
        ge=1,
        description="How many requests the vendor allows a minute; they are evenly spread, further tries too. "
        "LAKEHOUSE_<SOURCE>_REQUESTS_PER_MINUTE takes precedence, as plans differ.",
    )
    records: str | None = Field(
        None,
        description="Where the records of an answer in JSON are: the path of an array, such as data.items, or an empty "
        "text where the answer itself is one. They are landed as JSON Lines, and read by the format jsonl.",
    )
    paging: AnyPaging | None = Field(
        None, description="How the records of an answer come in pages. All pages of an answer are landed as one."
    )
    batch: Batch | None = Field(
        None,
        description="How several questions are sent in one POST request; unset: each is a GET request. Each answer of "
        "a batch is landed by itself.",
    )
    timeout_s: float = Field(60.0, gt=0, description="Seconds of silence after which a try is given up.")
    answer_timeout_s: float = Field(
        300.0, gt=0, description="Seconds within which an answer has to be whole, however steadily its bytes come."
    )
    run_timeout_s: float = Field(
        4 * 3600.0, gt=0, description="Seconds for which a run may ask; the next one asks for what is left."
    )
    max_attempts: int = Field(5, ge=1, description="How often a request is made before it counts as unanswered.")
    concurrency: int = Field(4, ge=1, description="How many requests may be under way at once.")
    error_members: dict[str, Literal["permanent", "rate"]] = Field(
        description="How the vendor says no with status 200: member of a JSON object -> permanent (the request is "
        "wrong), or rate (ask again later)."
    )
    quota_patterns: tuple[Expression, ...] = Field(
        (),
        description="Regular expressions, upper or lower case, for refusals which say that the day's quota is used up "
        "or that the plan doesn't cover the request: nothing more is asked in this run.",
    )

    @model_validator(mode="after")
    def _has_records(self) -> Api:
        if self.paging is not None and self.records is None:
            raise ValueError("paging needs the entry `records`, which says where the records of a page are")
        if self.batch is not None and self.records is None:
            raise ValueError("batch needs the entry `records`, which says where the records of an answer are")
        if self.batch is not None and self.paging is not None:
            raise ValueError("the answers of a batch have no pages: remove `batch` or `paging`")
        return self


@dataclass(frozen=True)
class Endpoint:
    """A vendor's API as one installation asks it.

    Args:
        url: what the settings say instead of the YAML; likewise `rate`, requests a minute as text.
        answer_max_bytes: an answer with more is refused.
    """

    source: str
    api: Api
    url: str | None = None
    key: str | None = field(default=None, repr=False)
    rate: str | None = None
    answer_max_bytes: int = 64 * 2**20

    @classmethod
    def of(cls, source: str, api: Api, variables: Variables) -> Endpoint:
        """The API by its YAML and the settings; whether these can work is looked at when it is asked."""
        return cls(
            source,
            api,
            url=variables.source_variable(source, "url"),
            key=variables.secret(api.key.variable) if api.key else None,
            rate=variables.source_variable(source, "requests_per_minute"),
            answer_max_bytes=variables.answer_max_bytes,
        )

    @property
    def address(self) -> str:
        """Where to ask.

        Raises:
            SourceError: it is not an API's URL.
        """
        address = self.url or self.api.url
        try:
            parts = urlsplit(address)
            is_one = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
        except ValueError:
            is_one = False
        if not is_one:
            # What has another form may begin with a password.
            shown = address.rpartition("@")[2]
            raise SourceError(
                f"{shown!r} is no address of an API; set LAKEHOUSE_{self.source.upper()}_URL to an http(s) URL"
            )
        return address

    @property
    def key_parameter(self) -> dict[str, str]:
        """The query's parameter that carries the key; none where a header does, or the vendor wants none.

        Raises:
            SourceError: the vendor wants one and there is none.
        """
        key = self.require_key()
        return {} if self.api.key is None or self.api.key.header or key is None else {self.api.key.parameter: key}

    @property
    def key_header(self) -> dict[str, str]:
        """The header that carries the key, likewise.

        Raises:
            SourceError: the vendor wants one and there is none.
        """
        key = self.require_key()
        if self.api.key is None or self.api.key.header is None or key is None:
            return {}
        is_bearer = self.api.key.header.lower() == "authorization"
        return {self.api.key.header: f"Bearer {key}" if is_bearer else key}

    def require_key(self) -> str | None:
        """The key; None where the vendor wants none.

        Raises:
            SourceError: the vendor wants one and there is none.
        """
        if self.api.key is not None and self.key is None:
            raise SourceError(
                f"{self.source} wants a key and {self.api.key.variable} is not set; put the one that the vendor gave "
                "you into that environment variable, or into .env"
            )
        return self.key if self.api.key is not None else None

    @property
    def lacks_key(self) -> str | None:
        """Why it can't be asked without a person; None where it can."""
        if self.api.key is None or self.key is not None:
            return None
        return f"{self.api.key.variable} is not set, so that {self.source} can't be asked"

    @property
    def requests_per_minute(self) -> int:
        """The YAML's number, unless LAKEHOUSE_<SOURCE>_REQUESTS_PER_MINUTE says what the user's plan allows. A vendor
        who is played on this machine has no plan.

        Raises:
            SourceError: the variable holds no number of requests, or the address is none.
        """
        if self.rate is None:
            return UNLIMITED if urlsplit(self.address).hostname in _LOOPBACK else self.api.requests_per_minute
        if not self.rate.isdecimal() or not int(self.rate):
            raise SourceError(
                f"LAKEHOUSE_{self.source.upper()}_REQUESTS_PER_MINUTE is {self.rate!r}; set it to a whole number of 1 "
                "or more"
            )
        return int(self.rate)

    def warn_of_open_key(self) -> None:
        """Logs, once a process, that everybody between here and the vendor can read the key; on this machine that is
        no one.
        """
        parts = urlsplit(self.address)
        if self.api.key is not None and parts.scheme == "http" and parts.hostname not in _LOOPBACK:
            _warn_of_open_key(self.source, parts.hostname or "", self.api.key.variable)


@cache
def _warn_of_open_key(source: str, host: str, variable: str) -> None:
    logging.getLogger(__name__).warning(
        "%s sends the key in %s to %s unencrypted: use an https:// address in LAKEHOUSE_%s_URL or the defs.yaml",
        *(source, variable, host, source.upper()),
    )


def limiter(requests_a_minute: int) -> Limiter:
    """What a client waits for before each request."""
    from pyrate_limiter import Duration, Limiter, Rate, SingleBucketFactory, StateBucket, TokenBucket

    # A bucket of a single token spreads the requests evenly. A bucket of a minute's worth would let through up to
    # twice the vendor's number in the first minute. Its state is two numbers: nothing has to be cleaned up.
    bucket = StateBucket([Rate(requests_a_minute, Duration.MINUTE, burst=1)], algorithm=TokenBucket())
    return Limiter(SingleBucketFactory(bucket, schedule_leak=False), buffer_ms=1)
