"""A Prefect server for builds to run on, with the database that is measured."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Literal

import httpx

from benchmarks.programs import BenchmarkFailed, clean_environment, eventually, finished, free_port, program

Database = Literal["postgresql", "sqlite"]

_START = 180


@dataclass(frozen=True)
class PrefectServer:
    """A Prefect server."""

    database: Database
    api: str
    env: Mapping[str, str]
    """The environment in which its clients run."""
    processes: Mapping[str, int]
    """The first process of each of its parts."""


@asynccontextmanager
async def prefect_server(directory: Path, database: Database) -> AsyncIterator[PrefectServer]:
    """A Prefect server of its own. It keeps everything in a directory, and takes the defaults of its settings."""
    directory.mkdir(parents=True)
    if database == "sqlite":
        async with serving(directory, database, {}) as server:
            yield server
        return
    async with _postgresql(directory) as (url, process):
        settings = {"PREFECT_API_DATABASE_CONNECTION_URL": url}
        async with serving(directory, database, settings, {"postgresql": process}) as server:
            yield server


@asynccontextmanager
async def serving(
    directory: Path,
    database: Database,
    settings: Mapping[str, str],
    processes: Mapping[str, int] = MappingProxyType({}),
    *,
    port: int | None = None,
) -> AsyncIterator[PrefectServer]:
    """A Prefect server with settings of its own; without a port, on any that is free."""
    port = port or free_port()
    api = f"http://127.0.0.1:{port}/api"
    env = clean_environment(
        PREFECT_SERVER_ANALYTICS_ENABLED="false",
        PREFECT_HOME=str(directory / "prefect"),
        PREFECT_API_URL=api,
        PREFECT_WORKER_QUERY_SECONDS="1",
        IMAGE_BAKERY_STATE_DIR=str(directory / "bakery"),
    )
    log = directory / "server.log"
    argv = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)]
    # The pages that it serves ask this API.
    settings = {"PREFECT_SERVER_UI_API_URL": api, **settings}
    async with program(argv, log=log, env={**env, **settings}) as child, httpx.AsyncClient(trust_env=False) as client:

        async def healthy() -> bool | None:
            if child.returncode is not None:
                raise BenchmarkFailed(f"the Prefect server ended: see {log}")
            try:
                return (await client.get(f"{api}/health", timeout=5)).is_success or None
            except httpx.TransportError:
                return None

        await eventually(healthy, _START, f"the Prefect server answers: see {log}")
        yield PrefectServer(database, api, env, {"prefect": child.pid, **processes})


@asynccontextmanager
async def _postgresql(logs: Path) -> AsyncIterator[tuple[str, int]]:
    """A PostgreSQL cluster with its defaults, reached by a socket in a directory that is removed at the end.

    It does not run as root (initdb refuses): then as `postgres` where there is such a user, else as `nobody`.
    """
    initdb, postgres = (postgresql_program(name) for name in ("initdb", "postgres"))
    if shutil.which(initdb) is None:
        raise BenchmarkFailed("PostgreSQL's server is missing: install the package postgresql")
    directory = Path(tempfile.mkdtemp(prefix="bakery-pg-"))
    try:
        user: list[str] = []
        if os.geteuid() == 0:
            known = {entry.pw_name: entry for entry in pwd.getpwall()}
            entry = known.get("postgres") or known["nobody"]
            user = ["--reuid", str(entry.pw_uid), "--regid", str(entry.pw_gid), "--clear-groups"]
            os.chown(directory, entry.pw_uid, entry.pw_gid)
        env = clean_environment(HOME=str(directory), LC_ALL="C.UTF-8")
        data = directory / "data"
        log = logs / "postgresql.log"
        make = [initdb, "--pgdata", str(data), "--username", "bakery", "--auth", "trust", "--no-instructions"]
        await finished(["setpriv", *user, "--", *make], log=log, env=env, timeout=120)
        serve = [postgres, "-D", str(data), "-k", str(directory), "-c", "listen_addresses="]
        async with program(serve, log=log, env=env, end=signal.SIGINT, user=user) as child:

            async def listens() -> bool | None:
                if child.returncode is not None:
                    raise BenchmarkFailed(f"PostgreSQL ended: see {log}")
                return (directory / ".s.PGSQL.5432").exists() or None

            await eventually(listens, 60, f"PostgreSQL listens: see {log}")
            yield f"postgresql+asyncpg://bakery@/postgres?host={directory}", child.pid
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def postgresql_program(name: str) -> str:
    """The path of one of the PostgreSQL server's programs, or its name alone where it is not there."""
    # Debian keeps the server's programs off PATH, one directory for each version.
    installed = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), key=lambda path: float(path.parts[4]))
    return str(installed[-1]) if installed else name
