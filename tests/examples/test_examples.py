"""The examples of docs/extending.md do as they say: one file and one line in a copy of the repository, and federa-bench
runs with them."""

from __future__ import annotations

import ast
import importlib.util
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from processes import ROOT

from federa.aggregation.base import AggregateFiles, RoundUpdates, Update
from federa.tensors.state import pack, unpack

PACKAGES = ("federa", "protos", "coordinator", "edge", "benchmarks")
DEADLINE_S = 240.0


def copy_with(example: str, folder: Path) -> Path:
    """A copy of the repository with an example in it, put in as its own first lines say."""
    for package in PACKAGES:
        shutil.copytree(ROOT / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
    source = ROOT / "examples" / f"{example}.py"
    says = ast.get_docstring(ast.parse(source.read_text())) or ""
    target, table, registry = re.search(r"copy this file to (\S+\.py), add to (\w+) in (\S+\.py)", says).groups()
    line = re.search(r'^    "[\w-]+": "[\w.:]+",$', says, re.MULTILINE)[0]
    shutil.copyfile(source, folder / target)
    text = (folder / registry).read_text()
    (folder / registry).write_text(text.replace(f"{table} = {{\n", f"{table} = {{\n{line}\n"))
    assert (folder / registry).read_text().count(line) == 1
    return folder


def start(copy: Path, out: Path, *arguments: str) -> subprocess.Popen[str]:
    env = {**os.environ, "PYTHONPATH": str(copy), "OMP_NUM_THREADS": "1"}
    common = ["--power", "none", "--seed", "7", "--clients", "2", "--set", "data.max_length=16", "--out", str(out)]
    command = [sys.executable, "-m", "benchmarks.bench", *common, *arguments]
    return subprocess.Popen(
        command, cwd=copy, env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True
    )


def bench(copy: Path, out: Path, *arguments: str) -> dict[str, Any]:
    """Run it to its end; the result's only run."""
    process = start(copy, out, *arguments)
    printed, _ = process.communicate(timeout=DEADLINE_S)
    assert process.returncode in (0, 3), printed
    (run,) = json.loads((out / "result.json").read_text())["runs"]
    assert run["state"] == "finished"
    return run


def killed_after_a_round(copy: Path, out: Path, *arguments: str) -> None:
    """Run it until the first round is over, then kill -9 the coordinator and the workers with it."""
    process = start(copy, out, *arguments)
    end = time.monotonic() + DEADLINE_S
    while not any(_curve(path) for path in (out / "coordinator").rglob("result.json")):
        assert process.poll() is None and time.monotonic() < end, process.stdout and process.stdout.read()
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


def _curve(result: Path) -> list[Any]:
    """The rounds of a result that is written while the run goes on."""
    try:
        return json.loads(result.read_text())["runs"][0]["curve"]
    except (OSError, ValueError, LookupError):
        return []


@pytest.fixture
def labelled(tmp_path: Path) -> str:
    words = {"sport": ("match", "team", "goal"), "money": ("bank", "market", "shares")}
    rows = [{"text": f"the {words[label][n % 3]} is good {n}", "label": label} for n in range(60) for label in words]
    return _file(tmp_path / "labelled.jsonl", rows)


def _file(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def ask(copy: Path, code: str, *arguments: str) -> Any:
    """What a few lines of Python print with the copy, as JSON."""
    env = {**os.environ, "PYTHONPATH": str(copy)}
    done = subprocess.run([sys.executable, "-c", code, *arguments], cwd=copy, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.slow
def test_a_method_that_trains_layer_norms_only(
    tmp_path: Path, tiny_folder: Callable[[str], str], labelled: str
) -> None:
    copy = copy_with("layer_norm", tmp_path / "copy")
    arguments = ["--method", "layer-norm", "--model", tiny_folder("bert"), "--data", labelled, "--rounds", "2"]
    run = bench(copy, tmp_path / "out", *arguments, "--target-acc", "1", "--precision", "bf16")
    assert run["method"] == "layer-norm" and run["learning_rate"] == 1e-3
    # Two for each of five layer normalisations of 32 values, and a head of 2 x 33.
    assert run["trainable_parameters"] == 5 * 2 * 32 + 2 * 33
    assert "layer-norm" in (tmp_path / "out" / "report.html").read_text()
    code = (
        "import json, sys; from federa import load_bundle\n"
        "found = load_bundle(sys.argv[1]); print(json.dumps(found.evaluate(sys.argv[2])))"
    )
    assert ask(copy, code, str(tmp_path / "out"), labelled)["examples"] == 120


@pytest.mark.slow
def test_a_task_of_text_regression_on_the_devices(tmp_path: Path, tiny_folder: Callable[[str], str]) -> None:
    copy = copy_with("text_regression", tmp_path / "copy")
    rows = [{"text": f"a {'good' if n % 2 else 'bad'} film {n}", "stars": float(n % 2)} for n in range(120)]
    arguments = ["--method", "lora", "--model", tiny_folder("bert"), "--data", _file(tmp_path / "stars.jsonl", rows)]
    arguments += ["--set", "task=text-regression", "--set", "data.value_column=stars", "--evaluation", "devices"]
    run = bench(copy, tmp_path / "out", *arguments, "--target-acc", "1e-9", "--rounds", "3")
    assert (run["metric"], run["better"], run["target"], run["reached"]) == ("mse", "lower", 1e-9, False)
    values = [point["value"] for point in run["curve"]]
    assert len(values) == 3 and run["best"] == min(values) and run["test"] > 0
    last = run["held_out"]["validation"]
    assert sum(entry["squared_error"] for entry in last) / sum(entry["examples"] for entry in last) == values[-1]
    report = (tmp_path / "out" / "report.html").read_text()
    shown = re.sub(r"<script.*?</script>", "", report, flags=re.DOTALL).lower()
    assert "mse" in shown and "accuracy" not in shown and "squared error" in shown
    # The same again with a target that the first round reaches: from above.
    easy = bench(copy, tmp_path / "easy", *arguments, "--target-acc", str(values[0] + 1), "--rounds", "3")
    assert easy["reached"] and easy["rounds"] == 1 and easy["curve"][0]["value"] == values[0]


@pytest.mark.slow
def test_an_aggregator_that_takes_the_median_survives_a_kill_to_the_bit(
    tmp_path: Path, tiny_folder: Callable[[str], str], labelled: str
) -> None:
    copy = copy_with("median", tmp_path / "copy")
    arguments = ["--method", "federa", "--model", tiny_folder("bert"), "--data", labelled, "--rounds", "3"]
    arguments += ["--clients", "4", "--set", "aggregator=median", "--set", "median.step=0.5", "--target-acc", "1"]
    arguments += ["--set", "training.batch_size=2", "--set", "training.epochs=5"]
    undisturbed = bench(copy, tmp_path / "undisturbed", *arguments)
    assert undisturbed["config"]["aggregator"] == "median" and undisturbed["config"]["median"] == {"step": 0.5}
    killed_after_a_round(copy, tmp_path / "killed", *arguments)
    killed = bench(copy, tmp_path / "killed", *arguments)
    assert killed["restarts"] == 1
    states = [(tmp_path / name / "final" / "state.safetensors").read_bytes() for name in ("undisturbed", "killed")]
    assert states[0] == states[1]
    assert [point["value"] for point in killed["curve"]] == [point["value"] for point in undisturbed["curve"]]


@pytest.mark.parametrize(
    ("example", "code", "printed"),
    [
        ("layer_norm", "from federa.methods import METHODS; print(json.dumps('layer-norm' in METHODS))", True),
        (
            "median",
            "from federa.config import parse_experiment as p; e = p({'median': {'step': 0.25}})\n"
            "print(json.dumps(e.median.step))",
            0.25,
        ),
        (
            "text_regression",
            "from federa.config import parse_experiment as p; e = p({'task': 'text-regression'})\n"
            "print(json.dumps([e.target.metric, e.target.value, e.data.columns]))",
            ["mse", 0.1, {"text_column": "text", "value_column": "value"}],
        ),
    ],
)
def test_one_line_makes_it_known(tmp_path: Path, example: str, code: str, printed: object) -> None:
    copy = copy_with(example, tmp_path / "copy")
    assert ask(copy, f"import json; {code}") == printed


@pytest.mark.parametrize(
    ("tree", "words"),
    [
        ({"data": {"label_column": "x"}}, "data.label_column is not a known field"),
        ({"target": {"metric": "accuracy"}}, "target.metric: must be 'mse' (got 'accuracy')"),
        ({"target": {"value": 0}}, "target.value: must be above 0 (got 0.0)"),
        ({"target": {"value": 7.5}}, ""),
    ],
)
def test_what_belongs_to_another_task_is_refused_by_its_fields_name(
    tmp_path: Path, tree: dict[str, Any], words: str
) -> None:
    copy = copy_with("text_regression", tmp_path / "copy")
    code = (
        "import json, sys; from federa.config import parse_experiment; from federa.errors import BadInput\n"
        "try: parse_experiment(json.loads(sys.argv[1])); print(json.dumps(''))\n"
        "except BadInput as error: print(json.dumps(str(error)))"
    )
    assert ask(copy, code, json.dumps({"task": "text-regression", **tree})) == words


@pytest.mark.parametrize(("step", "expected"), [(1.0, [2.0, 5.0]), (0.5, [1.5, 3.0])])
def test_the_median_is_gone_towards_from_the_broadcast(tmp_path: Path, step: float, expected: list[float]) -> None:
    path = ROOT / "examples" / "median.py"
    spec = importlib.util.spec_from_file_location("median_example", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # its annotations are looked up there
    spec.loader.exec_module(module)
    updates = []
    for client, values in enumerate([[1.0, 4.0], [2.0, 5.0], [1e30, 6.0]]):
        file = tmp_path / f"{client}.safetensors"
        file.write_bytes(pack({"w": np.asarray(values, np.float32)}))
        updates.append(Update(path=file, examples=1 + 100 * client))
    files = AggregateFiles(state=tmp_path / "state", server_state=tmp_path / "server")
    median = module.Median(module.MedianSection(step=step))
    median.aggregate(RoundUpdates(updates, lambda name: np.ones(2, np.float32)), files)
    assert unpack(files.state.read_bytes())["w"].tolist() == expected
