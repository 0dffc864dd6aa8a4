"""`lakehouse mcp`: the lake for assistants that speak the Model Context Protocol."""

from __future__ import annotations

from typing import Annotated

import typer

from lakehouse.cli.explained import explained


def mcp(
    role: Annotated[
        str | None, typer.Option("--role", metavar="NAME", help="Answer from what is published for this role only.")
    ] = None,
    port: Annotated[
        int | None,
        typer.Option("--port", min=1, max=65_535, help="Serve HTTP on 127.0.0.1 at this port instead of stdio."),
    ] = None,
) -> None:
    """Serve the lake to an assistant (Model Context Protocol), read-only: its program starts this command."""
    with explained():
        from lakehouse.apps.mcp.answers import Answers
        from lakehouse.apps.mcp.server import serve
        from lakehouse.governance.role_lake import RoleLake
        from lakehouse.lake.folders import require_folder
        from lakehouse.settings import settings

        config = settings()
        require_folder(config.home)
        if role is not None:
            RoleLake.open(role, config)
        serve(Answers(config, role), port)
