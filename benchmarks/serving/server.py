"""Our replica as Ray Serve hosts it, in a process of its own: door, keys, metrics, log and tap on.

python -m benchmarks.serving.server door FOLDER PORT
python -m benchmarks.serving.server replica FOLDER [PORT OF GRPC]
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

import uvloop

from benchmarks.serving.places import KEY, MODEL, ledger_url, store_uri
from raymlops.serve import BatchPolicy, HttpLimits, Replica, ReplicaSpec, TapSummary
from raymlops.serve.access import ApiKey, Keyring, digest_of
from raymlops.serve.door import Door, Roster
from raymlops.serve.process.garbage import spare_what_is_loaded
from raymlops.serve.traffic.board import Published, Standing
from raymlops.serve.web import Handler, Reply, Request, Response
from raymlops.telemetry import Snapshot
from raymlops.telemetry.logs import LogPolicy


class _QuietBoard:
    async def wait(self, standing: Standing) -> Published | None:
        await asyncio.Event().wait()
        return None

    async def leave(self, replica: str) -> None:
        pass


async def serve_door(folder: Path, port: int) -> None:
    def handler(roster: Roster) -> Handler:
        def handle(request: Request, reply: Reply) -> None:
            reply(Response(404))

        return handle

    door = Door(folder / "door", handler, HttpLimits())
    door.start()
    await door.listen("127.0.0.1", port)
    await asyncio.Event().wait()


async def serve_replica(folder: Path, grpc_port: int | None = None) -> None:
    async def sink(_: TapSummary) -> None:
        pass

    async def outlet(_: Snapshot) -> None:
        pass

    keys = folder / f"keys-{os.getpid()}.json"
    Keyring(keys).add(ApiKey(name="benchmark", digest=digest_of(KEY), models=(MODEL,)))
    spec = ReplicaSpec(
        model=MODEL,
        ledger_url=ledger_url(folder),
        store_uri=store_uri(folder),
        batch=BatchPolicy(max_rows=32),
        http=HttpLimits(),
        keys_file=keys,
        log=LogPolicy(enabled=True),
        log_folder=str(folder / "logs"),
        grpc=None if grpc_port is None else ("127.0.0.1", grpc_port),
    )
    replica = Replica(spec, board=_QuietBoard(), sink=sink, outlet=outlet)
    await replica.load()
    spare_what_is_loaded()
    replica.stand_behind(folder / "door")
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    events = iter(("lifespan.startup", "lifespan.shutdown"))

    async def receive() -> dict[str, str]:
        event = next(events)
        if event == "lifespan.shutdown":
            await ended.wait()
        return {"type": event}

    async def send(_: object) -> None:
        pass

    await replica.app({"type": "lifespan"}, receive, send)
    keys.unlink()


def main() -> None:
    role, folder, ports = sys.argv[1], Path(sys.argv[2]), map(int, sys.argv[3:])
    work = serve_door(folder, *ports) if role == "door" else serve_replica(folder, *ports)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(work)


if __name__ == "__main__":
    main()
