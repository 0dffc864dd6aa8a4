"""The configuration of a vendor's API, from a `defs.yaml` and the settings: address, key, rate, limits.

`client` requests by it, and so do domains with a client of their own.
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
"""Requests a minute that count as no limit."""
LOOPBACK = ("127.0.0.1", "::1", "localhost")


class ApiKey(Strict):
    """The key that each request carries. It comes from the environment, never from YAML."""

    parameter: str = Field("apikey", description="Name of the query parameter.")
    header: str | None = Field(
        None,
        pattern=r"^[A-Za-z][A-Za-z0-9-]*$",
        description="Name of the header that carries it instead; that of Authorization is `Bearer <key>`.",
    )
    further: dict[str, str] = Field(
        {},
        description="Further headers -> environment variables that hold their values, where a key has two parts.",
    )
    variable: str = Field(pattern=r"^[A-Z][A-Z0-9_]*$", description="Environment variable that holds the key.")


class WithoutKey(Strict):
    """The limits for those who have no key."""

    requests_per_minute: int = Field(ge=1, description="How many requests the vendor allows per minute then.")
    batch_size: int | None = Field(None, ge=1, description="Most questions in a request then.")


class Api(Strict):
    """A vendor's API: an address, what its answers look like, and its limits."""

    renamed: ClassVar[Mapping[str, str]] = {
        "tries": "max_attempts",
        "refusals": "error_members",
        "quota_words": "quota_patterns",
    }

    url: str = Field(
        pattern=r"^https?://[^/\s]",
        description="Address without parameters; LAKEHOUSE_<SOURCE>_URL takes precedence. In its path, {name} is "
        "filled in by the parameter of that name of a request.",
    )
    key: ApiKey | None = Field(None, description="The key, if the vendor takes one.")
    without_key: WithoutKey | None = Field(
        None, description="The limits of requests without the key; unset: the vendor requires it."
    )
    requests_per_minute: int = Field(
        ge=1,
        description="How many requests the vendor allows per minute; they are spread evenly, including retries. "
        "LAKEHOUSE_<SOURCE>_REQUESTS_PER_MINUTE takes precedence, as plans differ.",
    )
    records: str | tuple[str, ...] | None = Field(
        None,
        description="Path of the array of records in a JSON answer, such as data.items; an empty text if the answer "
        "itself is the array. Several paths, where an answer has several arrays, one of which may be missing. Records "
        "are landed as JSON Lines, and read by the format jsonl.",
    )
    paging: AnyPaging | None = Field(
        None, description="How an answer is divided into pages. All pages of an answer are landed as one object."
    )
    batch: Batch | None = Field(
        None,
        description="How several questions are sent in one POST request; unset: each is a GET request. Each answer of "
        "a batch is landed by itself.",
    )
    timeout_s: float = Field(60.0, gt=0, description="Seconds of silence after which a try has failed.")
    answer_timeout_s: float = Field(
        300.0, gt=0, description="Seconds within which an answer must be complete, even if its bytes keep coming."
    )
    run_timeout_s: float = Field(
        4 * 3600.0, gt=0, description="Seconds for which a run may send requests; the next run sends the others."
    )
    max_attempts: int = Field(5, ge=1, description="How often a request is made before it counts as unanswered.")
    concurrency: int = Field(4, ge=1, description="How many requests may be in progress at once.")
    error_members: dict[str, Literal["permanent", "rate"]] = Field(
        description="How the vendor refuses with status 200: member of a JSON object -> permanent (the request is "
        "wrong), or rate (ask again later)."
    )
    quota_patterns: tuple[Expression, ...] = Field(
        (),
        description="Regular expressions, ignoring case, of refusals because the day's quota is used up or the plan "
        "doesn't cover the request: the run sends no more requests.",
    )

    @model_validator(mode="after")
    def _has_records(self) -> Api:
        if self.paging is not None and self.records is None:
            raise ValueError("paging needs the entry `records`, the path of the records in a page")
        if self.without_key is not None and self.key is None:
            raise ValueError("without_key needs the entry `key`, without which these limits apply always")
        if self.batch is not None and not isinstance(self.records, str):
            raise ValueError("batch needs the entry `records`, the path of the records in an answer")
        if self.batch is not None and self.paging is not None:
            raise ValueError("the answers of a batch have no pages: remove `batch` or `paging`")
        return self

    def keyless(self) -> Api:
        """The API with the limits of those who have no key."""
        assert self.without_key is not None
        batch, size = self.batch, self.without_key.batch_size
        return self.model_copy(
            update={
                "key": None,
                "requests_per_minute": self.without_key.requests_per_minute,
                "batch": batch.model_copy(update={"size": size}) if batch and size else batch,
            }
        )


@dataclass(frozen=True)
class Endpoint:
    """A vendor's API, as configured for this installation.

    Args:
        url: takes precedence over the YAML; likewise `rate`, requests a minute as text.
        answer_max_bytes: an answer with more is refused.
        further: the values of `api.key.further`, by environment variable; None for one that is not set.
    """

    source: str
    api: Api
    url: str | None = None
    key: str | None = field(default=None, repr=False)
    rate: str | None = None
    answer_max_bytes: int = 64 * 2**20
    further: Mapping[str, str | None] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, source: str, api: Api, variables: Variables, setting: str = "url") -> Endpoint:
        """The API by its YAML and the settings, which are validated when it is used.

        Args:
            setting: LAKEHOUSE_<SOURCE>_<...> with another address of the API.
        """
        key = variables.secret(api.key.variable) if api.key else None
        return cls(
            source,
            api.keyless() if key is None and api.without_key is not None else api,
            url=variables.source_variable(source, setting),
            key=key,
            rate=variables.source_variable(source, "requests_per_minute"),
            answer_max_bytes=variables.answer_max_bytes,
            further={name: variables.secret(name) for name in (api.key.further.values() if api.key else ())},
        )

    @property
    def address(self) -> str:
        """The URL.

        Raises:
            SourceError: it is not an http(s) URL.
        """
        address = self.url or self.api.url
        try:
            parts = urlsplit(address)
            is_one = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
        except ValueError:
            is_one = False
        if not is_one:
            # Text of another form may begin with a password.
            shown = address.rpartition("@")[2]
            raise SourceError(
                f"{shown!r} is not the address of an API; set LAKEHOUSE_{self.source.upper()}_URL to an http(s) URL"
            )
        return address

    @property
    def key_parameter(self) -> dict[str, str]:
        """The query parameter with the key; empty if a header has it, or the vendor requires none.

        Raises:
            SourceError: the vendor requires a key, and none is set.
        """
        key = self.require_key()
        return {} if self.api.key is None or self.api.key.header or key is None else {self.api.key.parameter: key}

    @property
    def key_header(self) -> dict[str, str]:
        """The header with the key, likewise.

        Raises:
            SourceError: the vendor requires a key, and none is set.
        """
        key = self.require_key()
        if self.api.key is None or key is None:
            return {}
        further = {header: self.further.get(name) or "" for header, name in self.api.key.further.items()}
        if self.api.key.header is None:
            return further
        is_bearer = self.api.key.header.lower() == "authorization"
        return {self.api.key.header: f"Bearer {key}" if is_bearer else key, **further}

    @property
    def secrets(self) -> tuple[str, ...]:
        """The key with its further parts, likewise.

        Raises:
            SourceError: the vendor requires a key, and a part of it is not set.
        """
        key = self.require_key()
        return () if key is None else (key, *(value for value in self.further.values() if value))

    def require_key(self) -> str | None:
        """The key; None if the vendor requires none.

        Raises:
            SourceError: the vendor requires a key, and none is set.
        """
        if unset := self._unset:
            raise SourceError(
                f"{self.source} wants a key and {unset} is not set; put the one that the vendor gave "
                "you into that environment variable, or into .env"
            )
        return self.key if self.api.key is not None else None

    @property
    def lacks_key(self) -> str | None:
        """The reason why no request can be sent, if a key is missing."""
        return f"{self._unset} is not set, so that {self.source} can't be asked" if self._unset else None

    @property
    def _unset(self) -> str | None:
        """The environment variable with the key, or a part of it, that is missing."""
        if self.api.key is None:
            return None
        if self.key is None:
            return self.api.key.variable
        return next((name for name in self.api.key.further.values() if self.further.get(name) is None), None)

    @property
    def requests_per_minute(self) -> int:
        """The vendor's rate: LAKEHOUSE_<SOURCE>_REQUESTS_PER_MINUTE, or else the YAML's; unlimited for a vendor that is
        simulated on this machine.

        Raises:
            SourceError: the variable is not a number of requests, or the address is not a URL.
        """
        if self.rate is None:
            return UNLIMITED if urlsplit(self.address).hostname in LOOPBACK else self.api.requests_per_minute
        if not self.rate.isdecimal() or not int(self.rate):
            raise SourceError(
                f"LAKEHOUSE_{self.source.upper()}_REQUESTS_PER_MINUTE is {self.rate!r}; set it to a whole number of 1 "
                "or more"
            )
        return int(self.rate)

    def warn_of_open_key(self) -> None:
        """Logs, once per process, that the key is sent unencrypted, unless the vendor is simulated on this machine."""
        parts = urlsplit(self.address)
        if self.api.key is not None and parts.scheme == "http" and parts.hostname not in LOOPBACK:
            _warn_of_open_key(self.source, parts.hostname or "", self.api.key.variable)


@cache
def _warn_of_open_key(source: str, host: str, variable: str) -> None:
    logging.getLogger(__name__).warning(
        "%s sends the key in %s to %s unencrypted: use an https:// address in LAKEHOUSE_%s_URL or the defs.yaml",
        *(source, variable, host, source.upper()),
    )


def limiter(requests_a_minute: int) -> Limiter:
    """The limiter that a client acquires before each request."""
    from pyrate_limiter import Duration, Limiter, Rate, SingleBucketFactory, StateBucket, TokenBucket

    # A bucket of a single token spreads requests evenly; one of a minute's worth would allow up to twice the vendor's
    # rate in the first minute. Its state is two numbers, so nothing has to be cleaned up.
    bucket = StateBucket([Rate(requests_a_minute, Duration.MINUTE, burst=1)], algorithm=TokenBucket())
    return Limiter(SingleBucketFactory(bucket, schedule_leak=False), buffer_ms=1)
