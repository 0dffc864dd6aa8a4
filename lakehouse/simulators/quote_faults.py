"""Which requests for quotes go wrong, and how: on demand, and at random by a seed.

What a faulty answer looks like belongs in `quote_answers`.
"""

from __future__ import annotations

import math
from collections import defaultdict, deque
from collections.abc import Iterable, Mapping
from itertools import accumulate
from random import Random
from typing import Literal, cast, get_args

# fmt: off
Fault = Literal[
    "repeated", "late", "out_of_order", "missing_price", "null_price", "null_quote", "rate", "http_500", "timeout",
    "reset", "wrong_json", "wrong_symbol", "future", "text_price",
]
# fmt: on
"""What can go wrong with an answer.

True quotes of the source: `repeated` is the symbol's previous answer again, `late` what the source said 20 to 100 feed
seconds ago, `out_of_order` the quote before that of the previous answer. No valid quote: `missing_price` has no
latestPrice, `null_price` null and `text_price` "n/a" for it; `null_quote` is `null`; `wrong_json` is half an object, or
a page of HTML, with status 200; `wrong_symbol` is another symbol's quote; `future` has a latestUpdate an hour ahead.
`rate` is a 429 with its Retry-After, `http_500` a 500. `timeout` is no answer, and the end of the connection after a
while; `reset` the end at once.
"""
FAULTS: tuple[Fault, ...] = get_args(Fault)
TRUE_QUOTES: tuple[Fault, ...] = ("repeated", "late", "out_of_order")


class FaultPlan:
    """The fault that each request meets.

    Args:
        shares: of a symbol's requests, by the name of the fault that they meet at random.
        seed: of what is random. The n-th request for a symbol meets the same fault, in whatever order those for other
            symbols come.

    Raises:
        ValueError: for an unknown fault, or shares that aren't within 0 to 1 in all.
    """

    def __init__(self, shares: Mapping[str, float], seed: int) -> None:
        if min(shares.values(), default=0.0) < 0 or math.fsum(shares.values()) > 1:
            raise ValueError(f"The shares of faults are {dict(shares)}: give each at least 0, and at most 1 in all.")
        self._limits = list(zip(accumulate(shares.values()), _known(shares), strict=True))
        self._seed = seed
        self._planned: defaultdict[str, deque[Fault]] = defaultdict(deque)

    def order(self, symbol: str, faults: Iterable[str]) -> None:
        """Let the next requests for `symbol` meet these, one each, in order, after those ordered before.

        Raises:
            ValueError: for an unknown fault.
        """
        self._planned[symbol] += _known(faults)

    def next(self, symbol: str, count: int) -> tuple[Fault | None, Random]:
        """What request number `count` for `symbol` meets, and the chance that decides what the fault leaves open."""
        planned = self._planned.get(symbol)
        if not planned and not self._limits:
            return None, _UNUSED
        chance = Random(f"{self._seed} {symbol} {count}")
        if planned:
            return planned.popleft(), chance
        drawn = chance.random()
        return next((fault for limit, fault in self._limits if drawn < limit), None), chance


_UNUSED = Random(0)  # where no fault asks for chance: a generator of its own costs as much as an answer


def _known(faults: Iterable[str]) -> list[Fault]:
    names = list(faults)
    for name in names:
        if name not in FAULTS:
            raise ValueError(f"No fault is named {name}: take one of {', '.join(FAULTS)}.")
    return cast(list[Fault], names)
