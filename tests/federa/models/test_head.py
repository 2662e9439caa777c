"""A checkpoint's head beside the experiment's labels: its columns are matched by name, by number, or drawn anew."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tiny_models import READS_BIN, make_tiny_model

from coordinator.evaluation.reference_model import TorchReferenceModel
from federa.config import Experiment
from federa.data.batches import collate, tokenize
from federa.data.dataset import Dataset
from federa.models.head import column_order, output_layer
from federa.models.pretrained import PretrainedModel, load_pretrained
from federa.tasks.text_classification import ClassificationData, LabelledText, TextClassification

NAMES = ("positive", "negative", "neutral")
TEXTS = {"positive": "a good good film", "negative": "a bad bad match", "neutral": "the bank and the market"}


def task(*labels: str) -> TextClassification:
    return TextClassification(ClassificationData(labels=labels))


def accuracy(base: PretrainedModel, texts: dict[str, str], *labels: str) -> float:
    records = tuple(LabelledText(text, labels.index(label)) for label, text in texts.items())
    classes = task(*labels)
    examples = classes.encode(Dataset(records=records).records, base.tokenizer, 32)
    counters = classes.evaluate(base.model, examples)
    return counters["correct"] / counters["examples"]


def trained(folder: Path, architecture: str = "bert", names: tuple[str, ...] = NAMES) -> Path:
    """A checkpoint that was fine-tuned until it is right about TEXTS; its columns are called `names`."""
    base = load_pretrained(str(make_tiny_model(folder / "encoder", architecture)), task(*NAMES))
    batch = collate(tokenize(list(TEXTS.values()), list(map(NAMES.index, TEXTS)), base.tokenizer, 32), range(3))
    optimizer = torch.optim.AdamW(base.model.parameters(), lr=3e-3)
    for _ in range(30):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(base.model(**batch.inputs).logits, batch.targets).backward()
        optimizer.step()
    base.model.config.id2label = dict(enumerate(names))
    base.model.config.label2id = {name: number for number, name in enumerate(names)}
    base.model.save_pretrained(folder / "classifier")
    base.tokenizer.save_pretrained(folder / "classifier")
    return folder / "classifier"


@pytest.mark.parametrize("architecture", ["bert", "roberta", "distilbert", "deberta-v3", "gpt2", "t5", "xlnet"])
def test_columns_are_matched_by_name_so_that_a_trained_head_is_right_at_once(tmp_path: Path, architecture: str) -> None:
    folder = trained(tmp_path, architecture)
    in_order = load_pretrained(str(folder), task(*NAMES))
    assert accuracy(in_order, TEXTS, *NAMES) == 1 and not any("order" in note for note in in_order.notes)
    base = load_pretrained(str(folder), task(*sorted(NAMES)))
    assert accuracy(base, TEXTS, *sorted(NAMES)) == 1
    assert base.missing == frozenset() and base.digest == in_order.digest
    assert any("order (positive, negative, neutral): they are taken by name" in note for note in base.notes)


def test_capitals_and_blanks_do_not_count(tmp_path: Path) -> None:
    folder = trained(tmp_path, names=("POSITIVE", " Negative", "neutral "))
    assert accuracy(load_pretrained(str(folder), task(*sorted(NAMES))), TEXTS, *sorted(NAMES)) == 1


@pytest.mark.parametrize("names", [("LABEL_0", "LABEL_1", "LABEL_2"), NAMES])
def test_whole_numbers_are_the_numbers_of_columns_in_whatever_order_they_come(
    tmp_path: Path, names: tuple[str, ...]
) -> None:
    folder = trained(tmp_path, names=names)
    texts = dict(zip(("0", "1", "2"), TEXTS.values(), strict=True))
    for labels in (("0", "1", "2"), ("2", "0", "1")):
        assert accuracy(load_pretrained(str(folder), task(*labels)), texts, *labels) == 1


def test_a_head_for_other_labels_is_drawn_anew_from_the_seed_and_said(tmp_path: Path) -> None:
    folder = trained(tmp_path)
    kept = load_pretrained(str(folder), task(*NAMES)).model.classifier.weight
    one, same, other = (load_pretrained(str(folder), task("x", "y", "z"), seed) for seed in (1, 1, 2))
    assert one.missing == {"classifier.weight", "classifier.bias"}
    assert one.notes == (
        "has a head for other labels (positive, negative, neutral): its last layer is drawn anew for x, y, z",
    )
    assert torch.equal(one.model.classifier.weight, same.model.classifier.weight)
    assert not torch.equal(one.model.classifier.weight, other.model.classifier.weight)
    assert not torch.equal(one.model.classifier.weight, kept) and not one.model.classifier.bias.any()
    more = load_pretrained(str(folder), task("w", "x", "y", "z"))
    assert (
        more.missing == one.missing
        and more.digest == one.digest == other.digest
        and "another number of rows in its head" in more.notes[0]
    )


@pytest.mark.parametrize("labels", [tuple(sorted(NAMES)), ("x", "y", "z")])
def test_a_device_has_the_same_base_model_from_a_checkpoint_that_was_converted_for_it(
    tmp_path: Path, labels: tuple[str, ...]
) -> None:
    if not READS_BIN:
        pytest.skip("transformers reads no pytorch_model.bin with a torch below 2.6")
    from safetensors.torch import load_file

    folder = trained(tmp_path)
    tensors = load_file(folder / "model.safetensors")
    torch.save({f"module.{name}": tensor for name, tensor in tensors.items()}, folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    reference = TorchReferenceModel(Experiment.model_validate({"model": str(folder), "data": {"labels": labels}}))
    there = tmp_path / "there"
    there.mkdir()
    for path in reference.model_files(tmp_path / "made"):
        (there / path.name).write_bytes(path.read_bytes())
    here, device = (load_pretrained(str(place), task(*labels)) for place in (folder, there))
    assert device.digest == here.digest and device.missing == here.missing
    for name, tensor in here.model.state_dict().items():
        assert torch.equal(device.model.state_dict()[name], tensor), name


@pytest.mark.parametrize(
    ("names", "labels", "order"),
    [
        ("ab", "ab", [0, 1]),
        ("ba", "ab", [1, 0]),
        (["A", "b"], "ab", [0, 1]),
        (["a", "A"], "ab", None),
        (["LABEL_1", "LABEL_0"], "01", [1, 0]),
        (["LABEL_0", "LABEL_1"], "xy", [0, 1]),
        (["LABEL_0", "LABEL_1"], "15", [0, 1]),
        (["LABEL_0", "LABEL_1"], "xyz", [0, 1, 2]),  # the config says nothing, and the head has three rows
        ("01", "xy", [0, 1]),
        (["LABEL_0", "LABEL_2"], "xy", None),
        ("ab", "01", [0, 1]),
        ("ab", "10", [1, 0]),
        ("ab", "12", None),
        ("ab", "bc", None),
        ("abc", "ab", None),
        ([], "ab", None),
    ],
)
def test_for_each_label_its_column(names: list[str], labels: str, order: list[int] | None) -> None:
    found, said = column_order(list(names), list(labels))
    assert found == order
    assert bool(said) == (found is None or found != sorted(found) or list(map(str.casefold, names)) != list(labels))


def test_the_last_layer_is_found_where_another_has_as_many_rows(tmp_path: Path) -> None:
    labels = [f"label {number}" for number in range(32)]  # as many as the hidden size
    base = load_pretrained(str(make_tiny_model(tmp_path, "roberta")), task(*labels))
    assert output_layer(base.model) == {"classifier.out_proj.weight": 0, "classifier.out_proj.bias": 0}
