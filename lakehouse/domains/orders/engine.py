"""Connections to the database that outlive its restarts, and the engine's client.

The embedded server may listen on another port after a crash, so every new connection asks for the URL.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from lakehouse.domains.orders.database.schema import ENGINE_SCHEMA
from lakehouse.domains.orders.saga import APPLICATION
from lakehouse.servers.launch import Cluster
from lakehouse.servers.postgres import Database, Place

if TYPE_CHECKING:
    import sqlalchemy
    from dbos import DBOSClient


def present_database(place: Place) -> Database:
    """The database of a place as it can be reached now."""
    return Database(place.url or Cluster(place.folder).url)


def engine_of(place: Place, connections: int) -> sqlalchemy.Engine:
    """A pool of connections to a place."""
    import psycopg
    from sqlalchemy import create_engine

    def connect() -> psycopg.Connection:
        try:
            return psycopg.connect(present_database(place).url, connect_timeout=5)
        except psycopg.OperationalError as error:
            # DBOS repeats what fails for want of a connection, but knows that by the SQLSTATE, which psycopg has
            # only from a server that answers.
            raise psycopg.errors.ConnectionFailure(str(error)) from None

    return create_engine(
        "postgresql+psycopg://", creator=connect, pool_size=connections, max_overflow=0, pool_timeout=30
    )


def migrate_engine(place: Place) -> None:
    """Brings the engine's own tables up to date."""
    from dbos import DBOS

    DBOS.migrate(present_database(place).url, schema=ENGINE_SCHEMA)


@contextmanager
def client_of(engine: sqlalchemy.Engine) -> Iterator[DBOSClient]:
    """The engine's client, which enqueues and controls orders from outside a worker."""
    from dbos import DBOSClient

    client = DBOSClient(system_database_engine=engine, dbos_system_schema=ENGINE_SCHEMA, application_name=APPLICATION)
    try:
        yield client
    finally:
        client.destroy()
