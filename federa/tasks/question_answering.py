"""Extractive question answering: the answer is a span of the context. Counters `exact`, `f1` (a sum) and `examples`,
which are questions; the metrics are F1 and exact match, by the rules of SQuAD's official evaluation."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field, model_validator

from federa.data.dataset import Dataset, Record
from federa.data.readers import DataSource, Row
from federa.data.section import DEVICES, DataSection
from federa.tasks.answer_scores import score_answer
from federa.tasks.base import Task
from federa.tasks.metric import Counters, Metric
from federa.tasks.windows import AskedQuestion, Question, make_windows

if TYPE_CHECKING:
    import torch
    from torch import nn
    from transformers import PreTrainedTokenizerBase

    from federa.data.batches import Batch, Examples
    from federa.tasks.spans import WindowSpan

MAX_AROUND = 4
"""Tokens that a tokenizer puts around and between two texts (RoBERTa's)."""


class QuestionData(DataSection):
    """Questions about contexts, with their answers."""

    question_column: str = "question"
    """The column of the questions."""
    context_column: str = "context"
    """The column of the contexts."""
    answers_column: str = "answers"
    """The column of the answers: their texts (`text`), and at which characters of the context they begin
    (`answer_start`)."""
    impossible_questions: bool | None = None
    """Whether there may be questions that their context does not answer, as in SQuAD 2.0. Without it: whether one of
    the data is declared so (`is_impossible`); where `source` is `devices`, no."""
    max_length: Annotated[int, Field(ge=16)] = 384
    """The most tokens of a window: of a question and a part of its context."""
    stride: Annotated[int, Field(ge=0)] | None = None
    """Tokens of the context that a window has in common with the one before it. Without it a third of `max_length`."""
    max_question_length: Annotated[int, Field(ge=1)] | None = None
    """Tokens at which a question is cut. Without it a sixth of `max_length`."""
    max_answer_length: Annotated[int, Field(ge=1)] = 30
    """The most tokens of an answer: longer spans are left out of account."""

    @model_validator(mode="after")
    def _leaves_room(self) -> QuestionData:
        least = self.window_stride + self.window_question_length + MAX_AROUND
        if least >= self.max_length:
            raise ValueError(
                f"max_length must be more than stride, max_question_length and {MAX_AROUND} tokens together ({least}), "
                f"not {self.max_length}"
            )
        if self.source == DEVICES and self.impossible_questions is None:
            object.__setattr__(self, "impossible_questions", False)  # frozen for everybody else
        return self

    @property
    def window_stride(self) -> int:
        """The stride in force, in tokens."""
        return self.max_length // 3 if self.stride is None else self.stride

    @property
    def window_question_length(self) -> int:
        """The most tokens of a question that are in force."""
        return self.max_length // 6 if self.max_question_length is None else self.max_question_length


class QuestionAnswering(Task):
    """Start and end of the answer, each trained by cross entropy over a window's tokens. A window without the answer is
    trained towards the [CLS] token, also where every question has an answer, as the usual scripts do."""

    Data = QuestionData
    metrics = (
        Metric(
            name="f1",
            better="higher",
            of=lambda counters: counters["f1"] / counters["examples"],
            target=0.8,
            above=0,
            at_most=1,
        ),
        Metric(
            name="exact_match",
            better="higher",
            of=lambda counters: counters["exact"] / counters["examples"],
            target=0.7,
            above=0,
            at_most=1,
        ),
    )
    auto_model = "AutoModelForQuestionAnswering"

    data: QuestionData

    @property
    def counters(self) -> tuple[str, ...]:
        return ("exact", "f1", "examples")

    # ---- records

    def record(self, row: Row) -> Question:
        """Question, context and answers of a row."""
        columns = self.data.columns
        if self.data.answers_column in row.values:
            # Where it is not, the refusal names it beside all others that are not there.
            del columns["answers_column"]
        question, context = row.texts(columns)
        texts, starts = _answers(row, self.data.answers_column)
        declared = row.values.get("is_impossible") in (True, 1)
        if declared and texts:
            raise row.refused("is declared impossible and has answers", ": take the one or the other out")
        if not texts and not declared and not self.data.impossible_questions:
            raise row.refused(
                "has no answer",
                ": data.impossible_questions must be true where questions may have none, else leave them out",
            )
        if declared and self.data.impossible_questions is False:
            raise row.refused(
                "is declared impossible (is_impossible)",
                ": data.impossible_questions must be true where there are such questions, else leave them out",
            )
        for text, start in zip(texts, starts, strict=True):
            if not 0 <= start <= len(context) - len(text):
                raise row.refused("has an answer_start outside its context", _COUNTED)
            if context[start : start + len(text)] != text:
                raise row.refused("has an answer that its context does not have at its answer_start", _COUNTED)
        return Question(question.strip(), context, texts, starts)

    def read(self, source: DataSource) -> Dataset:
        """The records, of which those about one context share its text; whether there are impossible questions is found
        where the experiment leaves it open."""
        contexts: dict[str, str] = {}

        def make(row: Row) -> Question:
            text, context, answers, starts = self.record(row)
            return Question(text, contexts.setdefault(context, context), answers, starts)

        records = tuple(source.records(make))
        possible = self.data.impossible_questions
        if possible is None:
            possible = not all(record.answers for record in records)
        return Dataset(records=records, found={"impossible_questions": possible})

    def identity(self, record: Record) -> str:
        """The context: all questions about it are in one part."""
        return str(record[1])

    def embedded_text(self, record: Record) -> str:
        """The question and its answer, as FedNLP clusters SQuAD (arXiv 2104.08815)."""
        question = Question(*record)
        return " ".join((question.text, *question.answers[:1]))

    def made_up(self, tokens: int) -> Sequence[Record]:
        """A question about a long text, and one about a word."""
        long, short = "word " * tokens, "word"
        return tuple(Question("word", context, ("word",), (0,)) for context in (long, short))

    def describe(self, records: Sequence[Record]) -> tuple[str, str]:
        contexts = len({record[1] for record in records})
        impossible = sum(not record[2] for record in records)
        return f"{len(records):,} questions about {contexts:,} contexts, {impossible:,} of them without an answer", ""

    # ---- the model

    def model_options(self) -> dict[str, Any]:
        """Start and end: a checkpoint of another task may have another number of outputs."""
        return {"num_labels": 2}

    def encode(self, records: Sequence[Record], tokenizer: PreTrainedTokenizerBase, max_length: int) -> Examples:
        """The windows of all questions: one example each."""
        return make_windows(
            [Question(*record) for record in records],
            tokenizer,
            max_length,
            stride=self.data.window_stride,
            max_question_length=self.data.window_question_length,
        )

    def collate(self, examples: Examples, indices: Sequence[int]) -> Batch:
        """Windows, padded; their targets are the first and the last place of the answer (windows x 2)."""
        from federa.data.batches import collate

        padding = _padding_before(examples, indices)
        windows = [examples.targets[index] for index in indices]
        places = [[window.start + before, window.end + before] for window, before in zip(windows, padding, strict=True)]
        return collate(replace(examples.select(indices), targets=tuple(places)), range(len(indices)))

    def loss(self, outputs: Any, batch: Batch) -> torch.Tensor:
        """The mean of the cross entropies of start and end."""
        from federa.tasks.spans import span_loss

        return span_loss(outputs, batch.targets, batch.inputs["attention_mask"])

    # ---- evaluation

    def evaluate(
        self,
        model: nn.Module,
        examples: Examples,
        *,
        batch_size: int = 64,
        device: torch.device | None = None,
        before_batch: Callable[[], object] = lambda: None,
    ) -> Counters:
        """What all questions score, each with the best span over its windows."""
        from federa.tasks.evaluation import run_batches
        from federa.tasks.spans import best_spans

        found: dict[int, WindowSpan] = {}

        def keep(indices: Sequence[int], outputs: Any, batch: Batch) -> None:
            windows = [examples.targets[index] for index in indices]
            padding = _padding_before(examples, indices)
            spans = best_spans(outputs, windows, padding, self.data.max_answer_length)
            found.update(zip(indices, spans, strict=True))

        run_batches(
            model,
            examples,
            keep,
            collate=self.collate,
            batch_size=batch_size,
            device=device,
            before_batch=before_batch,
        )
        return self._count(examples, found)

    def _count(self, examples: Examples, found: Mapping[int, WindowSpan]) -> Counters:
        from federa.tasks.spans import answer_of

        spans: dict[AskedQuestion, list[WindowSpan]] = {}
        for index, window in enumerate(examples.targets):
            spans.setdefault(window.question, []).append(found[index])
        may_be_none = bool(self.data.impossible_questions)
        scores = [
            score_answer(answer_of(question, some, may_be_none=may_be_none), question.answers, may_be_none=may_be_none)
            for question, some in spans.items()
        ]
        return {
            "exact": sum((score.exact for score in scores), start=0.0),
            "f1": sum((score.f1 for score in scores), start=0.0),
            "examples": float(len(scores)),
        }

    def check(self, counters: Counters) -> str:
        objection = super().check(counters)
        if objection:
            return objection
        exact, f1, examples = (counters[name] for name in self.counters)
        if not 0 <= exact <= examples or exact != int(exact):
            return f"{exact:g} exact answers to {examples:g} questions"
        if not 0 <= f1 <= examples:
            return f"a sum of {f1:g} for the F1 of {examples:g} questions"
        return ""


_COUNTED = ": it counts characters from 0, and the context's text there must be the answer's"


def _answers(row: Row, column: str) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Texts and starts of a row's answers, which are an object of two lists, or a list of objects."""
    value = row.values[column]
    shape = f': they must be {{"text": [...], "answer_start": [...]}}, as in SQuAD (data.answers_column is {column!r})'
    if value is None:
        return (), ()
    if isinstance(value, Mapping):
        texts, starts = value.get("text"), value.get("answer_start")
    elif isinstance(value, list) and all(isinstance(one, Mapping) for one in value):
        texts, starts = ([one.get(name) for one in value] for name in ("text", "answer_start"))
    else:
        texts = starts = None
    if not isinstance(texts, list) or not isinstance(starts, list) or len(texts) != len(starts):
        raise row.refused("has no answers with their places", shape)
    if not all(isinstance(text, str) and text.strip() for text in texts):
        raise row.refused("has an answer without text", ": leave that answer out")
    if not all(type(start) is int for start in starts):
        raise row.refused("has an answer whose answer_start is no whole number", _COUNTED)
    return tuple(texts), tuple(starts)


def _padding_before(examples: Examples, indices: Sequence[int]) -> list[int]:
    """How many tokens of padding stand before each of these windows in a batch of them."""
    lengths = [len(examples.token_ids[index]) for index in indices]
    return [(max(lengths) - length) * examples.pad_left for length in lengths]
