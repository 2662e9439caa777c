"""Commands whose output nobody reads, cannot be written, or does not fit what shows it: real processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from processes import ROOT
from report_samples import make_result, make_run

LINE = "RAM 1/2MB (lfb 1x4MB) CPU [1%@729] VDD_IN 5000mW/5000mW VDD_CPU_GPU_CV 400mW/400mW VDD_SOC 900mW/900mW\n"


def command(text: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[bytes]:
    """A line of bash, in which `federa` stands for the interpreter."""
    env = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    script = f'federa() {{ "{sys.executable}" "$@"; }}\nset -o pipefail\n{text}'
    return subprocess.run(["bash", "-c", script], cwd=folder, env=env, capture_output=True, timeout=120, check=False)


@pytest.fixture
def run_folder(tmp_path: Path) -> Path:
    """The folder of a run of three methods, with a name that not every terminal can show."""
    folder = tmp_path / "run"
    folder.mkdir()
    runs = [make_run(method) for method in ("ft", "lora", "federa")]
    runs[0]["devices"][0]["name"] = "größe-日本\x1b[2J"
    (folder / "result.json").write_text(json.dumps(make_result(*runs)), encoding="utf-8")
    return folder


@pytest.mark.parametrize(
    "environment",
    [
        {"PYTHONIOENCODING": "ascii"},
        {"PYTHONIOENCODING": "latin-1:strict"},
        {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
        {"LC_ALL": "POSIX", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "COLUMNS": "80"},
    ],
)
def test_a_terminal_that_cannot_show_a_sign_gets_a_question_mark(environment: dict[str, str], run_folder: Path) -> None:
    shown = command("federa -m benchmarks.report run", run_folder.parent, **environment)
    assert (shown.returncode, shown.stderr) == (0, b"")
    assert b"gr??e-??" in shown.stdout or b"gr\xf6\xdfe-??" in shown.stdout
    assert b"\x1b" not in shown.stdout and rb"\x1b[2J" in shown.stdout
    assert "größe-日本" in (run_folder / "report.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "line",
    [
        "federa -m benchmarks.report run | head -1",
        "federa -m benchmarks.report --tegrastats log.txt --json | head -1",
        "federa -m benchmarks.report --tegrastats log.txt | true",
        "federa -m benchmarks.bench --print-config | head -1",
        "federa -m benchmarks.report run >&-",
        "federa -m benchmarks.report run >&- 2>&- <&-",
        "federa -m benchmarks.report run 2>&-",
        "federa -m edge.main --check --name ada --power none | head -1",
    ],
)
def test_nobody_who_reads_is_no_failure(line: str, run_folder: Path) -> None:
    (run_folder.parent / "log.txt").write_text(LINE * 3000)
    done = command(line, run_folder.parent)
    # `federa-worker --check` may find something that is not in order on this machine.
    assert done.returncode == 0 or ("--check" in line and done.returncode == 1)
    assert done.stderr == b""


@pytest.mark.slow
def test_a_run_that_nobody_watches_goes_on_to_its_end(tmp_path: Path, tiny_folder: Callable[[str], str]) -> None:
    rows = [{"text": f"a {word} film {index}", "label": word} for index in range(40) for word in ("good", "bad")]
    (tmp_path / "data.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    arguments = f"--model {tiny_folder('bert')} --data data.jsonl --clients 2 --precision fp32 --rounds 1 --out run"
    done = command(
        f"federa -m benchmarks.bench {arguments} --target-acc 0.01 --set data.max_length=16 | head -1", tmp_path
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout == b"starting a coordinator and 2 workers here\n"
    assert json.loads((tmp_path / "run" / "result.json").read_text())["runs"][0]["reached"]


def test_files_are_not_taken_for_the_closed_output(run_folder: Path) -> None:
    """A command that opens a file while 1 is free would print into it."""
    done = command("federa -m benchmarks.report run --out page.html >&- 2>&- <&-", run_folder.parent)
    assert done.returncode == 0
    page = (run_folder.parent / "page.html").read_text(encoding="utf-8")
    assert page.startswith("<!") and page.rstrip().endswith("</html>")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
@pytest.mark.parametrize("lines", [1, 400])
def test_output_that_cannot_be_written_is_no_fault_of_the_log(lines: int, tmp_path: Path) -> None:
    (tmp_path / "log.txt").write_text(LINE * lines)
    done = command("federa -m benchmarks.report --tegrastats log.txt --json > /dev/full", tmp_path)
    assert done.returncode == 1
    assert done.stderr == b"federa-report: cannot write to standard output: No space left on device\n"


def test_a_message_does_not_steer_the_terminal(tmp_path: Path) -> None:
    done = command("federa -m benchmarks.report $'a\\e]0;title\\a\\nb'", tmp_path)
    assert done.returncode == 2
    assert done.stderr == b"federa-report: a\\x1b]0;title\\x07\\nb: there is no such folder\n"
