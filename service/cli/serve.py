"""`face-identity serve`, `work` and `migrate`: the server, the worker, and the schema of the database."""

import signal
from typing import Annotated

import typer

from service.cli.context import asynchronous, open_migrated, read_settings
from service.cli.encoders import encoders_named
from service.cli.output import Json, remark, write_json, write_line


def serve(
    *,
    host: Annotated[str | None, typer.Option("--host", help="Address to listen on (default: SERVER_IP).")] = None,
    port: Annotated[
        int | None, typer.Option("--port", "-p", min=0, max=65535, help="Port to listen on (default: SERVER_PORT).")
    ] = None,
    workers: Annotated[
        int | None, typer.Option("--workers", min=1, max=64, help="Server processes (default: SERVER_WORKERS).")
    ] = None,
) -> None:
    """Answer HTTP requests.

    Runs until it is stopped. Creates the database if it is missing, and migrates it.
    """
    from service import server
    from service.telemetry import configure_logging

    settings = read_settings(server_ip=host, server_port=port, server_workers=workers)
    configure_logging(settings.logger_level)
    server.serve(settings)


@asynchronous
async def work() -> None:
    """Run background jobs in a process of their own.

    Runs until it is stopped, beside servers with WORKER_IN_SERVER=false.
    """
    import asyncio
    from datetime import timedelta

    from service import worker
    from service.encoder.devices import log_devices
    from service.telemetry import configure_logging, structure_native_lines

    settings = read_settings()
    configure_logging(settings.logger_level)
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    with encoders_named(settings, None) as encoders:
        log_devices((space.name for space in encoders.spaces), settings)
        async with open_migrated(settings, lingers=False) as database:
            remark("Waiting for jobs; Ctrl-C stops.")
            structure_native_lines()
            await worker.run_worker(database, encoders, stop, retention=timedelta(days=settings.job_retention_days))


def migrate(
    *,
    into_shared_database: Annotated[
        bool,
        typer.Option(
            "--into-shared-database",
            help="Create the tables also if the database has tables of another application.",
        ),
    ] = False,
    as_json: Json = False,
) -> None:
    """Migrate the database to the newest schema.

    Prints the schema revision. Needs the administrator's login. Other commands migrate too if it is necessary.
    """
    import asyncio

    from service.database.connection import open_database
    from service.database.schema.migrate import migrate as bring_up_to_date

    settings = read_settings()
    database = open_database(settings, settings.embedded_database_linger_seconds)
    try:
        state = bring_up_to_date(database.logins, into_shared_database=into_shared_database)
    finally:
        asyncio.run(database.close())
    if as_json:
        write_json({"revision": state.revision, "postgresql": state.postgresql, "pgvector": state.pgvector})
        return
    write_line(f"schema {state.revision}, PostgreSQL {state.postgresql}, pgvector {state.pgvector}")
    if not state.pgvector_is_safe:
        remark("pgvector before 0.8.4 can corrupt an HNSW index during vacuum: update it")
