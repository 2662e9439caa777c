"""Hosts of their own on one machine: network namespaces on a bridge, each with a link of a stated rate. Needs root."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
from types import TracebackType

import psutil

COORDINATOR = "10.213.77.1"


def available() -> bool:
    """Whether this machine lets us make one."""
    if os.geteuid() != 0 or not shutil.which("ip") or not shutil.which("tc"):
        return False
    name = f"federa-probe-{os.getpid()}"
    if subprocess.run(["ip", "netns", "add", name], capture_output=True).returncode != 0:
        return False
    subprocess.run(["ip", "netns", "del", name], check=True)
    return True


def clean() -> None:
    """Remove what tests left behind that were killed: their namespaces, the processes in these, and their links."""
    for name in re.findall(r"^federa-\S+", _ip("netns", "list"), re.MULTILINE):
        if _is_left(name):
            for pid in _ip("netns", "pids", name).split():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(pid), signal.SIGKILL)
            _ip("netns", "del", name)
    for link in re.findall(r"^\d+: (fd\d[^:@]*)", _ip("-o", "link", "show"), re.MULTILINE):
        if _is_left(link):
            subprocess.run(["ip", "link", "del", link], check=False)  # may have gone with its other end


def _is_left(name: str) -> bool:
    """Whether the process is gone that made the thing of this name: its number stands in it."""
    (pid,) = re.findall(r"\d+", name)[:1] or ["0"]
    return not psutil.pid_exists(int(pid))


class Hosts:
    """A bridge that has the coordinator's address, and a namespace a host. Interfaces may have 15 characters."""

    def __init__(self, names: dict[str, float]) -> None:
        """`names` says for each host how many Mbit/s it can send."""
        self._names = names
        self._tag = os.getpid()
        self._bridge = f"fd{self._tag}"

    def __enter__(self) -> Hosts:
        clean()
        _ip("link", "add", self._bridge, "type", "bridge")
        _ip("addr", "add", f"{COORDINATOR}/24", "dev", self._bridge)
        _ip("link", "set", self._bridge, "up")
        for number, (name, mbps) in enumerate(self._names.items(), start=2):
            inside = ("netns", "exec", self._namespace(name), "ip")
            _ip("netns", "add", self._namespace(name))
            _ip(
                "link",
                "add",
                self._outer(name),
                "type",
                "veth",
                "peer",
                "name",
                "uplink",
                "netns",
                self._namespace(name),
            )
            _ip("link", "set", self._outer(name), "master", self._bridge, "up")
            _ip(*inside, "addr", "add", f"10.213.77.{number}/24", "dev", "uplink")
            _ip(*inside, "link", "set", "uplink", "up")
            _ip(*inside, "link", "set", "lo", "up")
            rate = ("rate", f"{mbps:g}mbit", "burst", "32kb", "latency", "100ms")
            _ip("netns", "exec", self._namespace(name), "tc", "qdisc", "add", "dev", "uplink", "root", "tbf", *rate)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for name in self._names:
            subprocess.run(["ip", "netns", "del", self._namespace(name)], check=False)
        subprocess.run(["ip", "link", "del", self._bridge], check=False)

    def prefix(self, name: str) -> list[str]:
        """What a command begins with that is to run on a host."""
        return ["ip", "netns", "exec", self._namespace(name)]

    def cut(self, name: str) -> None:
        """From now on nothing gets through, and nobody is told."""
        _ip("link", "set", self._outer(name), "nomaster")

    def mend(self, name: str) -> None:
        _ip("link", "set", self._outer(name), "master", self._bridge)

    def _namespace(self, name: str) -> str:
        return f"federa-{self._tag}-{name}"

    def _outer(self, name: str) -> str:
        return f"fd{self._tag}{name}"


def _ip(*words: str) -> str:
    done = subprocess.run(["ip", *words], capture_output=True, text=True)
    assert done.returncode == 0, f"ip {' '.join(words)}: {done.stderr}"
    return done.stdout
