"""What Prefect itself costs: a flow with as many tasks as a build has, in which nothing is done.

`python -m benchmarks.empty N` runs one from the command line as builds are run: with a server of its own.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence

from flows.private_server import start_prefect_server


async def empty_flow(sleeps: Sequence[float]) -> None:
    """Run a flow with one task for each number, which sleeps for so many seconds."""
    from prefect import flow, task
    from prefect.cache_policies import NO_CACHE

    @task(cache_policy=NO_CACHE, persist_result=False)
    async def empty_task(seconds: float) -> None:
        if seconds:
            await asyncio.sleep(seconds)

    @flow(name="empty", persist_result=False)
    async def empty() -> None:
        for seconds in sleeps:
            await empty_task(seconds)

    await empty()


if __name__ == "__main__":
    use_server = start_prefect_server()
    import prefect  # noqa: F401 - it takes its time, which the server has meanwhile

    use_server()
    asyncio.run(empty_flow([0.0] * int(sys.argv[1])))
