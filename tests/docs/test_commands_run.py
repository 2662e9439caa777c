"""Commands of the documents, run as they stand: page by page, in order, by bash, in an empty folder.

Only what makes them quick is added: a tiny model, short texts, one round, a target that any model reaches, and a
cluster that is running already where the command would start its own. Ports are replaced by free ones.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from documents import DOCUMENTS, ROOT, Block, blocks, scripts, shell_blocks, words
from fault_injection import free_port

pytestmark = pytest.mark.slow

WAIT_S = 120.0
STAYS = re.compile(r"federa-(coordinator|worker)\b(?!.*--check)")
"""A command that does not end by itself."""
READY = {"federa-coordinator": "listening on", "federa-worker": "connected to"}

# Stands in for each of our commands: it runs the real one, with what makes it quick.
SHIM = """#!{python}
import json, os, sys
name, arguments = os.path.basename(sys.argv[0]), sys.argv[1:]
quick = json.load(open({settings!r}))
if name == "federa-bench":
    given = [word.partition("=")[0] for word in arguments]
    if "--data" not in given:
        arguments += ["--data", quick["data"]]
    if not {{"--coordinator", "--power", "--print-config"}} & set(given):
        arguments += ["--coordinator", quick["cluster"]]
    arguments += ["--model", quick["model"], "--rounds", "1", "--target-acc", "0.01", "--precision", "fp32"]
    arguments += ["--set", "data.max_length=16"]
os.execv(sys.executable, [sys.executable, "-m", {modules!r}[name], *arguments])
"""


def runs_here(block: Block) -> bool:
    """Whether the block is one of our commands without a mark."""
    ours = [command for command in block.commands if words(command)[0] in scripts()]
    return bool(ours) and not (block.needs_board or block.needs_docker or block.needs_data)


PAGES = [path for path in DOCUMENTS if any(runs_here(block) for block in shell_blocks() if block.path == path)]


class Folder:
    """A folder with what the documents take for granted: .venv, a file of reviews, a log."""

    def __init__(self, path: Path, settings: dict[str, str]) -> None:
        self.path = path
        self.settings = {**settings, "data": str(path / "documents.jsonl")}
        self._env = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", "HF_HUB_OFFLINE": "1"}
        self._env |= {"XDG_STATE_HOME": str(path / "state"), "XDG_CACHE_HOME": str(path / "cache"), "COLUMNS": "120"}
        modules = scripts()
        (path / ".venv/bin").mkdir(parents=True)
        for name in modules:
            shim = path / ".venv/bin" / name
            file = str(path / "settings.json")
            shim.write_text(SHIM.format(python=sys.executable, settings=file, modules=modules))
            shim.chmod(0o755)
        rows = [(f"the {word} not a bad film {n}", kind) for n in range(60) for kind, word in KINDS.items()]
        (path / "documents.jsonl").write_text("".join(json.dumps({"text": t, "label": k}) + "\n" for t, k in rows))
        (path / "reviews.csv").write_text("review,stars\n" + "".join(f"{t},{k}\n" for t, k in rows))
        (path / "log.txt").write_text(LOG * 200)
        (path / "settings.json").write_text(json.dumps(self.settings))

    def start(self, script: str, log: Path) -> subprocess.Popen[bytes]:
        with log.open("wb") as out:
            return subprocess.Popen(
                ["bash", "-euo", "pipefail", "-c", script], cwd=self.path, env=self._env, stdin=subprocess.DEVNULL,
                stdout=out, stderr=out, start_new_session=True,
            )  # fmt: skip


KINDS = {"sport": "match", "money": "bank"}
LOG = "RAM 1282/7620MB (lfb 4x4MB) CPU [7%@1728] GR3D_FREQ 0%@76 VDD_IN 5000mW/5000mW VDD_CPU_GPU_CV 800mW/800mW\n"


@contextlib.contextmanager
def ended(processes: list[subprocess.Popen[bytes]]) -> Iterator[None]:
    """End them and what they started."""
    try:
        yield
    finally:
        for process in reversed(processes):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def until_printed(log: Path, text: str, process: subprocess.Popen[bytes]) -> str:
    """Wait for a line with these words, and return it."""
    end = time.monotonic() + WAIT_S
    while time.monotonic() < end:
        for line in log.read_text(errors="replace").splitlines():
            if text in line:
                return line
        assert process.poll() is None, log.read_text(errors="replace")
        time.sleep(0.1)
    raise AssertionError(f"waited {WAIT_S} s in vain for {text!r}:\n{log.read_text(errors='replace')}")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory, tiny_folder: Callable[[str], str]) -> Iterator[dict[str, str]]:
    """A coordinator and two workers; the settings that make a command quick."""
    settings = {"model": tiny_folder("bert")}
    folder = Folder(tmp_path_factory.mktemp("cluster"), settings)
    processes: list[subprocess.Popen[bytes]] = []
    with ended(processes):
        log = folder.path / "coordinator.log"
        command = ".venv/bin/federa-coordinator --serve --out runs --listen 127.0.0.1:0"
        processes.append(folder.start(f"exec {command}", log))
        address = until_printed(log, "listening on", processes[0]).split()[-1]
        for name in ("worker-0", "worker-1"):
            command = f".venv/bin/federa-worker --coordinator {address} --name {name} --threads 1"
            processes.append(folder.start(f"exec {command}", folder.path / f"{name}.log"))
        yield {**settings, "cluster": address}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_commands_of_a_page_run_in_order(page, cluster, tmp_path):
    folder = Folder(tmp_path, cluster)
    # What a page names without having made it: results to compare.
    if "runs/a" in page.read_text():
        make = ".venv/bin/federa-bench --out runs/a && cp -r runs/a runs/b"
        assert folder.start(make, tmp_path / "made.log").wait(WAIT_S) == 0, (tmp_path / "made.log").read_text()
    ports = {"50051": free_port(), "8080": free_port()}
    staying: dict[str, subprocess.Popen[bytes]] = {}
    processes: list[subprocess.Popen[bytes]] = []
    with ended(processes):
        for block in filter(runs_here, (b for b in blocks(page) if b.language == "bash")):
            script = re.sub(r"(?<=\d:)(50051|8080)\b", lambda m: str(ports[m[0]]), block.text)
            log = tmp_path / f"line-{block.line}.log"
            stays = STAYS.search(script)
            if stays and (before := staying.pop(stays[0], None)):
                # The page's next coordinator: the port is the same.
                os.killpg(before.pid, signal.SIGTERM)
                before.wait(30)
            process = folder.start(f"exec {script.strip()}" if stays else script, log)
            processes.append(process)
            if stays:
                staying[stays[0]] = process
                until_printed(log, READY[stays[0]], process)
            else:
                assert process.wait(WAIT_S) == 0, f"{block.place}:\n{block.text}\n{log.read_text(errors='replace')}"
