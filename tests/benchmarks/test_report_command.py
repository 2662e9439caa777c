"""federa-report on folders: tables, the page, and folders that are none."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from report_samples import LOOKED_FOR, error_run, make_result, make_run, replayed_result, rich_result, with_energy

from benchmarks.report import main
from coordinator.report.energy import NO_SENSOR
from coordinator.report.terminal import joule_lines, unmeasured_lines
from coordinator.storage.ledger import Ledger
from coordinator.storage.samples import Columns, Samples
from federa.config import Experiment, MethodChoice, Target
from federa.numbers import show_joules

ROOT = Path(__file__).parents[2]


def folder_of(path: Path, result: dict[str, Any]) -> Path:
    path.mkdir()
    (path / "result.json").write_text(json.dumps(result))
    return path


def words_of(capsys: pytest.CaptureFixture[str]) -> str:
    return " ".join(capsys.readouterr().out.replace("\u00a0", " ").split())


def test_one_folder_gets_tables_and_a_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    folder = folder_of(tmp_path / "run", rich_result())
    assert main([str(folder)]) == 0
    words = words_of(capsys)
    assert "6.3 kJ, module" in words and "energy 0.25 (−75 %)" in words
    assert f"Energy was not measured on device-a (BitFit) and device-b (BitFit): {NO_SENSOR}." in words
    assert LOOKED_FOR not in words and LOOKED_FOR in (folder / "report.html").read_text().partition("<script")[0]
    assert "There is no sum of joules for Adapter: device-a measures the module, device-b the board." in words
    assert (folder / "report.html").read_text().startswith("<!doctype html>")
    assert sorted(path.name for path in folder.iterdir()) == ["report.html", "result.json"]


def test_metric_that_is_better_when_lower_stands_below_its_target(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    folder = folder_of(tmp_path / "run", make_result(error_run("lora", rounds=3), error_run()))
    assert main([str(folder)]) == 0
    words = words_of(capsys)
    assert "no, mean squared error ≤ 0.5" in words and "yes, mean squared error ≤ 0.5" in words and "1.2500" in words
    assert "mean squared error ≤ 0.5" in (folder / "report.html").read_text().replace("\u00a0", " ")


def test_rounds_that_were_run_in_vain_and_the_failure_are_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    failed = make_run("lora", rounds=0) | {"curve": [], "state": "failed", "failure": "no device came"}
    folder = folder_of(tmp_path / "run", make_result(make_run(rounds=1), failed))
    assert main([str(folder)]) == 0
    words = words_of(capsys)
    assert "2, not reached" in words and "0, not reached" in words and "LoRA: failed: no device came" in words
    page = " ".join((folder / "report.html").read_text().replace("\u00a0", " ").split())
    assert ">2, not reached</td>" in page


def test_replay_is_marked_and_not_compared(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    folder = folder_of(tmp_path / "run", replayed_result())
    assert main([str(folder)]) == 0
    words = words_of(capsys)
    assert "1.26 kJ, module (replay)" in words and "replay of orin_nano.txt" in words
    assert "energy −" not in words


def test_several_folders_stand_in_one_page_under_their_names(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    one = folder_of(tmp_path / "quiet", make_result(with_energy("federa"), make_run("lora")))
    two = folder_of(tmp_path / "busy", make_result(with_energy("federa", power=9.0)))
    monkeypatch.chdir(tmp_path)
    assert main([str(one), str(two)]) == 0
    words = words_of(capsys)
    assert "FeDeRA · quiet" in words and "FeDeRA · busy" in words and "LoRA · quiet" not in words
    page = (tmp_path / "report.html").read_text()
    assert "FeDeRA · quiet" in page and "FeDeRA · busy" in page
    assert not (one / "report.html").exists()
    assert main([str(one), str(two), "--out", str(tmp_path / "both.html")]) == 0
    assert (tmp_path / "both.html").exists()


def test_run_without_results_is_read_from_its_ledger(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    config = Experiment(methods=(MethodChoice(name="lora"),), target=Target(value=0.75))
    for folder in (tmp_path / "alone", tmp_path / "many" / "lora"):
        folder.mkdir(parents=True)
        ledger = Ledger(folder / "ledger.sqlite")
        ledger.note(run_id="e-lora", config=config.model_dump(mode="json"), environment={"cpus": 2}, state="running")
        ledger.selected(1, 1, [0], "digest")
        ledger.aggregated(1, 2.5, "digest")
        ledger.evaluated(1, 0.5)
        ledger.hosted({"orin-1": "key"}, {0: "orin-1"})
        ledger.powered("orin-1", {"source": "sysfs", "scope": "module", "interval_s": 0.1})
        ledger.flush()
        samples = Samples(folder)
        rows = [(f"{1e9 + number / 10:.1f}", "1", "0", "train", "7250", "", "", "") for number in range(30)]
        samples.add("orin-1", Columns(), rows, 0.1)
        samples.write()
        assert main([str(folder)]) == 0, "while it is open"
        ledger.close()
        before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        assert main([str(folder), "--out", str(tmp_path / "elsewhere.html")]) == 0
        assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
    capsys.readouterr()
    assert main([str(tmp_path / "many")]) == 0
    assert "LoRA" in words_of(capsys).replace("lora", "LoRA")
    page = (tmp_path / "alone" / "report.html").read_text()
    assert "is still running after 1 round" in page
    assert "Power of orin-1 over time" in page and '"power_w":[7.25,7.25' in page
    assert not (tmp_path / "alone" / "result.json").exists()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        (None, ""),
        ("result.json", "{"),
        ("result.json", "[1]"),
        ("result.json", '{"schema": 1, "runs": 3}'),
        ("result.json", '{"schema": 99, "environment": {}, "runs": []}'),
        ("result.json", '{"environment": {}, "runs": []}'),
        ("result.json", '{"schema": 1, "runs": [{"devices": 3}]}'),
        ("result.json", '{"schema": 1, "runs": [{"devices": ["a"], "curve": [1]}]}'),
        ("result.json", '{"schema": 1, "runs": [{"best": NaN}]}'),
        ("ledger.sqlite", ""),
        ("ledger.sqlite", "x"),
        ("ledger.sqlite", "no database"),
    ],
)
def test_bad_folder_is_one_line(name: str | None, content: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    if name is not None:
        (tmp_path / name).write_text(content)
    assert main([str(tmp_path)]) == 2
    printed = capsys.readouterr()
    assert printed.err.startswith("federa-report: ") and printed.err.count("\n") == 1 and str(tmp_path) in printed.err
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == ({name: content} if name else {})
    assert main([str(tmp_path / "nowhere")]) == 2
    assert "there is no such folder" in capsys.readouterr().err


LEDGER_OF_A_RUN = """
import os, sys
from pathlib import Path
from coordinator.storage.ledger import Ledger
from federa.config import Experiment, MethodChoice, Target
config = Experiment(methods=(MethodChoice(name="lora"),), target=Target(value=0.75)).model_dump(mode="json")
ledger = Ledger(Path(sys.argv[1]))
ledger.note(run_id="e-lora", config=config, environment={"cpus": 2}, state="running")
ledger.selected(1, 1, [0], "digest")
ledger.aggregated(1, 2.5, "digest")
ledger.evaluated(1, 0.5)
if sys.argv[2] == "killed":
    os._exit(9)
ledger.close()
"""
READ_ONLY = """
mkdir read-only && mount --bind runs read-only && mount -o remount,bind,ro read-only && mkdir elsewhere && cd elsewhere
exec "$0" -m benchmarks.report "$@"
"""


def mounts_are_allowed() -> bool:
    return os.geteuid() == 0 and subprocess.run(["unshare", "-m", "true"], capture_output=True).returncode == 0


@pytest.mark.skipif(not mounts_are_allowed(), reason="a mount of one's own needs root")
@pytest.mark.parametrize(
    "how", ["closed", "killed", "killed, without an index", "killed, with a blank index", "result"]
)
def test_run_on_a_read_only_mount_is_read_and_its_page_stands_here(how: str, tmp_path: Path):
    folder = tmp_path / "runs" / "a"
    folder.mkdir(parents=True)
    if how == "result":
        (folder / "result.json").write_text(json.dumps(make_result(make_run("lora", rounds=1))))
    else:
        ledger = folder / "ledger.sqlite"
        subprocess.run([sys.executable, "-c", LEDGER_OF_A_RUN, str(ledger), how[:6]], cwd=ROOT, timeout=60)
        if "without" in how:
            (folder / "ledger.sqlite-shm").unlink()
        if "blank" in how:
            (folder / "ledger.sqlite-shm").write_bytes(bytes(32768))
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", READ_ONLY, sys.executable, "../read-only/a"],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert "lora" in done.stdout.lower() and "not reached" in done.stdout
    told = "report: report.html (cannot write ../read-only/a/report.html: Read-only file system)"
    assert done.stdout.splitlines()[-1] == told
    assert (tmp_path / "elsewhere" / "report.html").read_text().startswith("<!doctype html>")
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_page_for_which_no_place_is_found_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    folder = folder_of(tmp_path / "run", make_result(make_run()))
    monkeypatch.chdir(tmp_path)
    for place in (folder, tmp_path):
        (place / "report.html").mkdir()
    assert main([str(folder)]) == 2
    printed = capsys.readouterr()
    assert "federa-report: --out: cannot write report.html: Is a directory; name another place" in printed.err
    assert "FeDeRA" in printed.out


def test_database_without_tables_gets_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    database = sqlite3.connect(tmp_path / "ledger.sqlite")
    database.execute("PRAGMA journal_mode = WAL")
    database.close()
    before = (tmp_path / "ledger.sqlite").read_bytes()
    assert before and main([str(tmp_path)]) == 2
    assert "ledger.sqlite is empty: the run has not begun" in capsys.readouterr().err
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"ledger.sqlite": before}


def test_closed_pipe_is_quiet(tmp_path: Path):
    """`federa-report --tegrastats FILE --json | head -1`, with more to say than a pipe holds."""
    log = tmp_path / "log.txt"
    log.write_text("RAM 1/2MB (lfb 2x4MB) cpu@47.5C VDD_IN 1000mW/1mW\n" * 20_000)
    command = f"'{sys.executable}' -m benchmarks.report --tegrastats '{log}' --json | head -1"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, cwd=ROOT, timeout=60)
    assert done.stderr == "" and json.loads(done.stdout)["line"] == 1


@pytest.mark.parametrize(
    ("name", "words"),
    [("/dev/zero", "it is a device"), ("pipe", "it is a pipe"), ("/dev", "it is a folder"), ("/dev/null", "a device")],
)
def test_log_that_is_no_file_is_refused_at_once(
    name: str, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    os.mkfifo("pipe")
    assert main(["--tegrastats", name]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith(f"federa-report: --tegrastats: cannot read {name}: ") and words in printed.err
    assert printed.err.count("\n") == 1


@pytest.mark.parametrize(
    ("source", "code", "words"), [("/dev/zero", 2, "a device, which has no end"), ("/dev/null", 0, "")]
)
def test_standard_input_that_is_a_device_is_refused(source: str, code: int, words: str):
    with open(source, "rb") as stdin:
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.report", "--tegrastats", "-"],
            stdin=stdin, capture_output=True, text=True, cwd=ROOT, timeout=60,
        )  # fmt: skip
    assert done.returncode == code and words in done.stderr


def test_command_of_the_shell_stands_for_a_log(tmp_path: Path):
    command = (
        f"'{sys.executable}' -m benchmarks.report --json --tegrastats <(echo 'RAM 1/2MB VDD_IN 1000mW/1mW cpu@9C')"
    )
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, cwd=ROOT, timeout=60)
    assert done.stderr == "" and json.loads(done.stdout.splitlines()[0])["rails_mw"] == {"VDD_IN": 1000}


def test_lines_of_the_benchmark_say_what_the_joules_are():
    lines = joule_lines(rich_result())
    assert "joules: FT: 6.3 kJ, module, 100 % covered, largest gap 0.125 s" in lines
    assert f"joules: not measured on device-a, device-b ({NO_SENSOR})" in lines
    assert "joules: no sum for Adapter: device-a measures the module, device-b the board" in lines
    assert any("(replay)" in line for line in joule_lines(replayed_result()))


def test_device_that_was_to_measure_nothing_is_not_mentioned():
    run = make_run()
    run["devices"][0]["power_detail"], run["devices"][1]["power_detail"] = "--power none", "sysfs: gone"
    assert joule_lines(make_result(run)) == ["joules: not measured on device-b (sysfs: gone)"]
    assert unmeasured_lines(make_result(run)) == ["Energy was not measured on device-b (FeDeRA): sysfs: gone."]


def test_joules_are_said_of_a_run_that_missed_its_target_too():
    run = with_energy("lora", source="replay of x.log") | {"reached": False, "joules_to_target": None}
    (line, _) = joule_lines(make_result(run))
    spent = show_joules(run["curve"][-1]["energy_j"]).replace("\u00a0", " ")
    assert line.startswith(f"joules: LoRA: {spent}, module (replay) in 9 rounds, 100 % covered")


def test_page_that_cannot_be_written_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    folder = folder_of(tmp_path / "run", make_result(make_run()))
    assert main([str(folder), "--out", os.fspath(tmp_path / "none" / "page.html")]) == 2
    assert "--out: cannot write" in capsys.readouterr().err
