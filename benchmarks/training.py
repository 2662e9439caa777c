"""Local training against the Hugging Face Trainer with PEFT's LoRA: non-padding tokens a second, in one run.

    python -m benchmarks.training [--texts long,short] [--precision bf16] [--batch 16] [--length 128] [--threads 1]

Both train the same LoRA (PEFT's layers, query and value, and the head) of the same model from the same checkpoint on
the same documents, with AdamW at one rate, gradient clipping at 1, the model's own dropout and SDPA attention. The
contestants take turns, so that a noisy machine is noisy for all; each figure is a median over the turns, the first step
of each left out. The mean losses stand beside: a contestant that is fast because it learns something else would show.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from edge.training.device import choose_device, device_name
from edge.training.precision import Precision, choose_precision
from edge.training.trainer import Trainer
from federa.config import Experiment, Training
from federa.data.batches import Examples
from federa.data.dataset import Dataset
from federa.errors import BadInput, FederaError
from federa.methods.lora import LoRA, LoRASection
from federa.models.location import model_folder
from federa.models.pretrained import load_pretrained
from federa.models.tuned import TunedModel
from federa.tasks.base import Task

SEED = 7


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingTurn:
    """One contestant's turn."""

    tokens_per_s: float
    first_loss: float
    last_loss: float
    """Mean losses over the first and the last quarter of the steps."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Contest:
    """What all contestants train on."""

    model: str
    task: Task
    examples: Examples
    lora: LoRASection
    training: Training
    learning_rate: float


def _turn(stamps: Sequence[float], tokens: Sequence[int], losses: Sequence[float]) -> TrainingTurn:
    quarter = max(1, len(losses) // 4)
    return TrainingTurn(
        tokens_per_s=sum(tokens[1:]) / (stamps[-1] - stamps[0]),
        first_loss=statistics.mean(losses[:quarter]),
        last_loss=statistics.mean(losses[-quarter:]),
    )


def ours(contest: Contest, precision: Precision) -> TrainingTurn:
    """federa's trainer, as a worker runs it."""
    base = load_pretrained(contest.model, contest.task, SEED)
    model = TunedModel(base, LoRA(contest.lora))
    model.init(SEED)
    model.install()
    model.model.to(precision.device)
    model.freeze(precision.dtype)
    trainer = Trainer(model, contest.task, contest.training, contest.learning_rate, precision)
    stamps: list[float] = []
    trained = trainer.train(contest.examples, SEED, lambda progress: stamps.append(time.perf_counter()))
    plan = trainer.plan(contest.examples, SEED)
    tokens = [sum(len(contest.examples.token_ids[index]) for index in batch) for batch in plan]
    return _turn(stamps, tokens, trained.losses)


def theirs(contest: Contest, precision: Precision, by_length: bool) -> TrainingTurn:
    """The Hugging Face Trainer with a PEFT model, shuffled or grouped by length."""
    from peft import LoraConfig, TaskType, get_peft_model
    from transformers import DataCollatorWithPadding, TrainerCallback, TrainingArguments
    from transformers import Trainer as HuggingFaceTrainer
    from transformers.trainer_callback import PrinterCallback

    base = load_pretrained(contest.model, contest.task, SEED)
    config = LoraConfig(
        task_type=TaskType.SEQ_CLS,
        r=contest.lora.r,
        lora_alpha=int(contest.lora.alpha),
        lora_dropout=contest.lora.dropout,
        target_modules=LoRA(contest.lora).targets(base.model),
    )
    model = get_peft_model(base.model, config)
    stamps: list[float] = []
    tokens: list[int] = []
    losses: list[float] = []
    pad = DataCollatorWithPadding(base.tokenizer)

    def collate(rows: list[dict[str, Any]]) -> Any:
        tokens.append(sum(len(row["input_ids"]) for row in rows))
        return pad(rows)

    class Clock(TrainerCallback):
        def on_step_end(self, *args: Any, **kwargs: Any) -> None:
            stamps.append(time.perf_counter())

        def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **_: Any) -> None:
            if logs and "loss" in logs:
                losses.append(logs["loss"])

    grouping: dict[str, Any] = {"train_sampling_strategy": "group_by_length"} if by_length else {}
    settings = TrainingArguments(
        output_dir="unused",
        per_device_train_batch_size=contest.training.batch_size,
        num_train_epochs=contest.training.epochs,
        learning_rate=contest.learning_rate,
        weight_decay=contest.training.weight_decay,
        lr_scheduler_type="constant",
        max_grad_norm=contest.training.max_grad_norm or 0.0,
        bf16=precision.name == "bf16",
        fp16=precision.name == "fp16",
        use_cpu=precision.device.type == "cpu",
        logging_strategy="steps",
        logging_steps=1,
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
        remove_unused_columns=False,
        seed=SEED,
        **grouping,
    )
    rows = [
        {"input_ids": ids, "attention_mask": [1] * len(ids), "labels": target}
        for ids, target in zip(contest.examples.token_ids, contest.examples.targets, strict=True)
    ]
    trainer = HuggingFaceTrainer(
        model=model,
        args=settings,
        train_dataset=rows,  # a list serves: it has a length and items
        data_collator=collate,
        callbacks=[Clock()],
    )
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    return _turn(stamps, tokens[: len(stamps)], losses)


def _texts(kind: str, whole: Dataset, documents: int) -> Dataset:
    # A headline has a twentieth of the tokens: more of them, or the turns would be over in a second.
    documents *= 1 if kind == "long" else 6
    # Spread over the classes; the embedded corpus is in the order of its classes.
    picked = whole.select(range(0, len(whole), max(1, len(whole) // documents)))
    if kind == "long":
        return picked
    # The first line of a BBC document is its headline.
    records = tuple((text.split("\n", 1)[0], target) for text, target in picked.records)
    return Dataset(records=records, found=picked.found)


def _arguments(arguments: list[str] | None) -> argparse.Namespace:
    parse = argparse.ArgumentParser(prog="python -m benchmarks.training", description=(__doc__ or "").split("\n")[0])
    parse.add_argument("--model", default="embedded", help="as for federa-bench")
    parse.add_argument("--texts", default="long,short", help="documents of BBC News, their headlines, or both")
    parse.add_argument("--documents", type=int, default=192, help="long ones; of headlines it takes six times as many")
    parse.add_argument("--length", type=int, default=128, help="tokens at which a document is cut")
    parse.add_argument("--batch", type=int, default=16)
    parse.add_argument("--precision", default="auto", choices=("auto", "fp32", "bf16", "fp16"))
    parse.add_argument("--learning-rate", type=float, default=3e-3)
    parse.add_argument("--threads", type=int, default=1)
    parse.add_argument("--turns", type=int, default=3)
    return parse.parse_args(arguments)


def _compare(options: argparse.Namespace, kind: str, device: torch.device, console: Console) -> None:
    precision = choose_precision(options.precision, device)
    task = Experiment().make_task()
    whole = task.load()
    task = task.resolved(whole)
    dataset = _texts(kind, whole, options.documents)
    tokenizer = load_pretrained(options.model, task).tokenizer
    contest = Contest(
        model=model_folder(options.model),
        task=task,
        examples=task.encode(dataset.records, tokenizer, options.length),
        lora=LoRASection(),
        training=Training(batch_size=options.batch),
        learning_rate=options.learning_rate,
    )
    contestants: dict[str, Callable[[], TrainingTurn]] = {
        f"federa, {precision.name}": lambda: ours(contest, precision),
        f"Trainer + PEFT, {precision.name}": lambda: theirs(contest, precision, by_length=False),
        f"Trainer + PEFT, {precision.name}, grouped": lambda: theirs(contest, precision, by_length=True),
    }
    if precision.name != "fp32":
        fp32 = choose_precision("fp32", device)
        contestants["federa, fp32"] = lambda: ours(contest, fp32)
    turns: dict[str, list[TrainingTurn]] = {name: [] for name in contestants}
    for _ in range(options.turns):
        for name, contestant in contestants.items():
            turns[name].append(contestant())
    speeds = {name: statistics.median(turn.tokens_per_s for turn in done) for name, done in turns.items()}
    reference = next(iter(speeds.values()))
    table = Table(
        title=f"{kind} texts: {len(dataset)} documents, {contest.examples.tokens} tokens", title_justify="left"
    )
    for column in ("contestant", "tokens/s", "lowest to highest", "federa is faster by", "loss, first to last quarter"):
        table.add_column(column, justify="left" if column == "contestant" else "right")
    for name, done in turns.items():
        all_speeds = [turn.tokens_per_s for turn in done]
        table.add_row(
            name,
            f"{speeds[name]:.0f}",
            f"{min(all_speeds):.0f} to {max(all_speeds):.0f}",
            f"{reference / speeds[name]:.2f} x",
            f"{done[0].first_loss:.3f} to {done[0].last_loss:.3f}",
        )
    console.print(table)


def main(arguments: list[str] | None = None) -> int:
    """Run the benchmark; returns the exit code."""
    options = _arguments(arguments)
    console = Console() if sys.stdout.isatty() else Console(width=120)
    torch.set_num_threads(options.threads)
    try:
        kinds = options.texts.split(",")
        if not set(kinds) <= {"long", "short"}:
            raise BadInput(f"--texts: must be long, short or both by a comma, not {options.texts!r}")
        device, why = choose_device()
        console.print(
            f"{device_name(device)} ({why}); batch {options.batch}, at most {options.length} tokens, "
            f"median of {options.turns} turns",
            highlight=False,
        )
        for kind in kinds:
            _compare(options, kind, device, console)
    except FederaError as error:
        print(f"benchmarks.training: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
