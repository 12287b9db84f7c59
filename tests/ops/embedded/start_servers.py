"""Runs all embedded servers on a data folder, says where in one line of JSON, and stops them at the end of input."""

import asyncio
import json
import sys
from pathlib import Path

import anyio
import uvloop

from callboard.ops.embedded.data_directory import open_data_directory
from callboard.ops.embedded.servers import create_servers


async def main(data: Path, *, reset: bool) -> None:
    with open_data_directory(data, reset=reset) as place:
        servers = create_servers(place)
        place.write_running(servers.environment())
        try:
            async with anyio.create_task_group() as starting:
                for each in servers.all():
                    starting.start_soon(each.start)
            pids = [servers.postgres.pid, servers.valkey.pid, servers.broker.pid]
            sys.stdout.write(json.dumps(servers.environment() | {"pids": pids}) + "\n")
            sys.stdout.flush()
            await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
        finally:
            for each in servers.all():
                await each.stop()
    sys.stdout.write("stopped\n")


if __name__ == "__main__":
    uvloop.run(main(Path(sys.argv[1]), reset="--reset" in sys.argv))
