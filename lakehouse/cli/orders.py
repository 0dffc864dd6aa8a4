"""`lakehouse orders`: a saga of five services; its workers, and how people hand in and oversee orders."""

from __future__ import annotations

import json
import signal
import socket
import sys
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lakehouse.cli.explained import console, errors, explained, print_error
from lakehouse.cli.next_steps import try_next

if TYPE_CHECKING:
    from lakehouse.domains.orders.control import Desk, Submitted, Tracked
    from lakehouse.domains.orders.simulation import Outcome
    from lakehouse.ingest.postgres.capture import CaptureResult
    from lakehouse.servers.postgres import Place
    from lakehouse.sinks import Sink

orders_app = typer.Typer(
    name="orders",
    help="Run orders as sagas on PostgreSQL: submit, watch and oversee them.",
    no_args_is_help=True,
)
KeyArgument = Annotated[str, typer.Argument(metavar="KEY", help="Key of the order.")]


def _place() -> tuple[Place, Path]:
    """Where the database is, and the folder of the simulated services."""
    from lakehouse.catalog import database_place
    from lakehouse.domains.orders.source import services_folder
    from lakehouse.settings import settings

    config = settings()
    return database_place(config), services_folder(config.home)


def _sink() -> Sink | None:
    """Where notices go.

    Raises:
        SinkFault: the setting can't be used.
    """
    from lakehouse.settings import settings
    from lakehouse.sinks import Sink

    setting = settings().orders_notices
    return Sink(setting) if setting else None


@contextmanager
def _desk() -> Iterator[Desk]:
    """The desk while a command lasts; a refusal is printed and ends the command with status 1."""
    from lakehouse.domains.orders.control import OrderRefused, open_desk

    with explained():
        try:
            with open_desk(_place()[0]) as desk:
                yield desk
        except OrderRefused as refusal:
            print_error(refusal)
            raise typer.Exit(1) from None


def _say(text: str) -> None:
    console.print(text, highlight=False, markup=False, soft_wrap=True)


@orders_app.command()
def init() -> None:
    """Make the tables of the orders, or bring them up to date."""
    from lakehouse.domains.orders.control import initialize

    with explained():
        new = initialize(_place()[0])
    _say(f"The schema orders has new revisions: {', '.join(new)}." if new else "The schema orders was up to date.")
    try_next("orders submit orders.jsonl", "orders simulate --orders 20 --seed 1", "orders capture")


@orders_app.command()
def worker(
    executor: Annotated[
        str | None,
        typer.Option("--id", metavar="NAME", help="Its name, the same each time; made of the host's by default."),
    ] = None,
) -> None:
    """Run a worker until Ctrl-C. Several may run at once under different names."""
    from lakehouse.domains.orders.control import initialize
    from lakehouse.domains.orders.worker import run_worker

    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    place, folder = _place()
    name = executor or f"{socket.gethostname()}-1"
    with explained():
        sink = _sink()
        initialize(place)
        _say(f"Worker {name} runs; Ctrl-C ends it.")
        run_worker(place, folder, name, sink, stop)


@orders_app.command()
def submit(
    file: Annotated[Path, typer.Argument(help="JSON lines, or - for standard input.", allow_dash=True)],
) -> None:
    """Hand in a file of JSON lines, and report on each.

    A line is {"key", "customer_id", "products": {"1": 1}, "payment_amount", "delivery_address", "payment_method"?}.
    The key makes it safe to repeat. Exits with 1 where a line was refused.
    """
    from lakehouse.domains.orders.database.requests import read_request

    with _desk() as desk:
        _report(desk.submit(read_request(line) for line in _lines(file)), ("submitted", "replayed", "refused"))


@orders_app.command()
def track(
    file: Annotated[Path, typer.Argument(help="JSON lines, or - for standard input.", allow_dash=True)],
) -> None:
    """Take in what the carrier says of deliveries, as JSON lines, and report on each.

    A line is {"event_id", "tracking_number", "status", "occurred_at"}, with In Transit, Delivered or Failed as status.
    Repeated and late events change nothing. Exits with 1 where a line was refused.
    """
    from lakehouse.domains.orders.database.tracking import read_carrier_event

    with _desk() as desk:
        became = desk.track(read_carrier_event(line) for line in _lines(file))
        _report(became, ("applied", "late", "waiting", "replayed", "refused"))


def _lines(file: Path) -> list[str]:
    """The lines of a file that aren't blank."""
    text = sys.stdin.read() if str(file) == "-" else file.read_text(encoding="utf-8", errors="replace")
    return [line for line in text.split("\n") if line.strip()]


def _report(answers: Iterable[Submitted | Tracked], statuses: Sequence[str]) -> None:
    """Prints what became of each line as JSON, and the counts; ends the command with 1 where one was refused."""
    counts = dict.fromkeys(statuses, 0)
    for answer in answers:
        counts[answer.status] += 1
        sys.stdout.write(json.dumps({name: value for name, value in vars(answer).items() if value is not None}))
        sys.stdout.write("\n")
    errors.print(", ".join(f"{count:,} {status}" for status, count in counts.items()), highlight=False)
    if counts["refused"]:
        raise typer.Exit(1)


@orders_app.command()
def show(key: KeyArgument) -> None:
    """Show an order with its lines, events and notifications, as JSON."""
    from lakehouse.domains.orders.reading import show_order

    with _desk() as desk:
        sys.stdout.write(f"{json.dumps(show_order(desk, key), default=str, indent=2)}\n")


@orders_app.command(name="list")
def list_command(
    stuck: Annotated[bool, typer.Option("--stuck", help="Only orders that need a person: marked, or late.")] = False,
    form: Annotated[str, typer.Option("--format", metavar="table|json", help="How to print them.")] = "table",
) -> None:
    """List orders."""
    from lakehouse.domains.orders.reading import list_orders

    if form not in ("table", "json"):
        raise typer.BadParameter("it is neither table nor json", param_hint="--format")
    with _desk() as desk:
        found = list_orders(desk, stuck=stuck)
    if form == "json":
        sys.stdout.write(f"{json.dumps(found, default=str)}\n")
        return
    for order in found:
        _say(
            f"{order['order_id']:<24} {order['order_status']:<11} {order['payment_amount']:>14,} "
            f"{order['payment_status']:<9} {order['delivery_status']:<14} {order['attention'] or ''}".rstrip()
        )
    _say(f"{len(found):,} orders")


@orders_app.command()
def resume(key: KeyArgument) -> None:
    """Let an order go on that stopped, from the step that failed."""
    with _desk() as desk:
        workflow = desk.resume(key)
    _say(f"Order {key} goes on as {workflow}.")


@orders_app.command()
def cancel(key: KeyArgument) -> None:
    """Cancel an order that isn't with the carrier yet."""
    with _desk() as desk:
        desk.cancel(key)
    _say(f"Order {key} will be cancelled, and what it has taken given back.")


@orders_app.command()
def fork(
    key: KeyArgument,
    step: Annotated[str, typer.Option("--from", metavar="STEP", help="First step to run again, such as charge.")],
) -> None:
    """Run an order again from a step, by the present version of the saga."""
    with _desk() as desk:
        workflow = desk.fork(key, step)
    _say(f"Order {key} goes on from {step} as {workflow}.")


@orders_app.command()
def graph(
    key: Annotated[str | None, typer.Argument(metavar="[KEY]", help="Order whose steps are marked.")] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write to this file: as SVG if it ends in .svg.")
    ] = None,
) -> None:
    """Draw the saga: its steps and what leads from one to another, as Mermaid or SVG."""
    from lakehouse.analyses.graph import as_mermaid, as_svg
    from lakehouse.domains.orders.graph import saga_graph

    states = {}
    if key is not None:
        with _desk() as desk:
            states = desk.step_states(key)
    with explained():
        is_svg = output is not None and output.suffix.lower() == ".svg"
        text = (as_svg if is_svg else as_mermaid)(saga_graph(states))
        if output is None:
            _say(text.rstrip("\n"))
        else:
            output.write_text(text, encoding="utf-8")


@orders_app.command()
def restock(
    product: Annotated[int, typer.Argument(metavar="PRODUCT", help="Id of the product.")],
    quantity: Annotated[int, typer.Argument(metavar="QUANTITY", min=1, help="How many pieces came in.")],
    key: Annotated[str, typer.Option("--key", metavar="KEY", help="Your name of this receipt, such as its note's.")],
) -> None:
    """Take in stock from a supplier, once per key."""
    from lakehouse.domains.orders.control import OrderRefused
    from lakehouse.domains.orders.database.steps import restock as take_in

    with _desk() as desk, desk.transaction() as connection:
        if connection.execute("SELECT FROM orders.inventory WHERE product_id = %s", [product]).fetchone() is None:
            raise OrderRefused(f"There is no product {product}")
        new = take_in(connection, key, product, quantity)
    _say(f"{quantity:,} pieces of product {product} came in." if new else f"Receipt {key} was booked already.")


@orders_app.command()
def simulate(
    orders: Annotated[int, typer.Option("--orders", min=1, max=999_999, help="How many orders.")],
    seed: Annotated[int, typer.Option("--seed", min=0, help="Another one varies the timing and the kills.")] = 1,
    workers: Annotated[int, typer.Option("--workers", min=1, max=16, help="How many workers.")] = 2,
    kill: Annotated[
        bool, typer.Option("--kill", help="Kill a worker, the provider, the carrier and an embedded database.")
    ] = False,
    scarce: Annotated[bool, typer.Option("--scarce", help="Don't take in the stock that the orders need.")] = False,
) -> None:
    """Play orders with declines, refusals and lost answers, and count what came out. Exits with 1 where an invariant is
    broken.
    """
    from lakehouse.domains.orders.simulation import Plan, SimulationStuck
    from lakehouse.domains.orders.simulation import simulate as play

    place, folder = _place()
    with explained(), console.status("orders") as shown:

        def progress(done: int, total: int) -> None:
            shown.update(f"{done:,} of {total:,} orders have ended")

        try:
            outcome = play(Plan(orders, seed, workers, kill, scarce, _sink()), place, folder, progress)
        except SimulationStuck as stuck:
            print_error(stuck)
            raise typer.Exit(1) from None
        shown.update("capture into the lake")
        _capture()
    _print_outcome(outcome)
    if not outcome.is_sound:
        raise typer.Exit(1)


@orders_app.command()
def capture() -> None:
    """Capture what the database has committed since the last time into the lake's tables.

    Exits with status 1 where a table has stopped, since its columns differ from its contract.
    """
    with explained():
        result = _capture()
    _say(f"Captured {result.changes:,} changes of {result.transactions:,} transactions, up to {result.position}.")
    for name, reason in result.stopped.items():
        errors.print(f"{name} has stopped: {reason}", highlight=False, markup=False, soft_wrap=True)
    if result.stopped:
        raise typer.Exit(1)


def _capture() -> CaptureResult:
    """Brings the lake's tables in line with the database."""
    from lakehouse.api import Lake
    from lakehouse.catalog import described_source
    from lakehouse.derive.captured import CapturedSource, capture_and_derive

    source = described_source("orders")
    assert isinstance(source, CapturedSource)
    return capture_and_derive(Lake.present(), source)


def _print_outcome(outcome: Outcome) -> None:
    for name, count in outcome.counts.items():
        _say(f"{name:<40} {count:>10,}")
    if outcome.seconds:
        _say(f"{'orders per second':<40} {outcome.counts['orders'] / outcome.seconds:>10,.1f}")
    if outcome.killed:
        _say(f"{'killed':<40} {', '.join(outcome.killed)}")
    for name, keys in outcome.broken.items():
        state = f"BROKEN by {len(keys):,}, such as {keys[0]}" if keys else "holds"
        _say(f"{name:<40} {state:>10}")
