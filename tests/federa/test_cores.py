"""Cores by affinity and by cgroup quota: in trees of files in place of /proc and /sys (fake), and on this machine."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from federa.cores import count_cores

EIGHT = frozenset(range(8))
V2_MOUNT = "31 24 0:27 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate"
V1_MOUNT = "35 25 0:31 / /sys/fs/cgroup/cpu,cpuacct rw,nosuid shared:15 - cgroup cgroup rw,cpu,cpuacct"
V1_MEMORY = "36 25 0:32 / /sys/fs/cgroup/memory rw,nosuid shared:16 - cgroup cgroup rw,memory"


class FakeCgroups:
    """Files as the kernel shows them below `root`."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def process(self, groups: str, *mounts: str) -> None:
        self._write("proc/self/cgroup", groups + "\n")
        others = ["22 1 8:1 / / rw shared:1 - ext4 /dev/sda1 rw", "23 22 0:5 / /proc rw - proc proc rw"]
        self._write("proc/self/mountinfo", "\n".join([*others, *mounts]) + "\n")

    def v2(self, folder: str, cpu_max: str) -> None:
        self._write(f"{folder}/cpu.max", f"{cpu_max}\n")

    def v1(self, folder: str, quota_us: int, period_us: int = 100_000) -> None:
        self._write(f"{folder}/cpu.cfs_quota_us", f"{quota_us}\n")
        self._write(f"{folder}/cpu.cfs_period_us", f"{period_us}\n")

    def count(self, cpus: frozenset[int] = EIGHT) -> int:
        return count_cores(self.root, cpus).count

    def _write(self, path: str, text: str) -> None:
        (self.root / path).parent.mkdir(parents=True, exist_ok=True)
        (self.root / path).write_text(text)


@pytest.fixture
def fake(tmp_path: Path) -> FakeCgroups:
    return FakeCgroups(tmp_path)


def test_without_a_cgroup_the_affinity_counts(fake: FakeCgroups) -> None:
    assert fake.count() == 8
    assert str(count_cores(fake.root, EIGHT)) == "8 cores by affinity"
    assert str(count_cores(fake.root, frozenset({5}))) == "1 core by affinity"


def test_a_service_with_a_quota(fake: FakeCgroups) -> None:
    fake.process("0::/system.slice/federa.service", V2_MOUNT)
    fake.v2("sys/fs/cgroup/system.slice/federa.service", "300000 100000")
    fake.v2("sys/fs/cgroup/system.slice", "max 100000")
    cores = count_cores(fake.root, EIGHT)
    assert cores.count == 3
    assert str(cores) == "3 cores by the quota of /sys/fs/cgroup/system.slice/federa.service, 3 of 8 by affinity"


@pytest.mark.parametrize(
    ("cpu_max", "cores"),
    [
        ("max 100000", 8),
        ("200000 100000", 2),
        ("250000 100000", 2),  # a third thread would make all wait
        ("50000 100000", 1),
        ("1000 100000", 1),
        ("100000 50000", 2),
        ("6400000 100000", 8),  # more than there are
        ("200000", 8),  # nothing that a kernel writes
        ("", 8),
        ("0 100000", 8),
        ("-1 100000", 8),
        ("200000 0", 8),
    ],
)
def test_quotas_of_version_2(fake: FakeCgroups, cpu_max: str, cores: int) -> None:
    fake.process("0::/a", V2_MOUNT)
    fake.v2("sys/fs/cgroup/a", cpu_max)
    assert fake.count() == cores


def test_the_smallest_quota_of_nested_groups_counts(fake: FakeCgroups) -> None:
    fake.process("0::/a/b/c", V2_MOUNT)
    fake.v2("sys/fs/cgroup/a", "200000 100000")
    fake.v2("sys/fs/cgroup/a/b", "max 100000")
    fake.v2("sys/fs/cgroup/a/b/c", "400000 100000")
    assert fake.count() == 2
    fake.v2("sys/fs/cgroup/a/b", "100000 100000")
    assert fake.count() == 1


def test_a_container_of_version_2_sees_its_own_group_as_the_root(fake: FakeCgroups) -> None:
    fake.process("0::/", V2_MOUNT)
    fake.v2("sys/fs/cgroup", "200000 100000")
    assert fake.count() == 2


@pytest.mark.parametrize("path", ["/../..", "/../other", "/kubepods/pod1/abc"])
def test_a_path_of_another_namespace_leaves_what_is_mounted(fake: FakeCgroups, path: str) -> None:
    mount = "31 24 0:27 /docker/abc /sys/fs/cgroup ro,nosuid - cgroup2 cgroup rw"
    fake.process(f"0::{path}", mount)
    fake.v2("sys/fs/cgroup", "200000 100000")
    (fake.root / "sys/fs/cgroup/kubepods/pod1/abc").mkdir(parents=True)
    assert fake.count() == 2


def test_version_1(fake: FakeCgroups) -> None:
    fake.process("4:memory:/x\n3:cpu,cpuacct:/user.slice/x\n1:name=systemd:/x", V1_MEMORY, V1_MOUNT)
    fake.v1("sys/fs/cgroup/cpu,cpuacct/user.slice/x", -1)
    assert fake.count() == 8
    fake.v1("sys/fs/cgroup/cpu,cpuacct/user.slice", 400_000, 200_000)
    assert fake.count() == 2
    fake.v1("sys/fs/cgroup/memory/x", 100_000)
    assert fake.count() == 2


def test_a_container_of_version_1_sees_a_part_of_the_tree(fake: FakeCgroups) -> None:
    mount = V1_MOUNT.replace(" / ", " /docker/abc ", 1)
    fake.process("3:cpuacct,cpu:/docker/abc", mount)
    fake.v1("sys/fs/cgroup/cpu,cpuacct", 150_000)
    assert fake.count() == 1
    fake.process("3:cpuacct,cpu:/docker/abc/inner", mount)
    fake.v1("sys/fs/cgroup/cpu,cpuacct/inner", 300_000)
    assert fake.count() == 1


def test_both_versions_at_once(fake: FakeCgroups) -> None:
    unified = "40 25 0:28 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw"
    fake.process("3:cpu,cpuacct:/a\n0::/a", V1_MOUNT, unified)
    fake.v1("sys/fs/cgroup/cpu,cpuacct/a", 500_000)
    assert fake.count() == 5
    fake.v2("sys/fs/cgroup/unified/a", "300000 100000")
    assert fake.count() == 3


def test_a_mount_point_with_a_blank(fake: FakeCgroups) -> None:
    fake.process("0::/a b", r"31 24 0:27 / /mnt/c\040group rw - cgroup2 none rw")
    fake.v2("mnt/c group/a b", "200000 100000")
    assert fake.count() == 2


@pytest.mark.parametrize("mountinfo", ["", "nonsense", "31 24 0:27 - cgroup2", "\0 - \0"])
def test_lines_that_are_none(fake: FakeCgroups, mountinfo: str) -> None:
    fake.process("nonsense\n0::/a\n::", mountinfo)
    assert fake.count() == 8


# ---------------------------------------------------------------- this machine

COUNT = "import sys; sys.stdin.readline(); from federa.cores import count_cores; print(count_cores().count)"


def test_the_affinity_of_this_process_counts() -> None:
    first = min(os.sched_getaffinity(0))
    command = f"import os; os.sched_setaffinity(0, {{{first}}}); {COUNT}"
    assert subprocess.run([sys.executable, "-c", command], input="\n", capture_output=True, text=True).stdout == "1\n"


@pytest.fixture
def group() -> Iterator[Path]:
    """A cgroup of version 1 or 2 whose CPU time can be limited, where this user may make one."""
    for parent in (Path("/sys/fs/cgroup/cpu"), Path("/sys/fs/cgroup")):
        folder = parent / f"federa-test-{os.getpid()}"
        try:
            folder.mkdir()
        except OSError:
            continue
        try:
            if any((folder / name).exists() for name in ("cpu.max", "cpu.cfs_quota_us")):
                yield folder
                return
        finally:
            folder.rmdir()
    pytest.skip("this user may make no cgroup with a quota")


def test_a_real_quota_counts(group: Path) -> None:
    if (group / "cpu.max").exists():
        (group / "cpu.max").write_text("110000 100000")
    else:
        (group / "cpu.cfs_quota_us").write_text("110000")
    process = subprocess.Popen([sys.executable, "-c", COUNT], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    (group / "cgroup.procs").write_text(str(process.pid))
    assert process.communicate("\n")[0] == "1\n"
