"""How long a text may be: the model's table of positions says, found by trying the model."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from classify import classify
from tiny_models import make_tiny_model

from coordinator.evaluation.reference_model import TorchReferenceModel
from federa.config import Experiment
from federa.errors import BadInput
from federa.models.positions import Behaviour, try_out
from federa.models.pretrained import load_pretrained


def prepared(model: Path, max_length: int) -> TorchReferenceModel:
    data = {"source": "devices", "labels": ["a", "b"], "max_length": max_length}
    experiment = {"model": str(model), "data": data, "evaluation": "devices", "methods": [{"name": "ft"}]}
    reference = TorchReferenceModel(Experiment.model_validate(experiment))
    reference.prepare()
    return reference


@pytest.mark.parametrize("architecture", ["camembert", "mpnet", "longformer", "xlm-roberta"])
def test_positions_that_begin_behind_the_padding_token_are_not_counted(tmp_path: Path, architecture: str) -> None:
    folder = make_tiny_model(tmp_path, architecture)  # 80 rows
    prepared(folder, 78)
    for length in (79, 80, 512):
        with pytest.raises(BadInput, match=rf"^data\.max_length must be at most 78 for {folder}$"):
            prepared(folder, length)


@pytest.mark.parametrize("architecture", ["deberta-v3", "xlnet", "llama", "modernbert", "t5"])
def test_without_a_table_of_positions_any_length_will_do(tmp_path: Path, architecture: str) -> None:
    prepared(make_tiny_model(tmp_path, architecture), 200)


def test_a_config_that_says_minus_1_means_none(tmp_path: Path) -> None:
    base = load_pretrained(str(make_tiny_model(tmp_path, "xlnet")), classify(2))
    assert base.model.config.max_position_embeddings == -1 and base.max_tokens is None


@pytest.mark.parametrize(("said", "limit"), [(80, 80), (-1, None), (None, None), ("many", None)])
def test_of_a_model_that_cannot_be_tried_the_configs_word_stands(said: object, limit: int | None) -> None:
    class Broken(torch.nn.Module):
        config = type("Config", (), {"max_position_embeddings": said})()

        def forward(self, **inputs: object) -> None:
            raise RuntimeError("needs more than a text")

    assert try_out(Broken(), [1, 2, 2], [1, 2, 2, 2], 0) == Behaviour(max_tokens=limit, padding_side="right")
