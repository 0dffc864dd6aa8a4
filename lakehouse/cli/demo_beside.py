"""Plays the feed, the shop, the bank and the orders in a second process while the demo loads the exchange and the
vendor. They are independent, and the lake supports concurrent writers: on two cores the demo takes two thirds of
what it takes in one process.
"""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import asdict, dataclass
from datetime import date

from rich.console import Console

from lakehouse.child_process import started
from lakehouse.cli.demo_outcomes import RunFailed, answer_of
from lakehouse.errors import LakehouseError
from lakehouse.local_dagster.display import Display

_SCENES = "the feed, the shop, the bank and the orders"


@dataclass(frozen=True)
class _Scenes:
    """What is to be played, and how it is to be printed."""

    seed: int
    first: str
    last: str
    width: int
    is_colored: bool


@contextmanager
def playing_beside(console: Console, seed: int, first: date, last: date) -> Iterator[Callable[[], None]]:
    """Plays the scenes in a process with this one's environment, which ends with the block. Yields a function that
    waits for them and prints their output; it raises `RunFailed` if one of them failed.
    """
    scenes = _Scenes(seed, first.isoformat(), last.isoformat(), console.width, console.color_system is not None)
    with started(f"{__package__}.demo_beside", json.dumps(asdict(scenes))) as process:

        def show() -> None:
            with Display(console) as display:
                display.show(_SCENES, 0, 0)
                said = answer_of(process, _SCENES)
            console.file.write(said["printed"])
            if said["error"]:
                raise RunFailed(said["error"])

        yield show


def _main() -> None:
    scenes = _Scenes(**json.loads(sys.argv[1]))
    said, error = io.StringIO(), None
    # The output is the answer's alone.
    with redirect_stdout(sys.stderr):
        try:
            _play(scenes, said)
        except LakehouseError as failure:
            error = str(failure)
    json.dump({"printed": said.getvalue(), "error": error}, sys.stdout)


def _play(scenes: _Scenes, said: io.StringIO) -> None:
    from lakehouse.catalog import database_place
    from lakehouse.cli.demo_bank import play_bank
    from lakehouse.cli.demo_feed import play_feed
    from lakehouse.cli.demo_orders import orders_played, show_orders
    from lakehouse.cli.demo_outcomes import print_faults, print_stage
    from lakehouse.cli.demo_shop import play_shop, print_shop
    from lakehouse.servers.postgres import database
    from lakehouse.settings import settings

    console = Console(file=said, width=scenes.width, color_system="standard" if scenes.is_colored else None)
    # Never shown: the waiting process shows the progress bar.
    display = Display(Console(quiet=True))
    first, last = date.fromisoformat(scenes.first), date.fromisoformat(scenes.last)
    # The server is started once for the bank and the orders.
    with database(database_place(settings())), orders_played(scenes.seed) as counts:
        play_feed(console, scenes.seed)
        for outcome in play_shop(console, display, settings().home, first, last, scenes.seed):
            print_stage(console, "Loaded", outcome)
        print_shop(console)
        print_faults(console, play_bank(console, display, first, last, scenes.seed))
        print_faults(console, show_orders(console, display, counts()))


if __name__ == "__main__":
    _main()
