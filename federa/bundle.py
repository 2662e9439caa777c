"""The bundle: a run's final/ describes itself. Whoever has the folder, and the base model, can evaluate the result,
take it out as a plain Hugging Face model, and go on from it.

final/state.safetensors   what was trained
final/start.safetensors   what it was trained from, for a method that needs it (FeDeRA: A0 and B0, which make W_res)
final/bundle.json         the description: method, task, configuration with what was found for it, base model and its
                          digest, round, metric, and the digests of the files beside it
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from federa.aggregation import AGGREGATORS
from federa.config import Experiment, parse_experiment
from federa.durable import replacement, sync, write_file
from federa.errors import BadInput, one_line
from federa.methods import METHODS
from federa.models.files import file_sha256
from federa.tasks import TASKS
from federa.versions import versions

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedTokenizerBase

    from federa.models.tuned import TunedModel
    from federa.tasks.base import Task

SCHEMA = 1
FINAL = "final"
DESCRIPTION = "bundle.json"
STATE = "state.safetensors"
START = "start.safetensors"


@dataclass(frozen=True, kw_only=True, slots=True)
class BundleFacts:
    """What the coordinator says of a run's result. `experiment` is the resolved one, of one method. `value` is the
    metric on the validation part, `test` on the test part: None where it was not measured."""

    experiment: Experiment
    base_digest: str
    round: int
    value: float | None = None
    test: float | None = None
    composition: Mapping[str, Any] | None = None
    """What was read (federa.tasks.composition): records by part and class."""
    metrics: Mapping[str, float | None] | None = None
    """All metrics of the task on the validation part, by name."""
    test_metrics: Mapping[str, float | None] | None = None
    """The same on the test part."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Bundle:
    """A result as it lies in a folder. Make one with `load_bundle`."""

    folder: Path
    facts: BundleFacts

    @property
    def experiment(self) -> Experiment:
        """The configuration that the result came from, with all that reading its data found."""
        return self.facts.experiment

    @property
    def task(self) -> Task:
        return self.experiment.make_task()

    def tuned_model(self, base_model: str | None = None) -> TunedModel:
        """The model with the method's layers in it and the final state loaded, in fp32: to train on, or to take a PEFT
        adapter out. `base_model` says where the base model is, if not where the experiment says. Raises BadInput where
        that is another model."""
        return self._load(base_model)[0]

    def model(self, base_model: str | None = None) -> tuple[nn.Module, PreTrainedTokenizerBase]:
        """The plain Hugging Face model, with the result merged into its weights, in evaluation mode, and its
        tokenizer. Raises BadInput as `tuned_model` does."""
        tuned, tokenizer = self._load(base_model)
        return tuned.merge(), tokenizer

    def evaluate(self, file: Path | str, base_model: str | None = None) -> dict[str, float]:
        """The task's metrics on all records of a file, by name, and how many examples those are. Raises BadInput."""
        from federa.data.readers import open_file

        task = self.task
        dataset = task.read(open_file(Path(file)))
        model, tokenizer = self.model(base_model)
        examples = task.encode(dataset.records, tokenizer, self.experiment.data.max_length)
        counters = task.evaluate(model, examples)
        values = {metric.name: metric.value(counters) for metric in task.metrics}
        return {name: value for name, value in values.items() if value is not None} | {"examples": counters["examples"]}

    def start(self) -> dict[str, Any] | None:
        """The tensors that the run began with; None where the method has no use for them."""
        from federa.tensors.state import unpack

        path = self.folder / START
        return unpack(path.read_bytes()) if self.experiment.make_method().needs_start else None

    def _load(self, base_model: str | None) -> tuple[TunedModel, PreTrainedTokenizerBase]:
        from federa.models.pretrained import load_pretrained
        from federa.models.tuned import TunedModel
        from federa.tensors.state import unpack

        experiment = self.experiment
        base = load_pretrained(base_model or experiment.model, self.task, experiment.seed)
        if base.digest != self.facts.base_digest:
            raise BadInput(
                f"model: {base_model or experiment.model} is another base model than the one that this result was "
                f"trained on (digest {base.digest[:12]}, not {self.facts.base_digest[:12]})"
            )
        tuned = TunedModel(base, experiment.make_method())
        start = self.start()
        if start is not None:
            tuned.load_state(start)
        tuned.install()
        tuned.load_state(unpack((self.folder / STATE).read_bytes()))
        return tuned, base.tokenizer


def write_bundle(folder: Path, *, state: Path, start: Path, facts: BundleFacts) -> None:
    """Make `folder` the bundle of this state, durably. A description is only ever beside the files that it describes:
    it goes before they change and comes when they have, so that a kill leaves a whole bundle or none."""
    description = folder / DESCRIPTION
    sources = {STATE: state}
    if facts.experiment.make_method().needs_start:
        sources[START] = start
    digests = {name: file_sha256(source).hex() for name, source in sources.items()}
    if _described(description) != digests or not all((folder / name).is_file() for name in sources):
        if description.exists():
            description.unlink()
            sync(folder)
        for name, source in sources.items():
            with replacement(folder / name) as fresh:
                shutil.copyfile(source, fresh)
    tree = {
        "schema": SCHEMA,
        "federa": versions()["federa"],
        "method": facts.experiment.method.name,
        "task": facts.experiment.task,
        "base_model": {"name": facts.experiment.model, "digest": facts.base_digest},
        "round": facts.round,
        "metric": facts.experiment.target.metric,
        "value": facts.value,
        "test": facts.test,
        "metrics": facts.metrics,
        "test_metrics": facts.test_metrics,
        "data": facts.composition,
        "config": facts.experiment.model_dump(mode="json"),
        "files": digests,
    }
    write_file(description, json.dumps(tree, indent=1, allow_nan=False).encode() + b"\n")


def _described(description: Path) -> object:
    """The files and digests in a description; None where there is none that can be read."""
    try:
        return json.loads(description.read_text(encoding="utf-8"))["files"]
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return None


def load_bundle(path: Path | str) -> Bundle:
    """The result in a folder: a run's, or the final/ in it. Raises BadInput where there is none, or it is damaged."""
    folder = Path(path)
    if not (folder / DESCRIPTION).is_file():
        folder /= FINAL
    description = folder / DESCRIPTION
    try:
        tree = json.loads(description.read_text(encoding="utf-8"))
        if tree["schema"] != SCHEMA:
            raise BadInput(
                f"{description} has schema {tree['schema']!r}, this federa reads {SCHEMA}: read it with the federa "
                f"that wrote it ({tree.get('federa')})"
            )
        facts = BundleFacts(
            experiment=_experiment(tree["config"], description),
            base_digest=str(tree["base_model"]["digest"]),
            round=int(tree["round"]),
            value=_number(tree["value"]),
            test=_number(tree["test"]),
            composition=tree.get("data"),
            metrics=tree.get("metrics"),
            test_metrics=tree.get("test_metrics"),
        )
        files: Mapping[str, str] = tree["files"]
        needed = {STATE, START} if facts.experiment.make_method().needs_start else {STATE}
        if files.keys() != needed:
            raise ValueError(f"its files must be {', '.join(sorted(needed))}")
        for name, digest in files.items():
            if file_sha256(folder / name).hex() != digest:
                raise BadInput(
                    f"{folder / name} is not the file that {DESCRIPTION} describes: it was changed or damaged"
                )
    except FileNotFoundError as error:
        missing = error.filename or description
        raise BadInput(f"{path} holds no result of a run: there is no {missing}") from None
    except (OSError, ValueError, ArithmeticError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise BadInput(f"{description} is no bundle that this federa reads: {one_line(error)}") from None
    return Bundle(folder=folder, facts=facts)


def _experiment(config: Mapping[str, Any], description: Path) -> Experiment:
    """The experiment of a bundle, without what has no part in using its model: an aggregator, and sections of methods
    and aggregators, that are not installed here."""
    named = (
        ("task", "TASKS", TASKS, [config["task"]]),
        ("method", "METHODS", METHODS, [choice["name"] for choice in config["methods"]]),
    )
    for what, table, registry, names in named:
        for name in names:
            if name not in registry:
                raise BadInput(
                    f"{description}: its {what} is {name!r}, which this federa does not have: install its file, and "
                    f"its line in {table}"
                )
    known = {
        key: value for key, value in config.items() if key in Experiment.model_fields or not isinstance(value, dict)
    }
    if known.get("aggregator") not in AGGREGATORS:
        known.pop("aggregator", None)
    try:
        return parse_experiment(known)
    except BadInput as error:
        raise BadInput(f"{description}: {error}") from None


def _number(value: Any) -> float | None:
    return None if value is None else float(value)
