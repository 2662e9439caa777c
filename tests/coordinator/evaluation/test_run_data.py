"""A run's data: parts that come as files, who gets what of them, and what is said of it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from coordinator.evaluation.reference_model import TorchReferenceModel
from coordinator.evaluation.run_data import RunData, read_run_data
from federa.config import Experiment, parse_experiment
from federa.errors import BadInput
from federa.tasks.composition import in_words

WORDS = ("goal", "bank", "film")


def _write(path: Path, rows: list[tuple[str, str]], **columns: list[Any]) -> str:
    more = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)] or [{}] * len(
        rows
    )
    lines = [
        json.dumps({"text": text, "label": label, **extra}) for (text, label), extra in zip(rows, more, strict=True)
    ]
    path.write_text("\n".join(lines) + "\n")
    return str(path)


def _rows(name: str, count: int) -> list[tuple[str, str]]:
    return [(f"{name} {WORDS[number % 3]} {number}", WORDS[number % 3]) for number in range(count)]


@pytest.fixture
def files(tmp_path: Path) -> dict[str, str]:
    train, dev = _rows("train", 60), _rows("dev", 12)
    dev[3] = train[6]
    return {
        "source": _write(tmp_path / "train.jsonl", train, author=[f"author {n % 7}" for n in range(60)]),
        "validation_file": _write(tmp_path / "dev.jsonl", dev, author=[f"author {n % 9}" for n in range(12)]),
        "test_file": _write(tmp_path / "test.jsonl", _rows("test", 9), author=["author 1"] * 9),
    }


def _experiment(data: dict[str, Any], **fields: Any) -> Experiment:
    return parse_experiment({"data": data, "federation": {"clients": 4, "devices": 2}, **fields})


def _read(data: dict[str, Any], **fields: Any) -> tuple[RunData, list[list[int]], dict[str, Any]]:
    found = read_run_data(_experiment(data, **fields))
    return found, *found.deal(None)


def test_three_files_are_three_parts_and_all_of_the_first_is_trained_on(files: dict[str, str]) -> None:
    found, shards, composition = _read(files)
    assert sorted(index for shard in shards for index in shard) == list(range(60))
    assert composition["parts"] == {"training": 60, "validation": 12, "test": 9}
    assert [record[0] for record in found.held_out["test"].records] == [text for text, _ in _rows("test", 9)]
    assert composition["classes"][0] == {"name": "bank", "documents": 27, "training": 20, "validation": 4, "test": 3}
    # Published splits overlap: nothing is dropped, and it is said.
    assert composition["copies"] == {"validation": 1, "test": 0}
    assert in_words(composition).endswith("9 for the test; 1 of the validation part is also in the training part")


@pytest.mark.parametrize(("given", "other"), [("validation_file", "test"), ("test_file", "validation")])
def test_one_file_alone_leaves_the_other_part_a_fraction(files: dict[str, str], given: str, other: str) -> None:
    data = {"source": files["source"], given: files[given]}
    found, shards, composition = _read(data)
    whole = {"validation_file": 12, "test_file": 9}[given]
    assert composition["parts"] == {"training": 51, other: 9, given.removesuffix("_file"): whole}
    assert sum(map(len, shards)) == 51 and len(found.held_out) == 2


def test_the_classes_of_the_training_part_are_those_of_all(files: dict[str, str], tmp_path: Path) -> None:
    strange = _rows("dev", 5)
    strange[2] = ("a text", "weather")
    data = {**files, "validation_file": _write(tmp_path / "strange.jsonl", strange)}
    with pytest.raises(BadInput) as caught:
        read_run_data(_experiment(data))
    assert str(caught.value) == (
        f"data: {tmp_path}/strange.jsonl has the label 'weather', which is none of bank, film, goal (line 3): mend it, "
        "or name all classes in data.labels"
    )
    known = {**data, "labels": ["weather", *WORDS]}
    assert read_run_data(_experiment(known)).task.class_names() == ("weather", *WORDS)


def test_workers_need_the_other_files_only_where_they_evaluate(files: dict[str, str]) -> None:
    alone = {"source": files["source"]}
    by_coordinator, by_devices = (
        read_run_data(_experiment(files)),
        read_run_data(_experiment(files, evaluation="devices")),
    )
    task = by_coordinator.experiment.make_task()
    assert by_coordinator.digest == task.load().digest() == read_run_data(_experiment(alone)).digest
    assert by_devices.digest == task.load(parts=True).digest() != by_coordinator.digest
    assert by_coordinator.held_out_digest and not by_devices.held_out_digest
    assert not read_run_data(_experiment(alone)).held_out_digest
    Path(files["test_file"]).write_text(Path(files["test_file"]).read_text().replace("test", "other"))
    assert read_run_data(_experiment(files)).held_out_digest != by_coordinator.held_out_digest
    assert read_run_data(_experiment(files)).digest == by_coordinator.digest
    assert read_run_data(_experiment(files, evaluation="devices")).digest != by_devices.digest


@pytest.mark.parametrize("kind", ["dirichlet", "iid", "quantity", "shards", "natural"])
def test_where_devices_evaluate_the_parts_are_dealt_out_as_the_training_part_is(
    files: dict[str, str], kind: str
) -> None:
    partition = {"kind": kind, **({"column": "author"} if kind == "natural" else {})}
    found, shards, composition = _read({**files, "partition": partition}, evaluation="devices")
    assert sorted(index for shard in shards for index in shard) == list(range(81)) and not found.held_out
    assert composition["parts"] is None and sum(map(sum, composition["clients"]["counts"])) == 60
    dataset = found.dataset
    assert (dataset is not None and dataset.groups is not None) or kind != "natural"
    if kind == "natural":
        owned = [{dataset.groups[index] for index in shard if index < 60} for shard in shards]
        assert sum(map(len, owned)) == 7  # each author has one client
        for shard, authors in zip(shards, owned, strict=True):
            strange = {dataset.groups[index] for index in shard} - authors
            assert strange <= {"author 7", "author 8"}  # nobody trains on those


def test_the_split_is_counted_by_client_and_class(files: dict[str, str]) -> None:
    found, shards, composition = _read({**files, "partition": {"alpha": 0.1}})
    labels = [record[1] for record in found.dataset.records]
    counts = [[Counter(labels[index] for index in shard)[label] for label in range(3)] for shard in shards]
    assert composition["clients"] == {"classes": ["bank", "film", "goal"], "counts": counts, "by": "classes"}


def test_natural_needs_a_column_in_every_row(files: dict[str, str], tmp_path: Path) -> None:
    data = {"source": files["source"], "partition": {"kind": "natural", "column": "writer"}}
    with pytest.raises(BadInput, match=r"train\.jsonl line 1 has no column 'writer' \(data\.partition\.column\)"):
        read_run_data(_experiment(data))
    with pytest.raises(BadInput, match=r"data\.partition\.column: the embedded BBC News has no columns"):
        read_run_data(_experiment({"partition": {"kind": "natural", "column": "writer"}}))
    fields = {"federation": {"clients": 8, "devices": 2}}
    data["partition"]["column"] = "author"
    with pytest.raises(BadInput, match=r"federation\.clients must be at most 7, the values of the column 'author'"):
        _read(data, evaluation="devices", **fields)


def test_clusters_take_the_place_of_classes(files: dict[str, str]) -> None:
    partition = {"over": "clusters", "kind": "shards", "shards_per_client": 1}
    found = read_run_data(_experiment({**files, "partition": partition}))
    assert found.needs_clusters and not read_run_data(_experiment(files)).needs_clusters
    seen: list[tuple[int, int]] = []

    def clusters(texts: list[str], fitted: int) -> list[int]:
        seen.append((len(texts), fitted))
        assert all(text.startswith("train") for text in texts[:fitted])
        return [int(text.split()[-1]) // 15 % 4 for text in texts]

    assigned = found.cluster(clusters)
    assert seen == [(81, 60)] and assigned[:60] == [number // 15 for number in range(60)]
    shards, composition = found.deal(assigned)
    assert sorted(shards) == [list(range(first, first + 15)) for first in (0, 15, 30, 45)]
    assert composition["clients"]["by"] == "classes"


def test_sentences_with_entities_are_clustered_unless_classes_are_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "x.conll"
    three = "Anna\tB-person\n{0}\tO\n\nin\tO\nRome\tB-place\n{0}\tO\n\nno\tO\n{0}\tO\n\n"
    path.write_text("".join(three.format(number) for number in range(8)))
    data: dict[str, Any] = {"source": str(path), "validation": 0.25, "test": 0.25}
    found = read_run_data(_experiment(data, task="token-classification"))
    assert found.needs_clusters
    _, composition = found.deal([number % 3 for number in range(24)])
    assert composition["clients"]["classes"] == ["person", "place"] and composition["clients"]["by"] == "classes"
    data["partition"] = {"over": "classes"}
    assert not read_run_data(_experiment(data, task="token-classification")).needs_clusters


def test_questions_have_clusters_alone(tmp_path: Path) -> None:
    question = {"question": "who?", "answers": {"text": ["she"], "answer_start": [0]}}
    rows = [{"id": str(n), **question, "context": f"she sings {n}"} for n in range(40)]
    path = tmp_path / "x.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = read_run_data(_experiment({"source": str(path)}, task="question-answering"))
    assert found.needs_clusters
    shards, composition = found.deal([number % 2 for number in range(40)])
    owned = [[sum(index % 2 == number for index in shard) for number in range(2)] for shard in shards]
    assert composition["clients"] == {"classes": ["cluster 1", "cluster 2"], "counts": owned, "by": "clusters"}
    data = {"source": str(path), "partition": {"over": "classes"}}
    with pytest.raises(BadInput, match=r"^data\.partition\.over must be clusters: question-answering has no classes"):
        _read(data, task="question-answering")


def test_the_coordinator_may_hold_all_that_is_held_out(files: dict[str, str]) -> None:
    data = {**files, "source": "devices", "labels": ["bank", "film", "goal"]}
    found = read_run_data(_experiment(data, evaluation="coordinator", federation={"devices": 2}))
    assert {part: len(dataset) for part, dataset in found.held_out.items()} == {"validation": 12, "test": 9}
    assert found.deal(None)[0] == [[], []] and found.digest == "" and found.held_out_digest


def test_a_run_that_goes_on_has_the_clusters_that_it_began_with(
    files: dict[str, str], tiny_folder: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    data = {"source": files["source"], "partition": {"over": "clusters", "clusters": 3}}
    config = _experiment(data, model=tiny_folder("bert"))
    first = TorchReferenceModel(config)
    start = first.prepare()
    assert first.clusters is not None and len(first.clusters) == 60 and set(first.clusters) <= {0, 1, 2}
    monkeypatch.setattr("federa.models.clusters.cluster_texts", lambda *given, **named: pytest.fail("computed again"))
    again = TorchReferenceModel(config)
    again.clusters = [2 - cluster for cluster in first.clusters]
    again.prepare(start)
    assert again.shards != first.shards  # what was recorded decides
    again = TorchReferenceModel(config)
    again.clusters = list(first.clusters)
    again.prepare(start)
    assert again.shards == first.shards
