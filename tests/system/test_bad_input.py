"""Bad input to the commands: one clear line that names the thing, and exit code 2."""

from __future__ import annotations

import json
import os
import re
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from processes import Process, bench, ended, listening, result_of

from benchmarks.bench import main as bench_main
from coordinator import run_experiment
from coordinator.storage.experiment_record import open_record
from federa.config import Experiment
from federa.errors import BadInput
from protos.federation_pb2 import Outcome

UNUSABLE = r"has the loss (nan|inf)|holds values that are not finite"


@pytest.fixture(scope="module")
def coordinator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of one that serves, without workers: it refuses before it needs any."""
    folder = tmp_path_factory.mktemp("coordinator")
    arguments = ["-m", "coordinator.main", "--serve", "--out", str(folder / "serve"), "--listen", "127.0.0.1:0"]
    process = Process(arguments, folder)
    with ended(process):
        yield listening(process)


def _rows(path: Path, rows: list[dict[str, str]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def _refused(process: Process, *words: str) -> None:
    assert process.wait() == 2, process.out + process.err
    lines = process.err.strip().splitlines()
    assert len(lines) == 1, process.err
    for word in words:
        assert word in lines[0]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--method", "sgd"], ["--method", "'sgd'", "ft, bitfit, adapter, lora, federa"]),
        (["--target-acc", "1.5"], ["--target-acc", "1.5"]),
        (["--target-acc", "0"], ["--target-acc"]),
        (["--target-acc", "ninety"], ["--target-acc", "ninety"]),
        (["--clients", "1", "--devices", "2"], ["clients", "devices (2)"]),
        (["--precision", "fp8"], ["--precision", "fp8", "bf16"]),
        (["--bandwidth", "fast"], ["--bandwidth", "'fast'"]),
        (["--experiment", "no-such.yaml"], ["no-such.yaml"]),
        (["--set", "lora.rank=4"], ["lora.rank"]),
    ],
    ids=lambda value: " ".join(value) if value and str(value[0]).startswith("--") else "",
)
def test_bad_arguments(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], words: list[str]
) -> None:
    assert bench_main(["--out", str(tmp_path / "out"), *arguments]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert all(word in line for word in words), line


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--model", "./no/such/folder"], ["model", "./no/such/folder"]),
        (["--data", "no-such.jsonl"], ["no-such.jsonl"]),
    ],
)
def test_a_model_or_data_that_is_not_there(
    tmp_path: Path, coordinator: str, arguments: list[str], words: list[str]
) -> None:
    _refused(bench(tmp_path / "out", "--coordinator", coordinator, *arguments), *words)


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([{"body": "a", "label": "x"}], ["'text'", "body, label"]),
        ([{"text": "a", "topic": "x"}], ["'label'", "text, topic"]),
        ([], ["no documents"]),
        ([{"text": str(number), "label": "x"} for number in range(9)], ["one class"]),
        ([{"text": "a", "label": "x"}, {"text": "b", "label": "y"}], ["too few"]),
        ([{"text": f"{n}", "label": "xX"[n % 2]} for n in range(9)], ["upper and lower case", "'X' (4) and 'x' (5)"]),
        (
            [{"text": f"{n}", "label": ["1", "2", "NaN"][n % 3]} for n in range(9)],
            ["3 of 9 rows (lines 3, 6"],
        ),
    ],
    ids=["no text column", "no label column", "empty", "one class", "too few", "alike", "not a number"],
)
def test_bad_data_files(
    tmp_path: Path, tiny_folder: Callable[[str], str], coordinator: str, rows: list[dict[str, str]], words: list[str]
) -> None:
    data = ["--model", tiny_folder("bert"), "--data", _rows(tmp_path / "data.jsonl", rows)]
    _refused(bench(tmp_path / "out", *data, "--coordinator", coordinator), "data: ", *words)


def test_a_bad_data_file_ends_the_processes_that_were_started_for_it(
    tmp_path: Path, tiny_folder: Callable[[str], str]
) -> None:
    # Its first record is as it should be: what is wrong is found when all of them have been read.
    data = _rows(tmp_path / "data.jsonl", [{"text": str(number), "label": "x"} for number in range(9)])
    _refused(bench(tmp_path / "out", "--model", tiny_folder("bert"), "--data", data), "data: ", "one class")
    # No round was announced: with other data the folder serves.
    good = [{"text": f"{label} {number}", "label": label} for number in range(20) for label in ("x", "y")]
    arguments = ["--data", _rows(tmp_path / "good.jsonl", good), "--clients", "2", "--rounds", "1"]
    process = bench(tmp_path / "out", "--model", tiny_folder("bert"), *arguments)
    assert process.wait() in (0, 3), process.err
    assert [run["rounds"] for run in result_of(tmp_path / "out")["runs"]] == [1]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, ["no such file"]),
        ("", ["no documents"]),
        ('{"body": "a", "label": "x"}\n', ["'text'", "body, label"]),
        ("{\n", ["line 1 is not JSON"]),
        ('{"text": "a"}\n' * 3 + '{"text": "a", "label": "x"}\n', ["'label'", "in 3 of 4 rows (lines 1, 2, 3)"]),
        ('{"text": {"0": "a"}, "label": {"0": "x"}}', ['orient="records"']),
    ],
    ids=["not there", "empty", "no text column", "broken line", "rows without a label", "columns"],
)
def test_bad_data_is_found_before_anything_is_started_and_leaves_the_folder_free(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    content: str | None,
    words: list[str],
) -> None:
    started: list[object] = []
    monkeypatch.setattr("benchmarks.bench.run_to_end", lambda *given, **options: started.append(given))
    data, out = tmp_path / "data.jsonl", tmp_path / "out"
    if content is not None:
        data.write_text(content)
    assert bench_main(["--out", str(out), "--data", str(data)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("federa-bench: data: ") and all(word in line for word in words), line
    assert not started and not out.exists()
    with pytest.raises(BadInput, match=r"^data: "):
        run_experiment({"data": {"source": str(data)}}, out=out)
    assert not out.exists()


def test_what_is_finished_needs_its_data_no_more(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, gone = tmp_path / "out", str(tmp_path / "data.jsonl")
    open_record(out, Experiment.model_validate({"data": {"source": gone}})).ended(Outcome()).write(out)
    assert bench_main(["--out", str(out), "--data", gone]) == 0
    assert "holds this experiment's results already" in capsys.readouterr().out


def test_data_of_the_devices_own_needs_a_coordinator_whatever_else_is_missing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert bench_main(["--out", str(tmp_path / "out"), "--data", "devices"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("federa-bench: --data: devices needs --coordinator")
    # Who only prints the experiment needs none.
    assert (
        bench_main(["--data", "devices", "--evaluation", "devices", "--set", "data.labels=[a, b]", "--print-config"])
        == 0
    )


def test_a_rank_above_the_matrix_s(tmp_path: Path, tiny_folder: Callable[[str], str], coordinator: str) -> None:
    rows = [{"text": f"{label} {number}", "label": label} for number in range(20) for label in ("x", "y")]
    data = _rows(tmp_path / "data.jsonl", rows)
    arguments = ["--model", tiny_folder("bert"), "--data", data, "--set", "lora.r=33"]
    _refused(bench(tmp_path / "out", *arguments, "--coordinator", coordinator), "lora.r", "at most 32", "33")


def test_an_out_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    # As root nothing is unwritable but what is no folder, or lies on a file system that says so.
    for out in (str(tmp_path / "file" / "out"), "/proc/sys/federa"):
        _refused(Process(["-m", "benchmarks.bench", "--out", out], tmp_path), "--out", out)


@pytest.mark.parametrize("name", ["result.json", "ledger.sqlite"])
def test_an_out_that_holds_results_of_another_origin_is_not_overwritten(tmp_path: Path, name: str) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / name).write_text("precious")
    _refused(bench(tmp_path / "out"), "--out", f"already holds a {name} of another origin", "name another folder")
    assert (tmp_path / "out" / name).read_text() == "precious"


def test_an_out_that_holds_another_experiment_is_named_by_the_first_difference(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    open_record(tmp_path / "out", Experiment(seed=1))
    before = (tmp_path / "out" / "experiment.json").read_bytes()
    _refused(bench(tmp_path / "out", "--seed", "2"), "--out", "another experiment (seed is 1 there, 2 here)")
    assert (tmp_path / "out" / "experiment.json").read_bytes() == before


def test_a_port_in_use(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        arguments = ["-m", "coordinator.main", "--serve", "--out", str(tmp_path / "out"), "--listen", address]
        process = Process(arguments, tmp_path)
        assert process.wait() == 2
        # gRPC logs a line of its own about the address.
        assert process.err.strip().splitlines()[-1].startswith("federa-coordinator: --listen: cannot listen on")


def test_a_coordinator_that_nobody_runs(tmp_path: Path) -> None:
    process = bench(tmp_path / "out", "--coordinator", "127.0.0.1:1")
    assert process.wait() == 1
    assert "nobody answers at 127.0.0.1:1" in process.err


def test_a_precision_whose_probe_fails(tmp_path: Path, tiny_folder: Callable[[str], str]) -> None:
    # No hardware at hand fails a probe, so the worker's is made to: by a torch whose bf16 matmul raises.
    rows = [{"text": f"{label} {number}", "label": label} for number in range(20) for label in ("x", "y")]
    broken = tmp_path / "site"
    broken.mkdir()
    (broken / "sitecustomize.py").write_text(
        "import sys\n"
        "if 'edge.main' in sys.orig_argv:\n"
        "    import edge.training.device as device, torch\n"
        "    real = device.try_device\n"
        "    bf16 = torch.bfloat16\n"
        "    fails = lambda d, dtype=torch.float32: 'made to fail' if dtype is bf16 else real(d, dtype)\n"
        "    device.try_device = fails\n"
    )
    path = os.pathsep.join([str(broken), str(Path(__file__).resolve().parents[2])])
    arguments = ["-m", "benchmarks.bench", "--out", str(tmp_path / "out"), "--model", tiny_folder("bert")]
    arguments += ["--data", _rows(tmp_path / "data.jsonl", rows), "--precision", "bf16"]
    _refused(Process(arguments, tmp_path, {"PYTHONPATH": path}), "--precision bf16", "made to fail")


def test_updates_that_cannot_be_used_end_the_run_with_the_reason(
    tmp_path: Path, tiny_folder: Callable[[str], str]
) -> None:
    # A learning rate at which training diverges: no update is finite.
    rows = [{"text": f"{label} {number}", "label": label} for number in range(20) for label in ("x", "y")]
    process = bench(
        tmp_path / "out", "--model", tiny_folder("bert"), "--data", _rows(tmp_path / "data.jsonl", rows),
        "--clients", "2", "--precision", "fp32", "--set", "methods=[{name: ft, learning_rate: 1.0e+38}]",
    )  # fmt: skip
    assert process.wait() == 1
    (line,) = [line for line in process.err.splitlines() if line.startswith("federa-bench: ")]
    assert line.startswith("federa-bench: round 1") and re.search(UNUSABLE, line)
    assert line.endswith("; mend that and start again with the same --out: the run goes on with this round")
    (run,) = result_of(tmp_path / "out")["runs"]
    # At once where both are refused in the same words, and after three attempts where not.
    refused = sorted((row["kind"], row["client"]) for row in run["setbacks"])
    assert refused in ([("refused", 0)] * count + [("refused", 1)] * count for count in (1, 3))
    assert all(re.search(UNUSABLE, row["reason"]) for row in run["setbacks"])


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("data.max_length=81", ["data.max_length", "at most 80"]),
        ("lora.alpha=1.0e-90", ["lora.alpha", "not finite"]),
    ],
)
def test_what_the_model_cannot_do(
    tmp_path: Path, tiny_folder: Callable[[str], str], coordinator: str, setting: str, words: list[str]
) -> None:
    rows = [{"text": f"{label} {number}", "label": label} for number in range(20) for label in ("x", "y")]
    data = _rows(tmp_path / "data.jsonl", rows)
    arguments = ["--model", tiny_folder("bert"), "--data", data, "--set", "lora.r=4", "--set", setting]
    _refused(bench(tmp_path / "out", *arguments, "--coordinator", coordinator), *words)
