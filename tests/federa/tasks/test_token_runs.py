"""One round of token classification in one process, with every method, and what comes out of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import cycle
from pathlib import Path

import numpy as np
import pytest
import torch
from tagged import SENTENCES, read_sentences, write_sentences

from coordinator.evaluation.reference_model import TorchReferenceModel
from edge.training.run_order import RunOrder
from edge.training.runtime import TorchRuntime
from federa.bundle import BundleFacts, load_bundle, write_bundle
from federa.config import Experiment
from federa.methods import METHODS
from federa.tasks.metric import total
from federa.tensors.state import pack, unpack


def _config(folder: Path, model: str, method: str = "federa", **changes: object) -> Experiment:
    sentences = [(f"{words} {number}", f"{tags} O") for number in range(10) for words, tags in SENTENCES]
    data = {"source": str(write_sentences(folder / "x.jsonl", sentences)), "max_length": 16}
    return Experiment.model_validate(
        {
            "task": "token-classification",
            "model": model,
            "methods": [{"name": method}],
            "lora": {"r": 2},
            "data": {**data, **changes.pop("data", {})},  # type: ignore[dict-item]
            "federation": {"clients": 2, "clients_per_round": 2},
            **changes,
        }
    )


def _order(model: TorchReferenceModel) -> RunOrder:
    return RunOrder(
        run_id="run",
        experiment_json=model.experiment.model_dump_json(),
        base_digest=model.base_digest,
        data_digest=model.data_digest,
        shards=dict(enumerate(model.shards)),
        trial=True,
    )


@pytest.mark.parametrize(("method", "precision"), list(zip(METHODS, cycle(["bf16", "fp32"]), strict=False)))
def test_a_round_with_evaluation_here_or_on_devices_and_a_bundle_of_it(
    tmp_path: Path, tiny_folder: Callable[[str], str], method: str, precision: str
) -> None:
    where = "devices" if precision == "bf16" else "coordinator"
    config = _config(tmp_path, tiny_folder("bert"), method, training={"precision": precision}, evaluation=where)
    reference = TorchReferenceModel(config)
    blob = reference.prepare()
    start = unpack(blob)
    runtime = TorchRuntime(torch.device("cpu"))
    runtime.prepare(_order(reference))
    runtime.install(start)
    updates = []
    for client in (0, 1):
        trained = runtime.train(1, client, start, lambda progress: None)
        assert np.isfinite(trained.loss)
        updates.append({name: np.array(value) for name, value in trained.tensors.items()})
    mean = {name: (updates[0][name] + updates[1][name]) / 2 for name in start}
    assert any(not np.array_equal(mean[name], start[name]) for name in start)
    (tmp_path / "start").write_bytes(blob)
    (tmp_path / "state").write_bytes(pack(mean))
    if where == "devices":
        counters = total(runtime.evaluate(client, "validation", mean, lambda: None) for client in (0, 1))
    else:
        counters = dict(reference.evaluate(tmp_path / "state", "validation"))
    task = reference.experiment.make_task()
    assert task.check(counters) == "" and counters["gold_entities"] > 0 and counters["examples"] > 0
    (tmp_path / "final").mkdir()
    facts = BundleFacts(experiment=reference.experiment, base_digest=reference.base_digest, round=1)
    write_bundle(tmp_path / "final", state=tmp_path / "state", start=tmp_path / "start", facts=facts)
    found = load_bundle(tmp_path).evaluate(tmp_path / "x.jsonl")
    assert found.keys() == {"entity_f1", "entity_precision", "entity_recall", "word_accuracy", "examples"}
    assert found["examples"] == 40


def test_the_model_that_comes_out_is_one_for_the_pipeline_of_transformers(
    tmp_path: Path, tiny_folder: Callable[[str], str]
) -> None:
    from transformers import pipeline

    reference = TorchReferenceModel(_config(tmp_path, tiny_folder("bert")))
    blob = reference.prepare()
    (tmp_path / "state").write_bytes(blob)
    (tmp_path / "final").mkdir()
    facts = BundleFacts(experiment=reference.experiment, base_digest=reference.base_digest, round=0)
    write_bundle(tmp_path / "final", state=tmp_path / "state", start=tmp_path / "state", facts=facts)
    model, tokenizer = load_bundle(tmp_path).model()
    assert type(model).__name__ == "BertForTokenClassification"
    assert list(model.config.id2label.values()) == ["O", "B-group", "I-group", "B-place", "I-place"]
    model.save_pretrained(tmp_path / "exported")
    tokenizer.save_pretrained(tmp_path / "exported")
    ask = pipeline("token-classification", model=str(tmp_path / "exported"))
    said = {(found["index"], found["entity"]) for found in ask(f"{SENTENCES[0][0]} 0")}
    # At a word's first token it says what is counted.
    task = reference.experiment.make_task()
    dataset = read_sentences(tmp_path / "x.jsonl", labels=("group", "place"))
    examples = task.encode(dataset.records[:1], tokenizer, 16)
    places = examples.targets[0][len(examples.targets[0]) // 2 :]
    columns = model(**task.collate(examples, [0]).inputs).logits[0].argmax(-1).tolist()
    wanted = {(place, model.config.id2label[columns[place]]) for place in places if columns[place]}
    assert wanted and wanted == {entry for entry in said if entry[0] in places}


def test_devices_bring_files_of_any_scheme_and_the_labels_fix_the_tags(
    tmp_path: Path, tiny_folder: Callable[[str], str]
) -> None:
    config = _config(
        tmp_path,
        tiny_folder("bert"),
        evaluation="devices",
        federation={"devices": 2, "clients": 2, "clients_per_round": 2},
        data={"source": "devices", "labels": ["place", "group"]},
    )
    reference = TorchReferenceModel(config)
    start = unpack(reference.prepare())
    files = []
    for number, tags in enumerate((["O O O I-place I-place", "I-group I-group"], ["O O O place place", "group group"])):
        sentences = [(words, tag) for (words, _), tag in zip(SENTENCES, tags, strict=False)] * 5
        files.append(write_sentences(tmp_path / f"{number}.jsonl", sentences))
    for client, file in enumerate(files):
        runtime = TorchRuntime(torch.device("cpu"), data_file=file)
        order = _order(reference)
        runtime.prepare(
            RunOrder(**{**{name: getattr(order, name) for name in order.__slots__}, "shards": {client: ()}})
        )
        runtime.install(start)
        assert np.isfinite(runtime.train(1, client, start, lambda progress: None).loss)
        counters = runtime.evaluate(client, "validation", start, lambda: None)
        assert reference.experiment.make_task().check(counters) == ""
    (tmp_path / "bad.jsonl").write_text(json.dumps({"tokens": ["a"], "tags": ["B-other"]}) + "\n")
    runtime = TorchRuntime(torch.device("cpu"), data_file=tmp_path / "bad.jsonl")
    with pytest.raises(Exception, match=r"line 1 \(item 1\) has a tag that is of none of the types place, group"):
        runtime.prepare(_order(reference))
