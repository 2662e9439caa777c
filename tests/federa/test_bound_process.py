"""A process that is bound to this one: it ends with it, and is what was asked for."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest
from processes import until

from federa.bound_process import bound

PARENT = (
    "import subprocess, sys, threading\n"
    "from federa.bound_process import bound\n"
    # Threads that hold locks all the time: what runs between fork and exec would meet one that nobody gives back.
    "busy = [threading.Thread(target=lambda: [bytes(1000) for _ in iter(int, 1)], daemon=True) for _ in range(3)]\n"
    "[thread.start() for thread in busy]\n"
    "children = [\n"
    "    subprocess.Popen(bound(['sleep', '600']), start_new_session=number % 2 == 0) for number in range(4)\n"
    "]\n"
    "print(*(child.pid for child in children), flush=True)\n"
    "sys.stdin.read()\n"
)


def runs(pid):
    """Whether the process is there, and no zombie that nobody has waited for."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM, None])
def test_children_end_with_their_parent_however_it_ends(end):
    command = [sys.executable, "-c", PARENT]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as parent:
        try:
            children = [int(pid) for pid in parent.stdout.readline().split()]
            assert len(children) == 4
            assert all(runs(pid) for pid in children)
            if end is None:
                parent.stdin.close()
            else:
                os.kill(parent.pid, end)
            parent.wait(30)
            until(lambda: not any(runs(pid) for pid in children), "the children end")
        finally:
            parent.kill()


def test_it_is_the_command_itself_by_its_pid_and_with_its_surroundings(tmp_path):
    script = "import os, sys; print(os.getpid(), os.environ['WORD'], os.getcwd(), sys.argv[1:])"
    child = subprocess.Popen(
        bound([sys.executable, "-c", script, "a b", ""]),
        stdout=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "WORD": "here"},
    )
    assert child.communicate()[0] == f"{child.pid} here {tmp_path} ['a b', '']\n"
    assert child.returncode == 0


def test_what_cannot_be_started_is_one_line():
    found = subprocess.run(bound(["/nonexistent/program"]), capture_output=True, text=True)
    assert found.returncode == 1
    assert found.stderr == "ERROR: [Errno 2] No such file or directory\n"


def test_a_parent_that_went_before_the_child_began_leaves_no_child():
    command = bound(["sleep", "600"])
    # As if it had been made by a process that is gone: the child has another parent by now.
    command[command.index(str(os.getpid()))] = "1" if os.getpid() != 1 else "2"
    assert subprocess.run(command, timeout=30).returncode == 1
