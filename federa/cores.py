"""How many cores a process may use: by its affinity, and by the quota of its cgroup, as containers and services have.

torch and OpenMP look at the affinity alone. A container with `cpus: 2` on a machine of 64 cores would get 64 threads,
which use up each period's time at once and stand still for the rest of it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path, PurePosixPath


@dataclass(frozen=True, kw_only=True, slots=True)
class Cores:
    """The CPUs of the affinity; `quota` is the time of so many that the cgroup at `cgroup` gives, None: no limit."""

    cpus: frozenset[int]
    quota: Fraction | None = None
    cgroup: str = ""

    @property
    def count(self) -> int:
        """Threads that can all run all the time: the quota is rounded down, for a thread beyond it makes all wait."""
        return len(self.cpus) if self.quota is None else max(1, min(len(self.cpus), int(self.quota)))

    def __str__(self) -> str:
        text = f"{self.count} core{'s' if self.count > 1 else ''}"
        if self.quota is None or self.quota >= len(self.cpus):
            return f"{text} by affinity"
        return f"{text} by the quota of {self.cgroup}, {float(self.quota):.4g} of {len(self.cpus)} by affinity"


def count_cores(root: Path = Path("/"), cpus: frozenset[int] | None = None) -> Cores:
    """This process's cores. `root` is where /proc and /sys are, `cpus` the affinity where it is not to be asked."""
    if cpus is None:
        # macOS has no affinity.
        known = hasattr(os, "sched_getaffinity")
        cpus = frozenset(os.sched_getaffinity(0) if known else range(os.cpu_count() or 1))
    quotas = [
        (quota, f"/{folder.relative_to(root)}")
        for folder, v2 in _folders(root)
        if (quota := _quota_v2(folder) if v2 else _quota_v1(folder)) is not None
    ]
    quota, cgroup = min(quotas, default=(None, ""))
    return Cores(cpus=cpus, quota=quota, cgroup=cgroup)


def _folders(root: Path) -> Iterator[tuple[Path, bool]]:
    """Each cgroup that this process is in, from its own to the outermost that can be seen: every one of them may have a
    quota. With it, whether it is of version 2; a machine may have both."""
    groups: dict[bool, str] = {}
    for line in _text(root / "proc/self/cgroup").splitlines():
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if "cpu" in controllers.split(",") or (number == "0" and not controllers):
            groups[not controllers] = path
    mounts = list(_mounts(root))
    for v2, path in groups.items():
        of_kind = [(PurePosixPath(top), Path(point)) for is_v2, top, point in mounts if is_v2 == v2]
        if not of_kind:
            continue
        # In a container the mount shows a part of the tree, from `top` on. A path outside it is another namespace's:
        # then what is mounted is the container's own.
        shown = [(point, below) for top, point in of_kind if (below := _below(path, top)) is not None]
        point, below = shown[0] if shown else (of_kind[0][1], PurePosixPath())
        for folder in (below, *below.parents):
            yield root / point.relative_to("/") / folder, v2


def _below(path: str, top: PurePosixPath) -> PurePosixPath | None:
    group = PurePosixPath(path)
    return group.relative_to(top) if group.is_relative_to(top) and ".." not in group.parts else None


def _mounts(root: Path) -> Iterator[tuple[bool, str, str]]:
    """Of each mounted cgroup tree that may limit CPU time: whether it is of version 2, what of the tree is mounted, and
    where (proc_pid_mountinfo(5))."""
    for line in _text(root / "proc/self/mountinfo").splitlines():
        before, _, after = line.partition(" - ")
        mount, kind = before.split(), after.split()
        if len(mount) < 5 or len(kind) < 3 or kind[0] not in ("cgroup", "cgroup2"):
            continue
        if kind[0] == "cgroup2" or "cpu" in kind[2].split(","):
            yield kind[0] == "cgroup2", _unescaped(mount[3]), _unescaped(mount[4])


def _unescaped(path: str) -> str:
    r"""A blank is \040 there."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), path)


def _quota_v2(folder: Path) -> Fraction | None:
    """`max 100000` or `150000 100000`, in microseconds: so much of each period."""
    words = _text(folder / "cpu.max").split()
    return _quota(*words) if len(words) == 2 else None


def _quota_v1(folder: Path) -> Fraction | None:
    """A quota of -1 is none."""
    return _quota(_text(folder / "cpu.cfs_quota_us"), _text(folder / "cpu.cfs_period_us"))


def _quota(quota_us: str, period_us: str) -> Fraction | None:
    if quota_us.isdecimal() and period_us.isdecimal() and int(quota_us) and int(period_us):
        return Fraction(int(quota_us), int(period_us))
    return None


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace").strip()
    except OSError:
        return ""
