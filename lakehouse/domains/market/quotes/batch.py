"""What a feed has answered since it was asked last: quotes, and attempts without one.

Apart from `poller`, so that readers of quotes don't import its HTTP client.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from lakehouse.domains.market.quotes.parse import Heard


@dataclass(frozen=True)
class PollError:
    """An attempt that returned no quote. `kind`: passing, permanent, quota, or unfinished (the slot was over)."""

    symbol: str
    slot_at: datetime
    attempt: int
    kind: Literal["passing", "permanent", "quota", "unfinished"]
    error: str
    occurred_at: datetime


@dataclass
class QuoteBatch:
    """The answers and errors received since the last `take`."""

    heard: list[Heard] = field(default_factory=list)
    errors: list[PollError] = field(default_factory=list)

    def take(self) -> QuoteBatch:
        """Returns the contents and empties the batch."""
        taken = QuoteBatch(self.heard, self.errors)
        self.heard, self.errors = [], []
        return taken
