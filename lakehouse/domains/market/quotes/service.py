"""The service: one timer that fans out over all symbols, or a broker that is listened to, and a writer that commits
what came, so that neither waits for the other.

What becomes of what came is `intake`'s matter.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime

from lakehouse.domains.market.quotes.clock import slot_after, until
from lakehouse.domains.market.quotes.feed import Feed
from lakehouse.domains.market.quotes.ingest import Intake, Round, Totals, now
from lakehouse.domains.market.quotes.poller import Poller, QuoteBatch
from lakehouse.errors import LakehouseError, LakeUnavailable
from lakehouse.lake.lake import Lake

Told = Callable[[Round], None]
"""Is told of each round, in the thread that writes."""

# What may wait for a lake that doesn't answer: some hundred megabytes.
_MOST_WAITING = 200_000


class FeedStopped(LakehouseError):
    """The service can't go on; the message says why."""


async def poll(
    lake: Lake, feed: Feed, stop: asyncio.Event, *, rounds: int | None = None, told: Told = lambda _: None
) -> Totals:
    """Polls round by round until `stop`, or `rounds` times; the round that is under way is finished.

    A round is committed when all polls are through, or after `round_timeout_s`: later answers go with the next one, so
    that a slow symbol delays no other. Rounds whose slot passed while the one before was under way are left out.

    Raises:
        SourceError: the settings can't work.
        FeedStopped: the lake has not answered for so long that quotes would be lost.
    """
    writer = _Writer(Intake(lake, feed), told)
    await writer.start()
    async with Poller(feed) as poller:
        if poller.shortfall:
            told(Round(slot_at=now(), trouble=poller.shortfall))
        slot = slot_after(now(), feed.config.poll_interval_s)
        under_way: list[asyncio.Task[None]] = []
        made = 0
        while (rounds is None or made < rounds) and writer.goes_on and await until(slot, stop):
            asked = poller.ask_all(slot, feed.config.poll_interval_s)
            under_way = [task for task in under_way if not task.done()] + asked
            await asyncio.wait(asked, timeout=min(feed.config.round_timeout_s, feed.config.poll_interval_s * 0.8))
            writer.write(slot, poller.inbox.take())
            made += 1
            slot = slot_after(max(slot, now()), feed.config.poll_interval_s)
        if under_way:
            # Somebody who stops it doesn't wait for a vendor that hangs.
            await asyncio.wait(under_way, timeout=feed.config.round_timeout_s if stop.is_set() else None)
            await poller.give_up(under_way)
            writer.write(now(), poller.inbox.take(), counts=False)
    return await writer.finished()


async def listen(
    lake: Lake, feed: Feed, stop: asyncio.Event, *, rounds: int | None = None, told: Told = lambda _: None
) -> Totals:
    """Takes in what a broker pushes, a commit for what comes within `poll_interval_s`, until `stop`, or `rounds` times.
    What is committed is acknowledged, in this order.

    Raises:
        SourceError: the settings can't work, or the broker has no such stream.
        FeedStopped: the lake has not answered for so long that quotes would be lost.
    """
    from lakehouse.domains.market.quotes.nats.subscriber import Listener

    intake, totals = Intake(lake, feed), Totals()
    await asyncio.to_thread(intake.catch_up)
    async with Listener(feed) as listener:
        while (rounds is None or totals.rounds < rounds) and not stop.is_set():
            inbox = await listener.hear(feed.config.poll_interval_s)
            try:
                made = await asyncio.to_thread(intake.take_in, now(), inbox)
            except LakeUnavailable as error:
                # What isn't acknowledged comes again.
                await listener.give_back()
                told(Round(slot_at=now(), trouble=str(error)))
                continue
            await listener.done()
            unanswered = listener.trouble is not None and not made.received
            made = replace(made, trouble=listener.trouble, errors=made.errors + unanswered)
            told(made)
            totals.add(made)
    return totals


class _Writer:
    """Commits what is handed to it in a thread of its own, in order; what is handed in while it writes, together."""

    def __init__(self, intake: Intake, told: Told) -> None:
        self._intake, self._told = intake, told
        self._waiting: list[tuple[datetime, QuoteBatch, int]] = []
        self._news = asyncio.Event()
        self._ends = False
        self._task: asyncio.Task[None] | None = None
        self._totals = Totals()

    async def start(self) -> None:
        await asyncio.to_thread(self._intake.catch_up)
        self._task = asyncio.create_task(self._run())

    @property
    def goes_on(self) -> bool:
        """Whether it still writes; it ends by itself when it can't."""
        return self._task is not None and not self._task.done()

    def write(self, slot_at: datetime, inbox: QuoteBatch, *, counts: bool = True) -> None:
        """Hands an inbox over. `counts`: it is a round of its own, and not what came late to one."""
        self._waiting.append((slot_at, inbox, int(counts)))
        self._news.set()

    async def finished(self) -> Totals:
        """Waits until everything is committed."""
        assert self._task is not None
        self._ends = True
        self._news.set()
        await self._task
        return self._totals

    async def _run(self) -> None:
        while not self._ends or self._waiting:
            await self._news.wait()
            self._news.clear()
            if self._waiting:
                await self._write()

    async def _write(self) -> None:
        several, self._waiting = self._waiting, []
        slot_at = several[-1][0]
        together = QuoteBatch(
            [item for _, inbox, _ in several for item in inbox.heard],
            [error for _, inbox, _ in several for error in inbox.errors],
        )
        counted = sum(counts for *_, counts in several)
        if not counted and not together.heard and not together.errors:
            return
        try:
            made = await asyncio.to_thread(self._intake.take_in, slot_at, together, counted)
        except LakeUnavailable as error:
            if self._ends or len(together.heard) > _MOST_WAITING:
                raise FeedStopped(
                    f"{error}. {len(together.heard):,} quotes could not be stored; start the service again when the "
                    "lake answers"
                ) from error
            self._waiting.insert(0, (slot_at, together, counted))
            await asyncio.to_thread(self._told, Round(slot_at=slot_at, trouble=str(error)))
            return
        self._totals.add(made)
        await asyncio.to_thread(self._told, made)
