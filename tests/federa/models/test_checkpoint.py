"""What a checkpoint lacks and holds too much of, wrappers' prefixes, and files that are not what their names say."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from classify import classify
from safetensors.torch import load_file, save_file
from tiny_models import READS_BIN, make_tiny_model
from transformers import AutoConfig, AutoModelForMaskedLM, AutoModelForSequenceClassification, AutoTokenizer

from federa.errors import BadInput
from federa.models import loading
from federa.models.location import refuse_adapter
from federa.models.pretrained import load_local_model, load_pretrained
from federa.models.tokenizer import fit_tokenizer

TASK = classify(3)
WEIGHTS = "model.safetensors"
Tensors = dict[str, torch.Tensor]


def rewrite(folder: Path, change: Callable[[Tensors], Tensors]) -> Path:
    save_file(change(load_file(folder / WEIGHTS)), folder / WEIGHTS, metadata={"format": "pt"})
    return folder


def rename(folder: Path, change: Callable[[str], str]) -> Path:
    return rewrite(folder, lambda tensors: {change(name): tensor for name, tensor in tensors.items()})


def as_bin(folder: Path) -> Path:
    if not READS_BIN:
        pytest.skip("transformers reads no pytorch_model.bin with a torch below 2.6")
    torch.save(load_file(folder / WEIGHTS), folder / "pytorch_model.bin")
    (folder / WEIGHTS).unlink()
    return folder


@pytest.fixture
def classifier(tmp_path: Path) -> Path:
    """A checkpoint with a head: all names begin with bert. or classifier."""
    folder = make_tiny_model(tmp_path / "encoder")
    model = AutoModelForSequenceClassification.from_pretrained(folder, num_labels=3)
    model.save_pretrained(tmp_path / "classifier")
    AutoTokenizer.from_pretrained(folder).save_pretrained(tmp_path / "classifier")
    return tmp_path / "classifier"


WRAPPERS: dict[str, Callable[[str], str]] = {
    "module.": lambda name: f"module.{name}",
    "_orig_mod.": lambda name: f"_orig_mod.{name}",
    "module._orig_mod.": lambda name: f"module._orig_mod.{name}",
    "_forward_module.": lambda name: f"_forward_module.{name}",
    "model.": lambda name: f"model.{name}",
    "my_net.text.": lambda name: f"my_net.text.{name}",
    "an encoder of one's own": lambda name: name.replace("bert.", "backbone."),
    "a compiled part": lambda name: name.replace("bert.encoder.", "bert._orig_mod.encoder."),
    "TensorFlow's words": lambda name: "module." + name.replace("LayerNorm.weight", "LayerNorm.gamma").replace(
        "LayerNorm.bias", "LayerNorm.beta"
    ),
    "no prefix of the encoder's beside a head": lambda name: name.removeprefix("bert."),
}  # fmt: skip


@pytest.mark.parametrize("wrapper", WRAPPERS)
@pytest.mark.parametrize("form", [lambda folder: folder, as_bin], ids=["safetensors", "bin"])
def test_a_wrappers_prefix_is_taken_off_and_the_digest_is_that_without(
    classifier: Path, wrapper: str, form: Callable[[Path], Path]
) -> None:
    plain = load_pretrained(str(classifier), TASK)
    # Copies: transformers 4 leaves weights in the mapped file, which is written over here.
    own = {name: tensor.clone() for name, tensor in plain.model.state_dict().items()}
    base = load_pretrained(str(form(rename(classifier, WRAPPERS[wrapper]))), TASK)
    assert (base.digest, base.missing) == (plain.digest, plain.missing) and not base.missing
    for name, tensor in own.items():
        assert torch.equal(base.model.state_dict()[name], tensor), name
    assert wrapper.startswith("no ") or any("in the names of its tensors: read without" in note for note in base.notes)


def test_two_models_in_one_checkpoint_are_refused(classifier: Path) -> None:
    rewrite(classifier, lambda tensors: {
        f"{whose}.{name}": tensor.clone() for name, tensor in tensors.items() for whose in ("student", "teacher")
    })  # fmt: skip
    with pytest.raises(BadInput, match=r"missing: 37 of 39 tensors, .*; unknown: \d+ tensors, "):
        load_pretrained(str(classifier), TASK)


def test_a_teacher_beside_the_model_is_refused(classifier: Path) -> None:
    rewrite(classifier, lambda tensors: {
        **tensors, **{f"teacher.{name}": tensor.clone() for name, tensor in tensors.items()}
    })  # fmt: skip
    with pytest.raises(BadInput, match=r"unknown: \d+ tensors, teacher\.bert\.") as refused:
        load_pretrained(str(classifier), TASK)
    assert "missing" not in str(refused.value)


@pytest.mark.parametrize("layers", [1, 3])
def test_a_config_with_another_number_of_layers_is_refused(tmp_path: Path, layers: int) -> None:
    folder = make_tiny_model(tmp_path)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "num_hidden_layers": layers}))
    with pytest.raises(BadInput, match="unknown: 16 tensors" if layers == 1 else "missing: 16 of 55 tensors"):
        load_pretrained(str(folder), TASK)


@pytest.mark.parametrize("architecture", ["bert", "roberta", "distilbert", "electra", "modernbert", "albert"])
def test_heads_of_pre_training_are_left_out_and_said(tmp_path: Path, architecture: str) -> None:
    folder = make_tiny_model(tmp_path / "encoder", architecture)
    AutoModelForMaskedLM.from_pretrained(folder).save_pretrained(tmp_path / "whole")
    AutoTokenizer.from_pretrained(folder).save_pretrained(tmp_path / "whole")
    base = load_pretrained(str(tmp_path / "whole"), TASK)
    plain = load_pretrained(str(folder), TASK)
    assert {name for name in base.missing if "head" not in name} >= {n for n in plain.missing if n.startswith("class")}
    if architecture not in ("modernbert",):  # whose head goes on into the classifier
        assert any("tensors that this task does not use" in note for note in base.notes)


def test_what_former_versions_stored_and_compute_today_may_be_there(classifier: Path) -> None:
    plain = load_pretrained(str(classifier), TASK)
    rewrite(classifier, lambda tensors: {**tensors, "bert.embeddings.position_ids": torch.arange(80)[None]})
    assert load_pretrained(str(classifier), TASK).digest == plain.digest


def test_an_adapter_that_was_not_merged_is_refused(classifier: Path) -> None:
    def wrapped(tensors: Tensors) -> Tensors:
        found = {}
        for name, tensor in tensors.items():
            found["base_model.model." + re.sub(r"\.query\.", ".query.base_layer.", name)] = tensor
            if name.endswith("query.weight"):
                for factor in "AB":
                    stem = f"base_model.model.{name.removesuffix('.weight')}.lora_{factor}"
                    found[f"{stem}.default.weight"] = torch.ones(2, 32)
        return found

    rewrite(classifier, wrapped)
    with pytest.raises(BadInput, match=r"holds an adapter that is not merged, 8 tensors, .*: merge it into its model"):
        load_pretrained(str(classifier), TASK)


# ---- adapters


@pytest.mark.parametrize("load", [load_pretrained, load_local_model])
def test_an_adapter_alone_and_beside_a_model_is_refused_with_what_to_do(
    tmp_path: Path, load: Callable[[str, object], object]
) -> None:
    folder = make_tiny_model(tmp_path / "model")
    for config in ('{"base_model_name_or_path": "bert-base-cased"}', "{", "[]", ""):
        (folder / "adapter_config.json").write_text(config)
        with pytest.raises(BadInput, match=r"holds a PEFT adapter \(adapter_config.json.*\) beside a model: merge it"):
            load(str(folder), TASK)
    (folder / "config.json").unlink()
    with pytest.raises(BadInput, match=r"holds a PEFT adapter \(adapter_config.json\), which is no model: merge it"):
        load(str(folder), TASK)


def test_an_adapter_under_a_hub_name_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "adapter_config.json").write_text('{"base_model_name_or_path": "some/\\u001b[31mbase"}')
    monkeypatch.setattr(
        "transformers.utils.peft_utils.find_adapter_config_file", lambda name: str(tmp_path / "adapter_config.json")
    )
    with pytest.raises(BadInput, match=r"model: ann/adapter holds a PEFT adapter .*, of some/\\x1b\[31mbase"):
        refuse_adapter("ann/adapter", "ann/adapter")


# ---- files


def _write(name: str, content: bytes) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_bytes(content)


LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"


def _bin_of(content: object, cut: int | None = None) -> Callable[[Path], object]:
    def damage(folder: Path) -> None:
        if not READS_BIN:
            pytest.skip("transformers reads no pytorch_model.bin with a torch below 2.6")
        (folder / WEIGHTS).unlink()
        torch.save(content, folder / "pytorch_model.bin")
        whole = (folder / "pytorch_model.bin").read_bytes()
        (folder / "pytorch_model.bin").write_bytes(whole[:cut])

    return damage


def _config(**changes: object) -> Callable[[Path], object]:
    def damage(folder: Path) -> None:
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**config, **changes}))

    return damage


def _nested(folder: Path) -> None:
    (folder / "0_Transformer").mkdir()
    (folder / "config.json").rename(folder / "0_Transformer" / "config.json")


def _more_tokens(folder: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens(["newword", "otherword"])
    tokenizer.save_pretrained(folder)


def _value(value: float) -> Callable[[Path], object]:
    def damage(folder: Path) -> None:
        tensors = load_file(folder / WEIGHTS)
        tensors["encoder.layer.1.output.dense.weight"][0, 0] = value
        save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})

    return damage


def _whole_numbers(folder: Path) -> None:
    name = "encoder.layer.0.output.dense.weight"
    rewrite(folder, lambda tensors: {**tensors, name: tensors[name].to(torch.int8)})


DAMAGED: dict[str, tuple[Callable[[Path], object], str]] = {
    "empty": (_write(WEIGHTS, b""), "model.safetensors is empty"),
    "pointer": (_write(WEIGHTS, LFS), "model.safetensors is a pointer of Git LFS in place of the file: run 'git lfs"),
    "pointer for words": (_write("tokenizer.json", LFS), "tokenizer.json is a pointer of Git LFS"),
    "web page": (_write(WEIGHTS, b"\n<!DOCTYPE html><html>"), "model.safetensors is a web page"),
    "web page of a config": (_write("config.json", b"<html>"), "config.json is a web page"),
    "header": (_write(WEIGHTS, b"\x40" + b"\0" * 7 + b"}" * 100), "model.safetensors is damaged"),
    "header's length": (_write(WEIGHTS, b"\xff" * 300), "model.safetensors is damaged"),
    "bin cut short": (_bin_of({"a": torch.ones(5000)}, 9000), "pytorch_model.bin is damaged or cut short"),
    "bin of a training": (
        _bin_of({"state_dict": {}, "epoch": 3}),
        r"pytorch_model.bin holds no tensors by name \(state_dict, epoch\): it is a training's checkpoint",
    ),
    "no file that is read": (lambda folder: (folder / WEIGHTS).rename(folder / "tf_model.h5"), "it holds tf_model.h5"),
    "folder above": (_nested, "it has no config.json, .*; a model lies in its folder 0_Transformer"),
    "more tokens": (_more_tokens, "tokens that the model has no row for, 2 beyond its 152, such as newword"),
    "not a number": (_value(float("nan")), "not finite are in 1 of its tensors, such as bert.encoder.layer.1.output"),
    "infinite": (_value(float("-inf")), "values that are not finite"),
    "whole numbers": (_whole_numbers, r"in whole numbers \(I8\): a quantised checkpoint cannot be trained"),
    "quantised": (_config(quantization_config={"quant_method": "gptq", "bits": 4}), "says that it is quantised"),
    "another vocabulary": (_config(vocab_size=500), "another shape for 1 tensor, bert.embeddings.word_embeddings"),
    "unknown architecture": (_config(model_type="mybert"), "the architecture mybert is none that the installed"),
    "no architecture": (_write("config.json", b'{"a": 1}'), "config.json names no architecture"),
    "code": (_config(model_type="mybert", auto_map={"AutoConfig": "a.B"}), "is code of its own, and such code is"),
    "padding without a row": (_config(pad_token_id=9999), "its config.json has a pad_token_id that the model has no"),
    "unknown activation": (_config(hidden_act="foo"), "its config.json says 'foo', which the installed transformers"),
    "no text model": (_write("config.json", b'{"model_type": "clip"}'), "its architecture has no model for this task"),
}  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGED)
def test_what_cannot_be_used_is_one_line_that_says_why(tmp_path: Path, damage: str) -> None:
    folder = make_tiny_model(tmp_path)
    make, words = DAMAGED[damage]
    make(folder)
    with pytest.raises(BadInput, match=words) as refused:
        load_pretrained(str(folder), TASK)
    message = str(refused.value)
    assert message.startswith(f"model: cannot load {folder}: ") and "\n" not in message
    assert len(message) < len(str(folder)) + 500


def test_a_field_of_another_type_is_named() -> None:
    error = ValueError("Validation error for field 'hidden_size':\n    TypeError: expected int")
    assert loading._objection(error).startswith("its config.json has a value for hidden_size that cannot be used")


# ---- padding


def _tokenizer(**changes: object) -> SimpleNamespace:
    """A tokenizer of ten tokens, of which number n is called tn."""
    own = dict.fromkeys(("pad", "eos", "sep", "bos", "unk", "cls"), None) | changes
    tokenizer = SimpleNamespace(all_special_tokens=[], convert_ids_to_tokens=lambda number: f"t{number}")
    for name, number in own.items():
        setattr(tokenizer, f"{name}_token_id", number)
    return tokenizer


class _Length(SimpleNamespace):
    def __len__(self) -> int:
        return 10


@pytest.mark.parametrize(
    ("config", "own", "chosen"),
    [
        ({"pad_token_id": 1}, {"pad": 0}, 1),
        ({"pad_token_id": None}, {"pad": 0, "eos": 2}, 0),
        ({"pad_token_id": -1}, {"eos": 2}, 2),
        ({"pad_token_id": 10}, {"eos": 2}, 2),  # beyond the rows
        ({"eos_token_id": [3, 4]}, {}, 3),
        ({}, {"unk": 5}, 5),
        ({}, {}, None),
    ],
)
def test_model_and_tokenizer_pad_with_one_token(
    config: dict[str, object], own: dict[str, int], chosen: int | None
) -> None:
    tokenizer = _Length(**vars(_tokenizer(**own)), model_input_names=["input_ids", "attention_mask"])
    model = SimpleNamespace(
        config=SimpleNamespace(**config),
        forward=lambda input_ids, attention_mask: None,
        get_input_embeddings=lambda: torch.nn.Embedding(10, 2),
    )
    if chosen is None:
        with pytest.raises(BadInput, match="neither a padding token nor an end token"):
            fit_tokenizer(tokenizer, model)
        return
    said = fit_tokenizer(tokenizer, model)
    assert model.config.pad_token_id == chosen
    assert tokenizer.pad_token_id == chosen or tokenizer.pad_token == f"t{chosen}"
    assert bool(said) == (chosen not in (config.get("pad_token_id"), own.get("pad")))


def test_a_padding_token_that_was_added_without_a_row_gives_way_to_the_end_token(tmp_path: Path) -> None:
    folder = make_tiny_model(tmp_path, "gpt2")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_special_tokens({"pad_token": "[PAD]"})
    tokenizer.save_pretrained(folder)
    base = load_pretrained(str(folder), TASK)
    assert base.tokenizer.pad_token == "<|end|>"
    assert AutoConfig.from_pretrained(folder).pad_token_id is None and base.model.config.pad_token_id == 0
