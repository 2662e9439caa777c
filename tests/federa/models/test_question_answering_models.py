"""Models that answer questions: their head, the segments of question and context, and what PEFT makes of a result."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor
from transformers import (
    AutoModelForQuestionAnswering,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedTokenizerBase,
)

from federa.config import Experiment
from federa.models.pretrained import PretrainedModel, load_pretrained
from federa.models.tuned import TunedModel
from federa.tasks.question_answering import QuestionAnswering, QuestionData
from federa.tasks.windows import Question

Folder = Callable[[str], str]
TASK = QuestionAnswering(QuestionData(max_length=32))
QUESTIONS = [Question("the goal", "good music of the match", ("the match",), (14,)), Question("a", "bank", (), ())]


def _logits(model: torch.nn.Module, base: PretrainedModel) -> Tensor:
    batch = TASK.collate(TASK.encode(QUESTIONS, base.tokenizer, 32), range(2))
    with torch.inference_mode():
        outputs = model.eval()(**batch.inputs)
    return torch.cat([outputs.start_logits, outputs.end_logits])


def _stored(folder: Path, auto_model: type, tokenizer: PreTrainedTokenizerBase, source: str, labels: int) -> str:
    """A checkpoint with a head of so many outputs."""
    auto_model.from_pretrained(source, num_labels=labels).save_pretrained(folder)  # type: ignore[attr-defined]
    tokenizer.save_pretrained(folder)
    return str(folder)


@pytest.mark.parametrize(
    ("architecture", "known"),
    [("bert", True), ("electra", True), ("xlnet", True), ("roberta", False), ("deberta-v3", False),
     ("distilbert", False), ("mpnet", False), ("modernbert", False)],
)  # fmt: skip
def test_segments_are_given_to_models_that_tell_them_apart(tiny_folder: Folder, architecture: str, known: bool) -> None:
    base = load_pretrained(tiny_folder(architecture), TASK)
    examples = TASK.encode(QUESTIONS, base.tokenizer, 32)
    assert (examples.segments is not None) == known
    if known:
        assert list(examples.segments or ())[1] == [0, 0, 0, 1, 1]
        other = TASK.collate(examples, [1]).inputs | {"token_type_ids": torch.zeros(1, 5, dtype=torch.int64)}
        with torch.inference_mode():
            change = base.model(**other).start_logits - base.model(**TASK.collate(examples, [1]).inputs).start_logits
        assert change.abs().max() > 1e-4
    assert _logits(base.model, base).isfinite().all()


def test_a_checkpoint_that_answers_questions_keeps_its_head(tmp_path: Path, tiny_folder: Folder) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny_folder("bert"))
    folder = _stored(tmp_path, AutoModelForQuestionAnswering, tokenizer, tiny_folder("bert"), 2)
    base = load_pretrained(folder, TASK, seed=3)
    assert not base.missing and not base.notes
    stored = AutoModelForQuestionAnswering.from_pretrained(folder)
    assert torch.equal(base.model.qa_outputs.weight, stored.qa_outputs.weight)
    assert "qa_outputs.weight" in TunedModel(base, Experiment().make_method()).communicated


@pytest.mark.parametrize("architecture", ["bert", "distilbert"])
def test_a_classifier_of_five_classes_gets_a_head_of_two_outputs(
    tmp_path: Path, tiny_folder: Folder, architecture: str
) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny_folder(architecture))
    folder = _stored(tmp_path, AutoModelForSequenceClassification, tokenizer, tiny_folder(architecture), 5)
    base = load_pretrained(folder, TASK)
    assert base.missing == {"qa_outputs.weight", "qa_outputs.bias"}
    assert base.model.qa_outputs.weight.shape[0] == 2
    assert any("does not use, such as classifier" in note or "pre_classifier" in note for note in base.notes)


def test_pefts_own_model_with_the_adapter_computes_the_same(tmp_path: Path, tiny_folder: Folder) -> None:
    from peft import PeftModel

    base = load_pretrained(tiny_folder("roberta"), TASK)
    tuned = TunedModel(base, Experiment().make_method())
    tuned.init(0)
    tuned.install()
    start = {name: value.copy() for name, value in tuned.state().items()}
    with torch.no_grad():
        for parameter in tuned.communicated.values():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(2)))
    adapter = tuned.peft_adapter(start)
    assert adapter is not None
    adapter.save(tmp_path, tiny_folder("roberta"))
    theirs = PeftModel.from_pretrained(
        AutoModelForQuestionAnswering.from_pretrained(tiny_folder("roberta")), str(tmp_path)
    )
    ours = _logits(tuned.model, base)
    assert (_logits(theirs, base) - ours).abs().max() <= 1e-4 * max(1.0, float(ours.abs().max()))
    assert (_logits(tuned.merge(), base) - ours).abs().max() <= 1e-4 * max(1.0, float(ours.abs().max()))
