"""REST vendors: whom to ask, how fast, how often again, and with which key, so that a request becomes an answer or
an error that says why not.

It knows HTTP and how vendors refuse (`api_answers`). What is asked for, and what the rows of an answer mean, is not
known here.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal

from pydantic import Field, field_validator

from lakehouse.settings import settings
from lakehouse.sources.api_answers import Refusal, pause_s, published_at, refusal_in
from lakehouse.sources.errors import AnswerRefused, NoAnswer, QuotaExhausted, SourceError, Unreachable
from lakehouse.sources.products import Strict
from lakehouse.sources.secret import Secret, WithoutKey

if TYPE_CHECKING:
    import httpx
    from pyrate_limiter import Limiter

# The first wait between two tries; it doubles, and up to as much is added at random, so that threads that failed
# together don't come back together.
FIRST_WAIT_S = 1.0
LONGEST_WAIT_S = 60.0
_MOST_REDIRECTS = 3
_MOST_QUOTED = 300
UNLIMITED = 1_000_000
"""Requests a minute of who is not limited."""
# What httpx and its transport tell, at INFO and DEBUG: URLs with the key, and headers in which a vendor repeats it.
_TALKERS = ("httpx", "httpcore.http11", "httpcore.proxy")


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


@dataclass(frozen=True)
class Answer:
    """What the vendor answered: the bytes (without the key, should they repeat it) and when, by the vendor's clock
    but never later than ours, it was made (UTC).
    """

    body: bytes
    published_at: datetime


class _TryFailed(Exception):
    """A try met something that may pass. `pause_s`: how long the vendor asks to wait."""

    def __init__(self, text: str, pause_s: float = 0.0) -> None:
        super().__init__(text)
        self.pause_s = pause_s


class _NotConnected(_TryFailed):
    """A try met nobody."""


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
            f"{', '.join(unfit)} can't be asked for: the answers of {source} are kept in objects named after their "
            f"symbols, which have no slash. Take it out of LAKEHOUSE_{source.upper()}_SYMBOLS or the defs.yaml"
        )
    return tuple(dict.fromkeys(symbol for symbol in symbols if symbol))


def requests_per_minute(source: str, api: Api, host: str) -> int:
    """The YAML's number, unless LAKEHOUSE_<SOURCE>_REQUESTS_PER_MINUTE says what the user's plan allows. A vendor who
    is played on this machine has no plan.
    """
    said = settings().source_variable(source, "requests_per_minute")
    if said is None:
        return UNLIMITED if host in ("127.0.0.1", "::1", "localhost") else api.requests_per_minute
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


def lacks_key(source: str, api: Api | None) -> str | None:
    """Why a source can't be asked by itself; None where it can."""
    if api is None or api.key is None or settings().secret(api.key.variable) is not None:
        return None
    return f"{api.key.variable} is not set, so that {source} can't be asked"


class ApiClient:
    """Asks one vendor. A context manager; any number of threads may share it, its connections and its rate.

    Args:
        source: name of the source, for settings and errors.
        url: where to ask; None: what the settings or else the YAML say.
        key: the key; None: what the environment says.

    Raises:
        SourceError: the vendor wants a key and there is none, or the address is none.
    """

    def __init__(self, source: str, api: Api, *, url: str | None = None, key: str | None = None) -> None:
        import httpx
        import stamina.instrumentation

        self.source = source
        self.api = api
        address = url or settings().source_variable(source, "url") or api.url
        try:
            self.url = httpx.URL(address)
        except httpx.InvalidURL:
            self.url = httpx.URL()
        if self.url.scheme not in ("http", "https") or not self.url.host:
            raise SourceError(
                f"{address!r} is no address of an API; set LAKEHOUSE_{source.upper()}_URL to an http(s) URL"
            )
        if api.key is not None:
            key = key or settings().secret(api.key.variable)
            if key is None:
                raise SourceError(
                    f"{source} wants a key and {api.key.variable} is not set; put the key that the vendor gave you "
                    "into that environment variable, or into .env"
                )
        # A try that failed is told once, by the error of the last one: lines in between would break progress bars.
        stamina.instrumentation.set_on_retry_hooks([])
        self._secret = Secret(key if api.key else None)
        self._limiter = limiter(requests_per_minute(source, api, self.url.host))
        self._client = httpx.Client(
            timeout=httpx.Timeout(api.timeout_s, pool=None), limits=httpx.Limits(max_connections=api.concurrency)
        )
        self._filter = WithoutKey(self._secret)
        for name in _TALKERS:
            logging.getLogger(name).addFilter(self._filter)

    def __enter__(self) -> ApiClient:
        return self

    def __exit__(self, *raised: object) -> None:
        self._client.close()
        for name in _TALKERS:
            logging.getLogger(name).removeFilter(self._filter)

    def __repr__(self) -> str:
        return f"ApiClient({self.source}, {self._address(self.url)})"

    def get(self, parameters: Mapping[str, str]) -> Answer:
        """Asks until there is an answer, at most `tries` times.

        Args:
            parameters: of the query, without the key. `datatype`, csv or json, says what the answer has to be.

        Raises:
            AnswerRefused: the vendor refuses this request for good.
            QuotaExhausted: the vendor answers nothing more for now.
            NoAnswer: none of the tries brought an answer.
        """
        import stamina

        try:
            for attempt in stamina.retry_context(
                on=_next_wait,
                attempts=self.api.tries,
                timeout=None,
                wait_initial=FIRST_WAIT_S,
                wait_max=LONGEST_WAIT_S,
                wait_jitter=FIRST_WAIT_S,
            ):
                with attempt:
                    return self._answer(parameters)
        except _TryFailed as failed:
            last, error = str(failed), Unreachable if isinstance(failed, _NotConnected) else NoAnswer
        # Raised here and not above: an error that is chained to another shows that one's text, too.
        raise error(
            f"{self.source}: no answer about {self._asked(parameters)} after {self.api.tries} "
            f"{'try' if self.api.tries == 1 else 'tries'}; the last met {last}. The next run asks again; if this "
            f"lasts, look whether {self._address(self.url)} is up, or lower api.requests_per_minute in the defs.yaml"
        )

    def _answer(self, parameters: Mapping[str, str]) -> Answer:
        """One try."""
        response = self._response(parameters)
        now = datetime.now(UTC)
        refusal = self._redirected(response) or refusal_in(
            response.status_code,
            response.content,
            parameters.get("datatype"),
            self.api.refusals,
            self.api.quota_words,
            is_whole="content-length" in response.headers or "transfer-encoding" in response.headers,
        )
        if refusal is None:
            return Answer(self._secret.hidden_in(response.content), published_at(response.headers.get("date"), now))
        said = self._quoted(refusal.text)
        if refusal.kind == "passing":
            raise _TryFailed(said, pause_s(response.headers.get("retry-after"), now))
        if refusal.kind == "quota":
            raise QuotaExhausted(
                f"{self.source} answers nothing more for now, asked for {self._asked(parameters)}: {said}. Run it "
                "again when the vendor's quota is renewed, or get a plan that covers this"
            )
        mend = f", the key in {self.api.key.variable}" if self.api.key else ""
        raise AnswerRefused(
            f"{self.source} refuses {self._asked(parameters)}: {said}. Check the symbol{mend} and the request in the "
            f"defs.yaml of {self.source}"
        )

    def _response(self, parameters: Mapping[str, str]) -> httpx.Response:
        """The vendor's response, whole. Redirections to the vendor's own host are followed; others would take the key
        elsewhere.
        """
        import httpx

        key = {self.api.key.parameter: self._secret.key} if self.api.key else {}
        request = self._client.build_request("GET", self.url.copy_merge_params({**parameters, **key}))
        try:
            for _ in range(_MOST_REDIRECTS + 1):
                self._limiter.try_acquire()
                response = self._client.send(request)
                if response.next_request is None or not self._is_own(response.next_request.url):
                    break
                request = response.next_request
        except httpx.TimeoutException:
            failed = _TryFailed(f"silence: nothing within {self.api.timeout_s:g} s")
        except httpx.RequestError as error:
            kind = _NotConnected if isinstance(error, httpx.ConnectError) else _TryFailed
            failed = kind(self._quoted(f"{type(error).__name__}: {error}"))
        else:
            return response
        raise failed

    def _is_own(self, url: httpx.URL) -> bool:
        """Whether an address is the vendor's: the same host, and not in clear text if it was encrypted before."""
        own = (self.url.scheme, self.url.host, self.url.port)
        return (url.scheme, url.host, url.port) in (own, ("https", self.url.host, None))

    def _redirected(self, response: httpx.Response) -> Refusal | None:
        if response.next_request is None:
            return None
        return Refusal(
            "permanent",
            f"it redirects to {self._address(response.next_request.url)}, which is not followed; if the vendor has "
            f"moved, set LAKEHOUSE_{self.source.upper()}_URL",
        )

    def _asked(self, parameters: Mapping[str, str]) -> str:
        """The request as people read it: `TIME_SERIES_INTRADAY symbol=AAPL month=2020-11`."""
        said = [value if name == "function" else f"{name}={value}" for name, value in parameters.items()]
        return self._secret.hidden(" ".join(said))

    def _quoted(self, text: str) -> str:
        text = self._secret.hidden(text).rstrip(".")
        return text if len(text) <= _MOST_QUOTED else f"{text[:_MOST_QUOTED]}..."

    def _address(self, url: httpx.URL) -> str:
        return self._secret.hidden(str(url.copy_with(query=None, userinfo=b"")))


def _next_wait(error: Exception) -> bool | float:
    """How long to wait before the next try: as long as the vendor asks, or (True) as the back-off has it; False:
    there is no next one.
    """
    return isinstance(error, _TryFailed) and (error.pause_s or True)
