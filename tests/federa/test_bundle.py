"""A result in a folder: it describes itself, gives the model back, and is never half there."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from classify import read_dataset

from coordinator.evaluation.reference_model import TorchReferenceModel
from federa import bundle
from federa.bundle import BundleFacts, load_bundle, write_bundle
from federa.config import Experiment
from federa.errors import BadInput
from federa.methods import METHODS
from federa.tensors.state import pack, unpack

ROWS = [(f"the {word} is {kind} {n}", label) for n in range(10) for word, kind, label in
        (("match", "good", "sport"), ("bank", "bad", "money"))]  # fmt: skip


@pytest.fixture
def documents(tmp_path: Path) -> Path:
    path = tmp_path / "documents.jsonl"
    path.write_text("".join(json.dumps({"text": text, "label": label}) + "\n" for text, label in ROWS))
    return path


@pytest.fixture
def made(tmp_path: Path, tiny_folder: Callable[[str], str], documents: Path) -> Callable[[str], Path]:
    """A run's folder with the result of a method: a start of the coordinator's, and a state that has moved from it."""

    def make(method: str = "federa") -> Path:
        config = Experiment.model_validate(
            {
                "model": tiny_folder("bert"),
                "methods": [{"name": method}],
                "lora": {"r": 3, "alpha": 5},
                "data": {"source": str(documents), "max_length": 16},
                "federation": {"clients": 2, "clients_per_round": 2},
                "seed": 4,
            }
        )
        reference = TorchReferenceModel(config)
        start = reference.prepare()
        rng = np.random.default_rng(1)
        moved = {name: value + rng.normal(0, 0.05, value.shape).astype("f4") for name, value in unpack(start).items()}
        (tmp_path / "start").write_bytes(start)
        (tmp_path / "state").write_bytes(pack(moved))
        folder = tmp_path / "run" / "final"
        folder.mkdir(parents=True)
        facts = BundleFacts(
            experiment=reference.experiment,
            base_digest=reference.base_digest,
            round=3,
            value=0.5,
            test=0.25,
            composition=reference.composition,
            metrics={"accuracy": 0.5, "macro_f1": None},
        )
        write_bundle(folder, state=tmp_path / "state", start=tmp_path / "start", facts=facts)
        return folder.parent

    return make


@pytest.mark.parametrize("method", METHODS)
def test_the_model_that_comes_out_is_the_one_that_the_coordinator_scored(
    tmp_path: Path, documents: Path, made: Callable[[str], Path], method: str
) -> None:
    found = load_bundle(made(method))
    assert (found.facts.round, found.facts.value, found.facts.test) == (3, 0.5, 0.25)
    assert found.experiment.method.name == method and found.experiment.data.labels == ("money", "sport")
    composition = dict(found.facts.composition or {})
    assert composition.pop("clients")["counts"] and composition == {
        "documents": 20,
        "parts": {"training": 14, "validation": 3, "test": 3},
        "classes": [
            {"name": "money", "documents": 10, "training": 7, "validation": 2, "test": 1},
            {"name": "sport", "documents": 10, "training": 7, "validation": 1, "test": 2},
        ],
    }
    reference = TorchReferenceModel(found.experiment)
    reference.prepare((tmp_path / "start").read_bytes())
    counters = reference.evaluate(tmp_path / "state", "validation")
    model, tokenizer = found.model()
    assert not model.training and model.config.id2label == {0: "money", 1: "sport"}
    task = found.task
    examples = task.encode(read_dataset(found.experiment.data).records, tokenizer, 16)
    every = task.evaluate(model, examples)
    metrics = {metric.name: metric.of(every) for metric in task.metrics}
    assert metrics["accuracy"] == every["correct"] / 20 and metrics.keys() == {"accuracy", "macro_f1"}
    assert found.evaluate(documents) == {**metrics, "examples": 20.0}
    batch = tokenizer([ROWS[0][0]], return_tensors="pt")
    with torch.inference_mode():
        merged = model(input_ids=batch["input_ids"]).logits
        apart = found.tuned_model().model.eval()(input_ids=batch["input_ids"]).logits
    assert torch.allclose(merged, apart, atol=1e-5 * max(1.0, float(apart.abs().max())))
    assert counters["examples"] > 0
    assert (found.start() is None) == (method != "federa")


def test_a_file_that_it_is_evaluated_on_is_read_by_the_rules_of_all_data(
    tmp_path: Path, documents: Path, made: Callable[[str], Path]
) -> None:
    found = load_bundle(made("ft"))
    other = tmp_path / "other.jsonl"
    other.write_text(documents.read_text().replace('"sport"', '" sport "').replace('"money"', '"money\\t"'))
    assert found.evaluate(other) == found.evaluate(documents)
    other.write_text(documents.read_text().replace('"sport"', '"Sport"'))
    with pytest.raises(BadInput, match="has the label 'Sport', which is none of money, sport; it differs from 'sport'"):
        found.evaluate(other)
    other.write_text(documents.read_text().replace('"sport"', "NaN"))
    with pytest.raises(BadInput, match=r"has no label in column 'label' in 10 of 20 rows \(lines 1, 3, 5, 7, 9, "):
        found.evaluate(other)


def test_what_lies_there_is_described(made: Callable[[str], Path]) -> None:
    final = made("federa") / "final"
    assert sorted(path.name for path in final.iterdir()) == ["bundle.json", "start.safetensors", "state.safetensors"]
    facts = json.loads((final / "bundle.json").read_text())
    assert (facts["schema"], facts["method"], facts["task"]) == (1, "federa", "text-classification")
    assert (facts["metric"], facts["value"], facts["test"], facts["round"]) == ("accuracy", 0.5, 0.25, 3)
    assert (facts["metrics"], facts["test_metrics"]) == ({"accuracy": 0.5, "macro_f1": None}, None)
    assert load_bundle(final).facts.metrics == facts["metrics"]
    assert set(facts["files"]) == {"start.safetensors", "state.safetensors"}
    assert facts["base_model"]["digest"] and facts["config"]["data"]["labels"] == ["money", "sport"]


def test_a_method_that_needs_no_start_leaves_none(made: Callable[[str], Path]) -> None:
    assert not (made("lora") / "final" / "start.safetensors").exists()


def test_final_itself_may_be_named(made: Callable[[str], Path]) -> None:
    run = made("lora")
    assert load_bundle(run).folder == load_bundle(str(run / "final")).folder == run / "final"


def test_another_base_model_is_refused(tmp_path: Path, made: Callable[[str], Path]) -> None:
    from tiny_models import make_tiny_model

    other = make_tiny_model(tmp_path / "other", seed=9)
    with pytest.raises(BadInput, match=r"^model: .* is another base model than the one that this result"):
        load_bundle(made("lora")).model(str(other))


@pytest.mark.parametrize("harm", ["none", "changed", "gone", "json", "schema", "other files"])
def test_a_folder_that_is_no_whole_result_is_refused_in_one_line(
    made: Callable[[str], Path], harm: str, tmp_path: Path
) -> None:
    final = made("federa") / "final"
    facts = json.loads((final / "bundle.json").read_text())
    match harm:
        case "none":
            shutil.rmtree(final)
        case "changed":
            (final / "state.safetensors").write_bytes(b"x")
        case "gone":
            (final / "start.safetensors").unlink()
        case "json":
            (final / "bundle.json").write_text("{")
        case "schema":
            (final / "bundle.json").write_text(json.dumps({**facts, "schema": 2}))
        case "other files":
            (final / "bundle.json").write_text(json.dumps({**facts, "files": {"../secret": "0"}}))
    with pytest.raises(BadInput) as caught:
        load_bundle(final.parent)
    assert str(final.parent) in str(caught.value) and "\n" not in str(caught.value)


def _rewritten(run: Path, **config: object) -> None:
    """The description as another federa, with more in its registries, would have written it."""
    description = run / "final" / "bundle.json"
    facts = json.loads(description.read_text())
    description.write_text(json.dumps({**facts, "config": {**facts["config"], **config}}))


def test_an_aggregator_and_sections_that_are_not_installed_here_are_not_needed(made: Callable[[str], Path]) -> None:
    run = made("lora")
    before = load_bundle(run).experiment
    _rewritten(run, aggregator="median", median={"step": 0.5}, mine={"depth": 3})
    found = load_bundle(run)
    assert found.experiment == before and found.tuned_model().model is not None
    _rewritten(run, mystery=5)
    with pytest.raises(BadInput, match="mystery is not a known field"):
        load_bundle(run)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"task": "mine"}, "its task is 'mine', which this federa does not have: .* in TASKS$"),
        ({"methods": [{"name": "mine"}], "mine": {}}, "its method is 'mine', which this federa .* in METHODS$"),
    ],
)
def test_a_task_or_method_that_is_not_installed_here_is_named(
    made: Callable[[str], Path], changes: dict[str, object], words: str
) -> None:
    run = made("lora")
    _rewritten(run, **changes)
    with pytest.raises(BadInput, match=words) as caught:
        load_bundle(run)
    assert str(run / "final") in str(caught.value) and "\n" not in str(caught.value)


def test_a_kill_while_it_is_written_anew_leaves_no_description_of_other_files(
    tmp_path: Path, made: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = made("federa")
    facts = load_bundle(run).facts
    newer = tmp_path / "newer"
    newer.write_bytes(pack({name: value + 1 for name, value in unpack((tmp_path / "state").read_bytes()).items()}))

    class Killed(BaseException):
        pass

    copyfile = shutil.copyfile
    for whole_ones in (0, 1):
        copied: list[Path] = []

        def copy(source: Path, target: Path, copied: list[Path] = copied, whole_ones: int = whole_ones) -> None:
            if len(copied) == whole_ones:
                raise Killed
            copied.append(target)
            copyfile(source, target)

        with monkeypatch.context() as patch:
            patch.setattr(bundle.shutil, "copyfile", copy)
            with pytest.raises(Killed):
                write_bundle(run / "final", state=newer, start=tmp_path / "start", facts=facts)
        with pytest.raises(BadInput, match="holds no result"):
            load_bundle(run)
    write_bundle(run / "final", state=newer, start=tmp_path / "start", facts=facts)
    assert (load_bundle(run).folder / "state.safetensors").read_bytes() == newer.read_bytes()


def test_a_test_score_that_comes_later_is_added_without_a_copy_of_the_state(
    tmp_path: Path, made: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = made("lora")
    monkeypatch.setattr(bundle.shutil, "copyfile", None)
    facts = load_bundle(run).facts
    later = BundleFacts(experiment=facts.experiment, base_digest=facts.base_digest, round=3, value=0.5, test=0.75)
    write_bundle(run / "final", state=tmp_path / "state", start=tmp_path / "start", facts=later)
    assert load_bundle(run).facts.test == 0.75
