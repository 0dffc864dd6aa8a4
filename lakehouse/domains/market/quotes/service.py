"""Runs a feed: polls all symbols on one timer, or subscribes to a broker, while a separate thread commits the results.
Neither side waits for the other.

Storing quotes and deriving their windows belongs in `ingest`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime

from lakehouse.domains.market.quotes.batch import QuoteBatch
from lakehouse.domains.market.quotes.clock import slot_after, until
from lakehouse.domains.market.quotes.feed import Feed
from lakehouse.domains.market.quotes.ingest import Intake, Round, Totals, now
from lakehouse.domains.market.quotes.poller import Poller
from lakehouse.errors import LakehouseError, LakeUnavailable
from lakehouse.lake.lake import Lake

Told = Callable[[Round], None]
"""Callback for each finished round; runs in the writer's thread."""

# Limit of what may queue up while the lake doesn't answer: some hundred megabytes.
_MOST_WAITING = 200_000


class FeedStopped(LakehouseError):
    """The service can't continue; the message says why."""


async def poll(
    lake: Lake, feed: Feed, stop: asyncio.Event, *, rounds: int | None = None, told: Told = lambda _: None
) -> Totals:
    """Polls round by round until `stop`, or `rounds` times; finishes the current round.

    A round is committed when all polls are done, or after `round_timeout_s`. Later answers are committed with the next
    round, so a slow symbol doesn't delay the others. Slots that pass during a long round are skipped.

    Raises:
        SourceError: the settings are invalid.
        FeedStopped: the lake has been unavailable for so long that quotes would be lost.
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
            # On shutdown, don't block on a hung vendor.
            await asyncio.wait(under_way, timeout=feed.config.round_timeout_s if stop.is_set() else None)
            await poller.give_up(under_way)
            writer.write(now(), poller.inbox.take(), counts=False)
    return await writer.finished()


async def listen(
    lake: Lake, feed: Feed, stop: asyncio.Event, *, rounds: int | None = None, told: Told = lambda _: None
) -> Totals:
    """Ingests what a broker pushes until `stop`, or `rounds` times: one commit per `poll_interval_s`. Messages are
    acknowledged only after their commit.

    Raises:
        SourceError: the settings are invalid, or the broker has no such stream.
        FeedStopped: the lake has been unavailable for so long that quotes would be lost.
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
                # The broker redelivers what isn't acknowledged.
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
    """Commits batches in order, in its own thread; batches that queue up during a commit are committed together."""

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
        """Whether the thread still runs; it ends when it can't write any more."""
        return self._task is not None and not self._task.done()

    def write(self, slot_at: datetime, inbox: QuoteBatch, *, counts: bool = True) -> None:
        """Queues a batch. `counts`: whether it is a round, rather than late answers to one."""
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
