"""Clusters of texts: mean-pooled embeddings, like texts together, the same from the same seed."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from classify import classify
from tiny_models import ARCHITECTURES, make_tiny_model

from federa.errors import BadInput
from federa.models import clusters as module
from federa.models.clusters import cluster_texts, embed_texts
from federa.models.pretrained import PretrainedModel, load_pretrained

TEXTS = ["the bank and the market", "good goal", "the bank and the market", "film " * 40, "music", "bad match team"]


@pytest.fixture
def base(tiny_folder: Callable[[str], str], monkeypatch: pytest.MonkeyPatch) -> PretrainedModel:
    monkeypatch.setattr(module, "_last", None)
    return load_pretrained(tiny_folder("bert"), classify(2))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_an_embedding_is_the_mean_over_the_tokens_without_padding(
    tiny_folder: Callable[[str], str], architecture: str
) -> None:
    base = load_pretrained(tiny_folder(architecture), classify(2))
    found = embed_texts(base, TEXTS)
    for text, row in zip(TEXTS, found, strict=True):
        ids = torch.tensor([base.tokenizer(text, truncation=True, max_length=base.max_tokens)["input_ids"]])
        with torch.inference_mode():
            mean = base.model.base_model.eval()(input_ids=ids)[0][0].mean(0).double()
        np.testing.assert_allclose(row, (mean / mean.norm()).numpy(), atol=1e-5)


@pytest.mark.parametrize("architecture", ["bart", "t5", "gpt2", "mpnet", "modernbert"])
def test_other_architectures_have_embeddings_too(tmp_path: Path, architecture: str) -> None:
    base = load_pretrained(str(make_tiny_model(tmp_path, architecture)), classify(2))
    assert np.isfinite(embed_texts(base, TEXTS)).all()


def test_equal_texts_are_embedded_once(base: PretrainedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    real = module.tokenize
    monkeypatch.setattr(module, "tokenize", lambda texts, *rest: seen.append(len(texts)) or real(texts, *rest))
    assert embed_texts(base, TEXTS * 3).shape == (18, 32) and seen == [5]


def test_texts_of_a_kind_are_together_and_the_seed_decides(
    base: PretrainedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(0)
    points = np.eye(3)[np.arange(90) % 3] + rng.normal(scale=0.1, size=(90, 3))
    monkeypatch.setattr(module, "embed_texts", lambda base, texts: points[[int(text) for text in texts]])
    texts = list(map(str, range(90)))
    found = cluster_texts(base, texts, 3, 7, fitted=90)
    assert found == found[:3] * 30 and sorted(found[:3]) == [0, 1, 2]
    monkeypatch.setattr(module, "_last", None)
    assert cluster_texts(base, texts, 3, 7, fitted=90) == found
    more = [cluster_texts(base, texts, 20, seed, fitted=90) for seed in (7, 8)]
    assert more[0] != more[1]


def test_the_centres_are_those_of_the_fitted_texts(base: PretrainedModel) -> None:
    fitted = ["good goal", "the bank"] * 5
    found = cluster_texts(base, [*fitted, *(["film music"] * 40)], 2, 0, fitted=10)
    assert found[:10] in ([0, 1] * 5, [1, 0] * 5) and len(set(found[10:])) == 1


def test_there_are_no_more_clusters_than_different_texts(base: PretrainedModel) -> None:
    assert set(cluster_texts(base, ["a", "the", "a", "the"], 10, 0, fitted=4)) == {0, 1}


def test_another_method_s_run_asks_without_the_work(base: PretrainedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    found = cluster_texts(base, TEXTS, 2, 0, fitted=6)
    monkeypatch.setattr(module, "embed_texts", lambda *given: pytest.fail("again"))
    assert cluster_texts(base, TEXTS, 2, 0, fitted=6) == found


def test_without_scikit_learn_it_is_said_what_to_install(
    base: PretrainedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.cluster", None)
    with pytest.raises(BadInput, match=r"clusters need scikit-learn; pip install -e '\.\[data\]'"):
        cluster_texts(base, TEXTS, 2, 0, fitted=6)
