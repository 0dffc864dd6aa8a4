"""A vendor's REST API on loopback, in the format of Alpha Vantage, with its refusals and failures on demand.

Which answer a request gets: what is said belongs in `us_market` or `served_files`, how it is worded in
`vendor_answers`, how it is sent in `vendor_server`.
"""

from __future__ import annotations

import random
import threading
import time
from collections import Counter, deque
from dataclasses import dataclass
from datetime import UTC, datetime
from types import TracebackType
from typing import Literal, NamedTuple

from lakehouse.simulators.vendor_answers import (
    DAILY,
    FAULTS,
    INTRADAY,
    TRANSIENT,
    Content,
    Fault,
    Question,
    Reply,
    damaged,
    faulty,
    invalid_call,
    invalid_key,
    refusal,
    series,
    unknown_function,
)
from lakehouse.simulators.vendor_server import VendorServer

_COMPACT_ROWS = 100


class Request(NamedTuple):
    """A request as received, without its key, and what it got.

    `moment` is the real time in UTC, whatever the vendor's clock says. `answer` is "data", "unknown_function",
    "invalid_call" (an unknown symbol too), "invalid_key", "rate_limit", or the fault's name.
    """

    function: str
    symbol: str
    month: str
    moment: datetime
    answer: str


@dataclass
class _PlannedFault:
    fault: Fault
    symbol: str
    function: str | None
    month: str | None
    forever: bool

    def matches(self, question: Question) -> bool:
        return (
            self.symbol == question.symbol
            and self.function in (None, question.function)
            and self.month in (None, question.month)
        )


class VendorApi:
    """A server of `GET <url>/query?function=...&symbol=...&apikey=...` while its context is open.

    It plays TIME_SERIES_INTRADAY (1min, a named month) and TIME_SERIES_DAILY_ADJUSTED, as CSV and as JSON. `url` is its
    address, a free port of 127.0.0.1; `requests` what it was asked. `clock` is its own time, which the `Date`
    header and the content follow: a moment in UTC that may be set at any time, or None for the real time.

    Args:
        content: what it has to tell.
        api_key: the only key that it takes.
        clock: see above.
        requests_per_minute: more of them are refused with `rate_answer`; unlimited by default.
        retry_after: seconds that an answer 429 asks to wait.
        slow_seconds: how long a slow answer takes.
        seed: of the faults at random; the same requests meet the same faults, in whatever order they come.
        fault_rate: the share of requests that meet one of `TRANSIENT` at random.

    Raises:
        OSError: on entering, if no port can be had.
    """

    def __init__(
        self,
        content: Content,
        *,
        api_key: str = "SIMULATED-KEY",
        clock: datetime | None = None,
        requests_per_minute: int | None = None,
        rate_answer: Literal["rate_note", "information"] = "rate_note",
        retry_after: int = 1,
        slow_seconds: float = 3.0,
        seed: int = 1,
        fault_rate: float = 0.0,
    ) -> None:
        self.clock = clock
        self.requests: list[Request] = []
        self._content = content
        self._key = api_key
        self._requests_per_minute = requests_per_minute
        self._rate_answer = rate_answer
        self._retry_after = retry_after
        self._slow_seconds = slow_seconds
        self._seed = seed
        self._fault_rate = fault_rate
        self._planned: list[_PlannedFault] = []
        self._asked: Counter[Question] = Counter()
        self._accepted: deque[float] = deque()
        self._lock = threading.Lock()
        self._server: VendorServer | None = None

    @property
    def url(self) -> str:
        """The address, without a path.

        Raises:
            RuntimeError: outside of the context.
        """
        if self._server is None:
            raise RuntimeError("The vendor's API isn't running: ask for its url within its `with` block.")
        return self._server.url

    def now(self) -> datetime:
        """The vendor's time in UTC."""
        return self.clock.astimezone(UTC) if self.clock else datetime.now(UTC)

    def fail(
        self,
        symbol: str,
        *faults: Fault,
        function: str | None = None,
        month: str | None = None,
        forever: bool = False,
    ) -> None:
        """Let requests for `symbol` (of `function` and `month` alone, if named) meet these faults, one each, in order.

        With `forever` the last fault stays, until `mend`.

        Raises:
            ValueError: if there is no such fault.
        """
        for fault in faults:
            if fault not in FAULTS:
                raise ValueError(f"No fault is named {fault}: take one of {', '.join(FAULTS)}.")
        planned = [_PlannedFault(fault, symbol, function, month, False) for fault in faults]
        if planned:
            planned[-1].forever = forever
        with self._lock:
            self._planned += planned

    def mend(self) -> None:
        """Forget every fault that `fail` ordered and no request has met."""
        with self._lock:
            self._planned.clear()

    def answer(self, parameters: dict[str, str]) -> Reply:
        """The answer to a query with these parameters; the request is noted."""
        question = Question(*(parameters.get(name, "") for name in ("function", "symbol", "month")))
        refused: Reply | None = None
        with self._lock:
            if parameters.get("apikey") != self._key:
                refused, word = invalid_key(), "invalid_key"
            elif self._too_many():
                refused, word = refusal(self._rate_answer, self._key), "rate_limit"
            else:
                fault = self._next_fault(question)
        if refused is None:
            refused, word = self._series(question, parameters, fault)
        with self._lock:
            self.requests.append(Request(*question, datetime.now(UTC), word))
        return refused

    def _series(self, question: Question, parameters: dict[str, str], fault: Fault | None) -> tuple[Reply, str]:
        now = self.now()
        if question.function not in (INTRADAY, DAILY):
            reply, word = unknown_function(question.function), "unknown_function"
        elif (lines := self._lines(question, parameters, now)) is None:
            reply, word = invalid_call(question.function), "invalid_call"
        else:
            if parameters.get("outputsize") != "full":
                lines = lines[: _COMPACT_ROWS + 1]
            if fault:
                lines = damaged(fault, question, lines)
            datatype = "json" if fault == "json_instead" else parameters.get("datatype", "json")
            reply, word = series(question, lines, self._content.line_end, datatype), "data"
        if fault:
            reply, word = faulty(fault, reply, question, self._key, self._retry_after, now), fault
        return reply, word

    def _lines(self, question: Question, parameters: dict[str, str], now: datetime) -> list[str] | None:
        if question.function == DAILY:
            return self._content.daily(question.symbol, now)
        if parameters.get("interval") != "1min" or not _is_month(question.month):
            return None
        adjusted, extended = (parameters.get(name, "true") == "true" for name in ("adjusted", "extended_hours"))
        return self._content.intraday(question.symbol, question.month, adjusted, extended, now)

    def _too_many(self) -> bool:
        moment = time.monotonic()
        while self._accepted and self._accepted[0] <= moment - 60:
            self._accepted.popleft()
        if self._requests_per_minute is not None and len(self._accepted) >= self._requests_per_minute:
            return True
        self._accepted.append(moment)
        return False

    def _next_fault(self, question: Question) -> Fault | None:
        self._asked[question] += 1
        for planned in self._planned:
            if planned.matches(question):
                if not planned.forever:
                    self._planned.remove(planned)
                return planned.fault
        # Of the question and how often it was asked, not of the order in which threads happen to ask.
        chance = random.Random(f"{self._seed} {'|'.join(question)} {self._asked[question]}")
        return chance.choice(TRANSIENT) if chance.random() < self._fault_rate else None

    def __enter__(self) -> VendorApi:
        self._server = VendorServer(self.answer, self.now, self._slow_seconds)
        self._server.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._server is not None:
            self._server.stop()
            self._server = None


def _is_month(text: str) -> bool:
    try:
        return datetime.strptime(text, "%Y-%m").strftime("%Y-%m") == text
    except ValueError:
        return False
