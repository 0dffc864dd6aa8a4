"""The component behind the orders' `defs.yaml`: the capture of its database, and sensors that watch over the saga."""

from collections.abc import Callable

import dagster as dg

from lakehouse.components.database_capture import CaptureComponent
from lakehouse.derive.captured import CapturedSource
from lakehouse.domains.orders.config import OrdersConfig
from lakehouse.domains.orders.control import open_desk
from lakehouse.domains.orders.reading import list_orders
from lakehouse.domains.orders.source import orders_source
from lakehouse.errors import DatabaseUnavailable
from lakehouse.servers.postgres import is_running
from lakehouse.settings import settings

_RECOVERY_S = 15
_OVERDUE_S = 60


class OrderCapture(CaptureComponent):
    """The database of an order system.

    The attributes are those of `lakehouse.domains.orders.config.OrdersConfig`.
    """

    model = OrdersConfig
    config: OrdersConfig

    def resolve(self) -> CapturedSource:
        return orders_source(self.config, settings())

    def build_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:
        name = self.config.source
        sensors = [_recovery_sensor(name, self.resolve), _overdue_sensor(name, self.resolve)]
        return dg.Definitions.merge(super().build_defs(context), dg.Definitions(sensors=sensors))


def _recovery_sensor(name: str, resolve: Callable[[], CapturedSource]) -> dg.SensorDefinition:
    @dg.sensor(
        name=f"{name}_recovery",
        minimum_interval_seconds=_RECOVERY_S,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Hands the orders of workers without a heartbeat for 30 s to the others.",
    )
    def recover(context: dg.SensorEvaluationContext) -> dg.SkipReason:
        place = resolve().place
        if place.url is None and not is_running(place):
            return dg.SkipReason("The embedded database isn't running, so no worker is")
        try:
            with open_desk(place) as desk:
                found = desk.recover()
        except DatabaseUnavailable as error:
            return dg.SkipReason(str(error))
        if not found.executors:
            return dg.SkipReason("All workers have a fresh heartbeat")
        said = f"{len(found.orders)} orders of {', '.join(found.executors)} were handed to other workers"
        context.log.warning(said)
        return dg.SkipReason(said)

    return recover


def _overdue_sensor(name: str, resolve: Callable[[], CapturedSource]) -> dg.SensorDefinition:
    @dg.sensor(
        name=f"{name}_overdue",
        minimum_interval_seconds=_OVERDUE_S,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Marks orders whose saga failed, and names those that need a person.",
    )
    def overdue(context: dg.SensorEvaluationContext) -> dg.SkipReason:
        place = resolve().place
        if place.url is None and not is_running(place):
            return dg.SkipReason("The embedded database isn't running")
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
