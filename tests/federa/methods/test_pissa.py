"""FeDeRA with one client is PEFT's PiSSA initialisation (arXiv 2404.02948), step for step: another implementation of
the start, with the same data, batches and optimizer."""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from classify import classify
from peft import LoraConfig, get_peft_model
from tiny_models import make_tiny_model

from edge.training.precision import Precision
from edge.training.trainer import Trainer
from federa.config import Training
from federa.data.batches import Examples
from federa.methods.federa import FeDeRA
from federa.methods.lora import LoRASection
from federa.models.pretrained import PretrainedModel, load_pretrained
from federa.models.tuned import TunedModel

TASK = classify(3)
TRAINING = Training(epochs=4, batch_size=4)
RATE = 1e-2
LORA = LoRASection(r=4, alpha=10)
"""alpha is not r: the scale divides the singular values, and multiplies the update."""
TEXTS = (
    "the match was good",
    "the bank and the market",
    "a film",
    "not a bad goal of the team",
    "music",
    "shares fell",
)
FP32 = Precision(name="fp32", device=torch.device("cpu"))


@pytest.fixture(params=["bert", "roberta", "deberta-v3"])
def base(request: pytest.FixtureRequest, tmp_path: Path) -> PretrainedModel:
    """Without dropout, which the two would draw in another order."""
    folder = make_tiny_model(tmp_path, request.param)
    config = json.loads((folder / "config.json").read_text())
    config |= dict.fromkeys(("hidden_dropout_prob", "attention_probs_dropout_prob", "pooler_dropout"), 0.0)
    (folder / "config.json").write_text(json.dumps(config))
    return load_pretrained(str(folder), TASK)


def _examples(base: PretrainedModel) -> Examples:
    return TASK.encode([(text, number % 3) for number, text in enumerate(TEXTS * 4)], base.tokenizer, 16)


def ours(base: PretrainedModel, examples: Examples, lora: LoRASection = LORA) -> list[float]:
    """The loss of every step of a client, trained as a worker trains it."""
    tuned = TunedModel(base, FeDeRA(lora))
    tuned.init(seed=0)
    tuned.install()
    return Trainer(tuned, TASK, TRAINING, RATE, FP32).train(examples, seed=1).losses


def pissas(base: PretrainedModel, examples: Examples, plan: Sequence[Sequence[int]]) -> list[float]:
    """The same of PEFT's model, in a loop of its own."""
    config = LoraConfig(
        init_lora_weights="pissa",
        r=LORA.r,
        lora_alpha=int(LORA.alpha),
        target_modules=FeDeRA(LORA).targets(base.model),
        modules_to_save=sorted({name.rpartition(".")[0] for name in base.missing}),
    )
    model = get_peft_model(base.model, config)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=RATE, weight_decay=0.0)
    losses = []
    for indices in plan:
        batch = TASK.collate(examples, indices)
        loss = TASK.loss(model(**batch.inputs), batch) / len(indices)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(float(loss.detach()))
    return losses


def _both(base: PretrainedModel, lora: LoRASection = LORA) -> tuple[list[float], list[float]]:
    examples = _examples(base)
    theirs = PretrainedModel(
        model=copy.deepcopy(base.model), tokenizer=base.tokenizer, missing=base.missing, digest=base.digest
    )
    plan = Trainer(TunedModel(copy.deepcopy(theirs), FeDeRA(lora)), TASK, TRAINING, RATE, FP32).plan(examples, 1)
    return ours(base, examples, lora), pissas(theirs, examples, plan)


def _gap(one: Sequence[float], other: Sequence[float]) -> list[float]:
    return [abs(a - b) / max(1.0, b) for a, b in zip(one, other, strict=True)]


def test_one_clients_losses_are_pissas_step_for_step(base: PretrainedModel) -> None:
    one, other = _both(base)
    assert len(one) == 24 and min(one) < 0.5 * one[0], "else this test shows little"
    assert max(_gap(one, other)) < 1e-3 and max(_gap(one, other)[:6]) < 2e-5


def test_that_check_fails_where_w_res_is_not_subtracted(base: PretrainedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FeDeRA, "install", lambda self, model: None)
    assert _gap(*_both(base))[0] > 1e-2


@pytest.mark.parametrize("alpha", [4, 20])
def test_that_check_fails_with_another_alpha(base: PretrainedModel, alpha: float) -> None:
    gaps = _gap(*_both(base, LoRASection(r=4, alpha=alpha)))
    assert gaps[0] < 2e-5, "it drops out of the start"
    assert max(gaps[:6]) > 1e-2


def test_that_check_fails_with_loras_start(base: PretrainedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    from federa.methods.lora import LoRA

    monkeypatch.setattr(FeDeRA, "init", LoRA.init)
    gaps = _gap(*_both(base))
    assert gaps[0] < 2e-5 and max(gaps[:6]) > 1e-2
