"""The component behind the orders' `defs.yaml`: the capture of its database, and sensors that watch over the saga."""

import time
from typing import ClassVar

import dagster as dg
from dagster._core.storage.dagster_run import IN_PROGRESS_RUN_STATUSES

from lakehouse.components.database_capture import CaptureComponent, Resolve
from lakehouse.components.order_pictures import saga_picture, steps_picture
from lakehouse.derive.captured import CapturedSource
from lakehouse.domains.orders.config import OrdersConfig
from lakehouse.domains.orders.control import open_desk
from lakehouse.domains.orders.reading import list_orders
from lakehouse.domains.orders.source import orders_source, services_folder
from lakehouse.domains.orders.worker_process import WorkerProcess
from lakehouse.errors import DatabaseUnavailable
from lakehouse.servers.postgres import is_used
from lakehouse.settings import settings
from lakehouse.sinks import Sink

_RECOVERY_S = 15
_OVERDUE_S = 60
_POLL_S = 0.5


class OrderCapture(CaptureComponent):
    """The database of an order system.

    The attributes are those of `lakehouse.domains.orders.config.OrdersConfig`.
    """

    model = OrdersConfig
    config: OrdersConfig
    pictures: ClassVar = {"orders": saga_picture, "events": steps_picture}

    def resolve(self) -> CapturedSource:
        return orders_source(self.config, settings())

    def build_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:
        name = self.config.source
        work = _work_job(name, self.resolve)
        sensors = [_recovery_sensor(name, self.resolve, work), _overdue_sensor(name, self.resolve)]
        return dg.Definitions.merge(super().build_defs(context), dg.Definitions(jobs=[work], sensors=sensors))


def _work_job(name: str, resolve: Resolve) -> dg.JobDefinition:
    """The job that runs a worker until no order waits."""

    @dg.op(name=f"{name}_worker")
    def work(context: dg.OpExecutionContext) -> None:
        place, config = resolve().place, settings()
        sink = Sink(config.orders_notices) if config.orders_notices else None
        with open_desk(place) as desk:
            worker = WorkerProcess.start(place, services_folder(config.home), f"dagster-{context.run_id[:8]}", sink)
            try:
                while waiting := desk.unfinished():
                    if worker.process.poll() is not None:
                        raise dg.Failure(f"The worker {worker.executor} ended while {waiting} orders wait")
                    time.sleep(_POLL_S)
            finally:
                worker.stop()

    @dg.job(name=f"{name}_work", description="Runs a worker until no order waits.")
    def job() -> None:
        work()

    return job


def _recovery_sensor(name: str, resolve: Resolve, work: dg.JobDefinition) -> dg.SensorDefinition:
    @dg.sensor(
        name=f"{name}_recovery",
        job=work,
        minimum_interval_seconds=_RECOVERY_S,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Hands the orders of workers without a heartbeat for 30 s to the others, or to a new worker.",
    )
    def recover(context: dg.SensorEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        place = resolve().place
        if not is_used(place):
            return dg.SkipReason("Nothing uses the embedded database, so no worker runs")
        try:
            with open_desk(place) as desk:
                found = desk.recover()
                workers, waiting = desk.live_workers(), desk.unfinished()
        except DatabaseUnavailable as error:
            return dg.SkipReason(str(error))
        said = "No worker died"
        if found.executors:
            said = f"{len(found.orders)} orders of {', '.join(found.executors)} were handed to other workers"
            context.log.warning(said)
        if taken := (*found.takeover.moved, *found.takeover.forked):
            said = f"{said}; {len(taken)} orders of versions without a worker go on by the present version"
        running = dg.RunsFilter(job_name=work.name, statuses=IN_PROGRESS_RUN_STATUSES)
        if found.executors and waiting and not workers and not context.instance.get_runs_count(running):
            return dg.RunRequest(tags={"orders": f"{waiting} waiting, no worker left"})
        return dg.SkipReason(said)

    return recover


def _overdue_sensor(name: str, resolve: Resolve) -> dg.SensorDefinition:
    @dg.sensor(
        name=f"{name}_overdue",
        minimum_interval_seconds=_OVERDUE_S,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Marks orders whose saga failed, and names those that need a person.",
    )
    def overdue(context: dg.SensorEvaluationContext) -> dg.SkipReason:
        place = resolve().place
        if not is_used(place):
            return dg.SkipReason("Nothing uses the embedded database")
        try:
            with open_desk(place) as desk:
                desk.mark_failed()
                stuck = [order["order_id"] for order in list_orders(desk, stuck=True)]
        except DatabaseUnavailable as error:
            return dg.SkipReason(str(error))
        if not stuck:
            return dg.SkipReason("No order needs a person")
        said = f"{len(stuck)} orders need a person, such as {', '.join(stuck[:5])}: see `lakehouse orders list --stuck`"
        context.log.warning(said)
        return dg.SkipReason(said)

    return overdue
