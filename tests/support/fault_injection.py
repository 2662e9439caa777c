"""A federation whose processes are started again whenever they die by SIGKILL."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import socket
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import yaml
from processes import Process

FAULTS = str(Path(__file__).with_name("faults.py"))
DEADLINE_S = 120.0
REAL_DEADLINE_S = 600.0
"""With the real trainer each restarted process imports torch, which takes its time on a busy machine."""


def free_port() -> int:
    """A port that a coordinator can have, and have again after it died: none of those that the kernel gives to whoever
    connects meanwhile."""
    while True:
        port = random.SystemRandom().randrange(20_000, 32_000)
        with socket.socket() as listener, contextlib.suppress(OSError):
            listener.bind(("127.0.0.1", port))
            return port


class RestartedProcesses:
    """One coordinator and workers by name. `faults` are armed one after the other: the first in the process's first
    life, the next in its second; then it lives on. `kills` counts the deaths."""

    def __init__(
        self, folder: Path, experiment: Mapping[str, object], env: Mapping[str, str], *,
        workers: Sequence[str] = ("a", "b"), faults: Mapping[str, Sequence[str]] | None = None, real: bool = False,
        arguments: Sequence[str] = (),
    ) -> None:  # fmt: skip
        self.folder = folder
        self.kills = 0
        self._env = {**os.environ, **env, "HF_HUB_OFFLINE": "1"}
        self._real = "real-" if real else ""
        self._faults = {name: list(each) for name, each in (faults or {}).items()}
        self._arguments = list(arguments)
        self._address = f"127.0.0.1:{free_port()}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "experiment.yaml").write_text(yaml.safe_dump(dict(experiment)))
        self.processes: dict[str, Process] = {}
        for name in ("coordinator", *workers):
            self.start(name)

    def start(self, name: str) -> None:
        """Start a process, with the next of its faults."""
        waiting = self._faults.get(name, [])
        env = {**self._env, "FAULT": waiting.pop(0) if waiting else ""}
        if name == "coordinator":
            out = ["--out", str(self.folder / "out")]
            words = [
                "coordinator",
                "--experiment",
                str(self.folder / "experiment.yaml"),
                *out,
                "--listen",
                self._address,
            ]
        else:
            words = ["worker", "--coordinator", self._address, "--name", name, "--state", str(self.folder / "keys")]
            words += ["--give-up-after", "60", *self._arguments]
        words[0] = self._real + words[0]
        self.processes[name] = Process([FAULTS, *words], self.folder, env)

    def kill(self, name: str) -> None:
        """kill -9."""
        self.processes[name].popen.send_signal(signal.SIGKILL)
        self.processes[name].popen.wait()

    def revive(self) -> list[str]:
        """Start whatever was killed; the names of what was."""
        dead = [name for name, process in self.processes.items() if process.popen.poll() == -signal.SIGKILL]
        for name in dead:
            self.kills += 1
            self.start(name)
        return dead

    def finish(self) -> int:
        """Keep everything alive until the coordinator ends by itself; its exit code. All faults must have struck."""
        most = REAL_DEADLINE_S if self._real else DEADLINE_S
        end = time.monotonic() + most
        while (code := self.processes["coordinator"].popen.poll()) is None or code == -signal.SIGKILL:
            self.revive()
            gone = [name for name, each in self.processes.items() if each.popen.poll() not in (None, -signal.SIGKILL)]
            assert set(gone) <= {"coordinator"}, f"{gone} ended by itself\n{self.words()}"
            assert time.monotonic() < end, f"not over after {most} s\n{self.words()}"
            time.sleep(0.02)
        left = {name: faults for name, faults in self._faults.items() if faults}
        assert not left, f"faults that never struck: {left}\n{self.words()}"
        return code

    def words(self) -> str:
        return "\n".join(f"--- {name}\n{process.err[-2000:]}" for name, process in self.processes.items())

    def final_state(self) -> bytes:
        return (self.folder / "out" / "final" / "state.safetensors").read_bytes()

    def __enter__(self) -> RestartedProcesses:
        return self

    def __exit__(self, *error: object) -> None:
        for process in self.processes.values():
            if process.popen.poll() is None:
                process.popen.kill()
                process.popen.wait()
