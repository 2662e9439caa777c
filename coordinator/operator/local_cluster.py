"""A coordinator and workers of one's own, as processes on this machine."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from federa.bound_process import bound
from federa.cores import count_cores
from federa.errors import FederaError

START_WAIT_S = 300.0
"""A process that ends is noticed at once; one that starts beside others on a slow disk may import for minutes."""
STOP_WAIT_S = 10.0
COORDINATOR_FOLDER = "coordinator"
"""Where the coordinator keeps its experiments, each in a folder of its id, below the folder for results."""


class LocalCluster:
    """`start`, then `address`; `stop` ends every process that was started. Logs go to `folder`/logs. `power` is what
    the workers measure with."""

    def __init__(self, folder: Path, devices: int, power: str = "auto") -> None:
        self.address = ""
        self.logs = folder / "logs"
        self._state = folder / COORDINATOR_FOLDER
        self._devices = devices
        self._power = power
        self._processes: dict[str, asyncio.subprocess.Process] = {}

    async def start(self) -> None:
        """Start everything; returns when the coordinator listens. Raises FederaError when it does not."""
        self.logs.mkdir(parents=True, exist_ok=True)
        arguments = ["coordinator.main", "--serve", "--out", str(self._state), "--listen", "127.0.0.1:0"]
        coordinator = await self._spawn("coordinator", arguments, stdout=asyncio.subprocess.PIPE)
        assert coordinator.stdout is not None
        try:
            line = await asyncio.wait_for(coordinator.stdout.readline(), START_WAIT_S)
        except asyncio.TimeoutError:
            line = b""
        word, _, address = line.decode().strip().rpartition(" ")
        if word != "listening on":
            raise FederaError(f"the coordinator did not start: {self.last_lines('coordinator')}")
        self.address = address
        # Two workers that each take all cores slow each other down to less than half.
        threads = max(1, count_cores().count // self._devices)
        for number in range(self._devices):
            name = f"worker-{number}"
            arguments = ["edge.main", "--coordinator", address, "--name", name, "--threads", str(threads)]
            arguments += ["--give-up-after", "60", "--state", str(self._state / "workers"), "--power", self._power]
            await self._spawn(name, arguments)

    async def failure(self) -> str:
        """Wait until a process ends by itself, and say which and why."""
        waits = {asyncio.ensure_future(process.wait()): name for name, process in self._processes.items()}
        try:
            done, _ = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
        name = waits[done.pop()]
        return f"{name} ended with {self._processes[name].returncode}: {self.last_lines(name)}"

    def last_lines(self, name: str) -> str:
        """The last line of a process's log, and where the rest is."""
        log = self.logs / f"{name}.log"
        lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines() if log.exists() else []
        return f"{lines[-1] if lines else 'no output'} (log: {log})"

    async def stop(self) -> None:
        """Ask every process to end, and kill what does not."""
        live = [process for process in self._processes.values() if process.returncode is None]
        for process in live:
            process.send_signal(signal.SIGTERM)
        try:
            await asyncio.wait_for(asyncio.gather(*(process.wait() for process in live)), STOP_WAIT_S)
        except asyncio.TimeoutError:
            for process in live:
                if process.returncode is None:
                    process.kill()
                    await process.wait()

    async def _spawn(
        self, name: str, arguments: Sequence[str], stdout: int | None = None
    ) -> asyncio.subprocess.Process:
        with (self.logs / f"{name}.log").open("wb") as log:
            process = await asyncio.create_subprocess_exec(
                # Also when the benchmark is killed, nothing of it goes on in the background.
                *bound([sys.executable, "-m", *arguments]),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=stdout if stdout is not None else log,
                stderr=log,
                # Ctrl-C is for the benchmark alone: it ends the run in order and then these.
                start_new_session=True,
            )
        self._processes[name] = process
        return process
