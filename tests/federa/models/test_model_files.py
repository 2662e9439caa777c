"""The files of a base model: which are served, what is made where there are none, and where a device looks first."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from classify import classify
from live_coordinator import Status, experiment, refused, serving
from processes import ROOT
from relations import relations, write_relations
from safetensors.torch import load_file, save_file
from tiny_models import ARCHITECTURES, READS_BIN, make_tiny_model

from coordinator.evaluation.reference_model import TorchReferenceModel
from coordinator.storage.model_store import ModelStore
from edge.training.run_order import RunOrder
from edge.training.runtime import TorchRuntime
from federa.config import EMBEDDED, Experiment
from federa.errors import BadInput, FederaError
from federa.models.conversion import save_weights
from federa.models.files import (
    MAX_BYTES,
    MAX_FILES,
    ModelFile,
    ModelNotFound,
    check_files,
    describe,
    files_digest,
    may_be_served,
    metadata_files,
    weight_files,
)
from federa.models.location import local_folder
from federa.models.pretrained import load_local_model, load_pretrained
from protos import federation_pb2 as pb
from tests.doubles.noop import NoopReferenceModel

Folder = Callable[[str], str]

SENTENCES = ["the match was a good one", "the bank and the market", "shares of the team", "not a bad film, nor music"]
NONE = hashlib.sha256(b"").digest()


def file(name: str = "config.json", size: int = 0, sha256: bytes = NONE) -> ModelFile:
    return ModelFile(name=name, size=size, sha256=sha256)


@pytest.fixture
def legacy(tmp_path: Path) -> Path:
    """A DeBERTa-v3 as it lies on the hub: its weights are in pytorch_model.bin alone, with a head of its training."""
    if not READS_BIN:
        pytest.skip("transformers reads no pytorch_model.bin with a torch below 2.6")
    folder = make_tiny_model(tmp_path / "legacy", "deberta-v3")
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    held = {f"deberta.{name}": tensor for name, tensor in tensors.items()}
    torch.save({**held, "lm_predictions.lm_head.bias": torch.ones(3)}, folder / "pytorch_model.bin")
    return folder


@pytest.fixture
def published(legacy: Path) -> Path:
    """The same with the tokenizer that it has on the hub: a sentencepiece model, and no tokenizer.json."""
    sentencepiece = pytest.importorskip("sentencepiece")
    trained = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(SENTENCES * 20), model_writer=trained, model_type="unigram", vocab_size=60,
        hard_vocab_limit=False, pad_id=0, bos_id=1, eos_id=2, unk_id=3,
        pad_piece="[PAD]", bos_piece="[CLS]", eos_piece="[SEP]", unk_piece="[UNK]", minloglevel=2,
    )  # fmt: skip
    for path in legacy.glob("*token*"):
        path.unlink()
    (legacy / "spm.model").write_bytes(trained.getvalue())
    (legacy / "tokenizer_config.json").write_text(json.dumps({"do_lower_case": False, "vocab_type": "spm"}))
    return legacy


def reference_model_of(model: object, tmp_path: Path) -> TorchReferenceModel:
    """The reference model of a run on two classes; not prepared."""
    return TorchReferenceModel(Experiment.model_validate({"model": str(model), "data": {"labels": ["a", "b"]}}))


def laid_out(paths: list[Path], folder: Path) -> Path:
    """The files as a device has them when it has fetched them."""
    folder.mkdir()
    for path in paths:
        shutil.copyfile(path, folder / path.name)
    return folder


# ---- lists from the network


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ([], "1 to 1000 files"),
        ([file(f"{number}.json") for number in range(MAX_FILES + 1)], "not 1001"),
        ([file("../config.json")], "cannot be called '../config.json'"),
        ([file("a/config.json")], "cannot be called"),
        ([file("/config.json")], "cannot be called"),
        ([file(".config.json")], "cannot be called"),
        ([file("config.json/..")], "cannot be called"),
        ([file("..")], "cannot be called"),
        ([file("")], "cannot be called"),
        ([file("model.py")], "must be a plain name that ends in .json, .txt, .model or .safetensors"),
        ([file("pytorch_model.bin")], "cannot be called"),
        ([file("adapter_config.json")], "cannot be called"),
        ([file("config.json\n")], "cannot be called"),
        ([file("a\nb.json")], "cannot be called"),
        ([file("n" * 300 + ".json")], "cannot be called"),
        ([file("vocäb.txt")], "cannot be called"),
        ([file(), file("b.txt"), file()], "config.json is listed twice"),
        ([file(size=MAX_BYTES), file("b.txt", size=1)], "64 GiB in all"),
        ([file(size=MAX_BYTES + 2), file("b.txt", size=-1)], "64 GiB in all"),
        ([file(sha256=b"short")], "config.json must come with a SHA-256 of 32 bytes, not of 5"),
    ],
)
def test_a_list_that_no_coordinator_makes_is_refused_in_one_line(files: list[ModelFile], words: str) -> None:
    with pytest.raises(BadInput) as refused:
        check_files(files)
    assert words in str(refused.value) and "\n" not in str(refused.value)


def test_a_list_is_the_same_in_any_order_and_another_with_any_other_file() -> None:
    files = [file("b.txt", 3), file("a.json", 4)]
    assert [entry.name for entry in check_files(files)] == ["a.json", "b.txt"]
    assert files_digest(files) == files_digest(files[::-1])
    others = [[file("b.txt", 3)], [file("b.txt", 3), file("a.json", 5)], [file("b.txt", 3), file("c.json", 4)]]
    others.append([file("b.txt", 3), file("a.json", 4, hashlib.sha256(b"x").digest())])
    assert len({files_digest(files), *map(files_digest, others)}) == 5


@pytest.mark.parametrize(
    "name",
    [
        "config.json",
        "vocab.txt",
        "spm.model",
        "sentencepiece.bpe.model",
        "model-00001-of-00002.safetensors",
        "a b+c.txt",
    ],
)
def test_the_names_that_models_have_are_taken(name: str) -> None:
    assert may_be_served(name)


# ---- what is served


def test_of_a_folder_its_config_tokenizer_and_weights_are_served_and_nothing_else(
    tmp_path: Path, tiny_folder: Folder
) -> None:
    folder = Path(shutil.copytree(tiny_folder("bert"), tmp_path / "bert"))
    (folder / "onnx").mkdir()
    others = ["modeling.py", "pytorch_model.bin", "README.md", "onnx/config.json", ".hidden.json", "other.safetensors"]
    for name in (*others, "pytorch_model.bin.index.json", "adapter_config.json"):
        (folder / name).write_text("{}")
    served = reference_model_of(folder, tmp_path).model_files(tmp_path / "made")
    names = {path.name for path in served}
    assert {"config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors"} <= names
    assert names <= {path.name for path in Path(tiny_folder("bert")).iterdir()}
    assert not (tmp_path / "made").exists()
    shutil.rmtree(folder / "onnx")
    assert load_pretrained(str(laid_out(served, tmp_path / "there")), classify(2)).digest == load_pretrained(
        tiny_folder("bert"), classify(2)
    ).digest  # fmt: skip


def test_weights_in_shards_are_served_with_their_index(tmp_path: Path, tiny_folder: Folder) -> None:
    folder = Path(shutil.copytree(tiny_folder("bert"), tmp_path / "bert"))
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    halves = [f"model-0000{number}-of-00002.safetensors" for number in (1, 2)]
    where = {name: halves[position % 2] for position, name in enumerate(tensors)}
    for half in halves:
        held = {name: tensor for name, tensor in tensors.items() if where[name] == half}
        save_file(held, folder / half, metadata={"format": "pt"})
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": where}))
    assert [path.name for path in weight_files(folder)] == [index.name, *halves]
    served = reference_model_of(folder, tmp_path).model_files(tmp_path / "made")
    there = load_pretrained(str(laid_out(served, tmp_path / "there")), classify(2))
    assert there.digest == load_pretrained(tiny_folder("bert"), classify(2)).digest
    for broken in ('{"weight_map": {"a": "../secret.json"}}', '{"weight_map": {"a": "gone.safetensors"}}'):
        index.write_text(broken)
        with pytest.raises(BadInput, match="of weights; not there: 1"):
            weight_files(folder)
    for broken in ("{", "[]", "{}", '{"weight_map": {"a": 1}}', '{"weight_map": {"a": []}}'):
        index.write_text(broken)
        with pytest.raises(BadInput, match="cannot read"):
            weight_files(folder)


def test_the_embedded_model_is_served_too(tmp_path: Path, tiny_folder: Folder) -> None:
    tiny_folder(EMBEDDED)  # skips without it
    store = ModelStore()
    store.fill(reference_model_of(EMBEDDED, tmp_path).model_files(tmp_path / "made"))
    names = {entry.name for entry in store.listing()}
    assert {"config.json", "model.safetensors"} <= names and any("token" in name or "vocab" in name for name in names)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_weights_that_are_written_anew_have_the_same_digest_and_lack_the_same(
    tmp_path: Path, tiny_folder: Folder, architecture: str
) -> None:
    base = load_pretrained(tiny_folder(architecture), classify(3), seed=1)
    save_weights(base, tmp_path / "made" / "model.safetensors")
    assert not set(load_file(tmp_path / "made" / "model.safetensors")) & base.missing
    words = metadata_files(Path(tiny_folder(architecture)))
    folder = laid_out([*words, tmp_path / "made" / "model.safetensors"], tmp_path / "there")
    there = load_pretrained(str(folder), classify(3), seed=2)
    assert (there.digest, there.missing) == (base.digest, base.missing)


def test_of_a_checkpoint_without_safetensors_they_are_written_once_a_run(tmp_path: Path, legacy: Path) -> None:
    made = tmp_path / "run" / "model"
    reference_model = reference_model_of(legacy, tmp_path)
    served = reference_model.model_files(made)
    assert served[-1] == made / "model.safetensors" and "pytorch_model.bin" not in {path.name for path in served}
    assert "lm_predictions.lm_head.bias" not in load_file(served[-1])
    first = served[-1].stat()
    assert reference_model.model_files(made) == served and served[-1].stat().st_mtime_ns == first.st_mtime_ns
    # And to the same bytes by another process: its devices have them already.
    before = describe(served[-1])
    served[-1].unlink()
    assert describe(reference_model.model_files(made)[-1]) == before
    there = load_pretrained(str(laid_out(served, tmp_path / "there")), classify(2))
    assert there.digest == load_pretrained(str(legacy), classify(2)).digest


def test_weights_that_cannot_be_written_are_one_line(tmp_path: Path, legacy: Path) -> None:
    (tmp_path / "run").write_text("in the way")
    with pytest.raises(FederaError, match=r"^cannot write .*model.safetensors, the base model for the devices: "):
        reference_model_of(legacy, tmp_path).model_files(tmp_path / "run")


def test_a_model_store_knows_its_files_by_digest(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_bytes(b"{}")
    store = ModelStore()
    assert store.listing() == []
    store.fill([tmp_path / "config.json"])
    digest = hashlib.sha256(b"{}").digest()
    assert store.listing() == [pb.ModelFile(name="config.json", size=2, sha256=digest)]
    assert store.path(digest) == tmp_path / "config.json" and store.path(NONE) is None
    with pytest.raises(BadInput, match=r"cannot read .*gone.json"):
        ModelStore().fill([tmp_path / "gone.json"])


# ---- over the wire, from a real coordinator


def _with_files(folder: Path, **files: bytes) -> Callable[[Experiment], NoopReferenceModel]:
    """Makes a reference_model whose base model has these files, of which the ending is .json."""
    folder.mkdir(exist_ok=True)
    paths = [folder / f"{name}.json" for name in files]
    for path in paths:
        path.write_bytes(files[path.stem])

    class Shelved(NoopReferenceModel):
        def model_files(self, folder: Path) -> list[Path]:
            return paths

    return Shelved


def test_model_files_are_listed_given_to_the_runs_workers_alone_and_counted_apart(tmp_path: Path) -> None:
    blob = bytes(range(256)) * 5000
    make_model = _with_files(tmp_path / "model", weights=blob, config=b"{}")
    sha256 = hashlib.sha256(blob).digest()
    (tmp_path / "out").mkdir()
    after: list[int] = []

    async def scenario(live: Any) -> None:
        worker = await live.training()
        assert [(entry.name, entry.size) for entry in worker.prepare.model] == [
            ("config.json", 2), ("weights.json", len(blob)),
        ]  # fmt: skip
        ledger = live.run.storage.ledger
        down = ledger.bytes_down
        assert await worker.download(sha256) == blob
        for changes in ({"key": "0" * 32}, {"worker": "bob"}):
            async with refused(Status.PERMISSION_DENIED, "another key"):
                await worker.download(sha256, **changes)
        async with refused(Status.OUT_OF_RANGE, f"has {len(blob)} bytes"):
            await worker.download(sha256, offset=len(blob) + 1)
        call = live.federation.Download(
            pb.DownloadRequest(
                run_id=worker.train.run_id, sha256=sha256, worker="ada", key=worker.key, offset=len(blob) - 10
            )
        )
        chunks = [chunk async for chunk in call]
        assert chunks[1].data == blob[-10:]
        assert ledger.bytes_down == down
        after.append(live.run.storage.models.wire_bytes)
        assert len(blob) + 10 < after[-1] < 1.01 * len(blob)
        (tmp_path / "model" / "weights.json").unlink()
        async with refused(Status.NOT_FOUND, "has no state"):
            await worker.download(sha256)
        worker.call.cancel()  # nobody is to be waited for at the end

    serving(tmp_path / "out", scenario, experiment=experiment(), make_model=make_model)
    result = max((tmp_path / "out").rglob("result.json"), key=lambda path: len(path.parts))  # the run's own
    assert json.loads(result.read_text())["runs"][0]["model_bytes"] == after[0]
    make_model = _with_files(tmp_path / "model", weights=blob, config=b"{}")

    async def again(live: Any) -> None:
        worker = await live.training()
        await worker.download(sha256)
        worker.call.cancel()

    serving(tmp_path / "out", again, make_model=make_model)
    (run,) = json.loads(result.read_text())["runs"]
    assert 2 * len(blob) < run["model_bytes"] < 2.01 * len(blob) and run["restarts"] == 1


# ---- where a device looks first


@pytest.mark.parametrize("source", ["/nowhere/model", "./nowhere", "~/nowhere/at/all", "nobody/no-such-model", "gone"])
def test_a_model_that_is_not_on_this_machine_is_not_here_and_no_hub_is_asked(
    monkeypatch: pytest.MonkeyPatch, source: str
) -> None:
    import socket

    monkeypatch.setattr(socket, "getaddrinfo", lambda *arguments, **options: pytest.fail("it asked a hub"))
    with pytest.raises(ModelNotFound, match="is not on this machine"):
        load_local_model(source, classify(2))


def test_the_embedded_model_without_its_package_is_not_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ModelNotFound):
        load_local_model(EMBEDDED, classify(2))


@pytest.fixture
def hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The snapshot's folder of ann/tiny in a hub cache of this test's own."""
    import huggingface_hub.constants
    from transformers.utils import hub

    cache = tmp_path / "hub"
    for owner, name in ((huggingface_hub.constants, "HF_HUB_CACHE"), (hub, "TRANSFORMERS_CACHE")):
        if hasattr(owner, name):
            monkeypatch.setattr(owner, name, str(cache))
    repository = cache / "models--ann--tiny"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("0" * 40)
    (repository / "snapshots" / ("0" * 40)).mkdir(parents=True)
    return repository / "snapshots" / ("0" * 40)


def test_a_model_of_the_hubs_is_found_in_its_cache_and_served_from_there(
    tmp_path: Path, tiny_folder: Folder, hub_cache: Path
) -> None:
    blobs = hub_cache.parent.parent / "blobs"
    blobs.mkdir()
    for path in Path(tiny_folder("bert")).iterdir():  # a cache holds links
        shutil.copyfile(path, blobs / path.name)
        (hub_cache / path.name).symlink_to(blobs / path.name)
    assert local_folder("ann/tiny") == hub_cache
    assert load_local_model("ann/tiny", classify(2)).digest == load_pretrained(tiny_folder("bert"), classify(2)).digest
    served = reference_model_of("ann/tiny", tmp_path).model_files(tmp_path / "made")
    assert {path.parent for path in served} == {hub_cache} and "model.safetensors" in {path.name for path in served}


def test_a_hub_cache_with_a_config_alone_is_no_model(tiny_folder: Folder, hub_cache: Path) -> None:
    shutil.copyfile(Path(tiny_folder("bert")) / "config.json", hub_cache / "config.json")
    with pytest.raises(ModelNotFound):
        load_local_model("ann/tiny", classify(2))


def test_another_model_under_the_same_name_is_refused_and_a_folder_that_is_damaged_too(
    tmp_path: Path, tiny_folder: Folder
) -> None:
    runtime = TorchRuntime(torch.device("cpu"))
    order = RunOrder(
        run_id="run",
        experiment_json=Experiment.model_validate(
            {"model": tiny_folder("bert"), "data": {"labels": ["a", "b"]}}
        ).model_dump_json(),
        base_digest="0" * 64,
        data_digest="",
        shards={},
        model=[ModelFile(name="config.json", size=1, sha256=NONE)],
    )
    with pytest.raises(BadInput, match="install the same checkpoint on both") as refused:
        runtime.prepare(order)
    assert not isinstance(refused.value, ModelNotFound)
    with pytest.raises(BadInput, match="the files of it that the coordinator serves"):
        runtime.prepare(order, Path(tiny_folder("bert")))
    damaged = Path(shutil.copytree(tiny_folder("bert"), tmp_path / "damaged"))
    (damaged / "model.safetensors").write_bytes(b"short")
    with pytest.raises(BadInput, match="cannot load") as refused:
        load_local_model(str(damaged), classify(2))
    assert not isinstance(refused.value, ModelNotFound)


# ---- a tokenizer in sentencepiece's format


def test_a_sentencepiece_tokenizer_is_served_as_it_was_converted_and_a_device_needs_no_sentencepiece(
    published: Path, tmp_path: Path
) -> None:
    before = sorted(path.name for path in published.iterdir())
    reference_model = TorchReferenceModel(Experiment.model_validate({"model": str(published)}))
    reference_model.prepare()
    paths = {path.name: path for path in reference_model.model_files(tmp_path / "made")}
    assert set(paths) == {"config.json", "model.safetensors", "spm.model", "tokenizer.json", "tokenizer_config.json"}
    assert sorted(path.name for path in published.iterdir()) == before, "nothing is written beside the model"
    served = tmp_path / "served"
    served.mkdir()
    for name, path in paths.items():
        if name != "spm.model":  # the one file that sentencepiece is needed for
            shutil.copy(path, served / name)
    there, here = load_pretrained(str(served), classify(2)), load_pretrained(str(published), classify(2))
    assert there.digest == here.digest and len(there.tokenizer) == len(here.tokenizer)
    for text in [*SENTENCES, "Café  ½ ﬁ\n日本 [MASK] team", ""]:
        assert there.tokenizer(text)["input_ids"] == here.tokenizer(text)["input_ids"]
    assert len(set(here.tokenizer(SENTENCES[0])["input_ids"])) > 5


def test_the_tokenizer_that_is_served_has_no_tokens_of_the_task(published: Path, tmp_path: Path) -> None:
    data = {"source": str(write_relations(tmp_path / "data.jsonl")), "max_length": 32}
    tree = {"model": str(published), "task": "relation-classification", "data": data}
    reference_model = TorchReferenceModel(Experiment.model_validate(tree))
    reference_model.prepare()
    served = tmp_path / "served"
    served.mkdir()
    for path in reference_model.model_files(tmp_path / "made"):
        shutil.copy(path, served)
    assert "<e1>" not in (served / "tokenizer.json").read_text()
    # A device adds them, and has rows for them to take the start's values.
    there, here = load_pretrained(str(served), relations()), load_pretrained(str(published), relations())
    assert there.digest == here.digest == reference_model.base_digest and there.missing == here.missing
    assert there.tokenizer.convert_tokens_to_ids("<e1>") == here.tokenizer.convert_tokens_to_ids("<e1>")


def test_without_sentencepiece_its_tokenizer_is_refused_with_what_to_install(published: Path) -> None:
    # In a process of its own: transformers looks once for what is installed.
    script = (
        "import sys; sys.modules['sentencepiece'] = None\n"
        "from classify import classify\n"
        "from federa.models.pretrained import load_pretrained\n"
        "from federa.errors import BadInput\n"
        "try: load_pretrained(sys.argv[1], classify(2))\n"
        "except BadInput as error: print(error)"
    )
    printed = subprocess.run(
        [sys.executable, "-c", script, str(published)], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    assert printed == (
        f"model: cannot load {published}: its tokenizer is in sentencepiece's format, "
        "which needs 'pip install sentencepiece'\n"
    )
