"""One description of an experiment: the schema of the YAML file, of the command line and of the wire.

An `Experiment` names one or several methods; `Experiment.runs()` splits it into runs of one method each. All of it is
frozen, and unknown keys and bad values are refused with the name of the field.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from federa.errors import BadInput
from federa.methods import METHODS, method_class

EMBEDDED = "embedded"
DEVICES = "devices"
Precision = Literal["auto", "fp32", "bf16", "fp16"]
Wire = Literal["fp32", "bf16", "fp16", "int8"]
Fraction = Annotated[float, Field(gt=0, lt=1)]
Count = Annotated[int, Field(ge=1, le=1_000_000)]


class Section(BaseModel):
    """A frozen part of the description that knows its fields and refuses others."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _no_truth_values(cls, value: object) -> object:
        # There is no such field, and pydantic would read `true` as the number 1.
        if isinstance(value, bool):
            raise ValueError(f"must not be a truth value ({str(value).lower()})")
        return value


class Partition(Section):
    """How the training part is dealt out to the clients. `alpha` is the Dirichlet concentration: smaller is more
    skewed. `iid` has no use for it."""

    kind: Literal["dirichlet", "iid", "quantity"] = "dirichlet"
    alpha: Annotated[float, Field(gt=0)] = 0.5


class Data(Section):
    """Labelled texts: `embedded`, a file (.jsonl, .json, .csv, .tsv), the name of a hub data set, or `devices`: then
    every device brings a file of its own, which it shows to nobody.

    `labels` fixes the classes and their order; without it they are the sorted labels found, which nobody could find
    over the devices. `validation` and `test` are fractions of the documents, split off per label and always alike,
    whatever the run's seed.
    """

    source: str = EMBEDDED
    text_column: str = "text"
    label_column: str = "label"
    labels: tuple[str, ...] | None = None
    validation: Fraction = 0.15
    test: Fraction = 0.15
    max_length: Annotated[int, Field(ge=4)] = 64
    partition: Partition = Partition()

    @field_validator("labels")
    @classmethod
    def _distinct(cls, labels: tuple[str, ...] | None) -> tuple[str, ...] | None:
        if labels is not None and (len(labels) < 2 or len(set(labels)) != len(labels)):
            raise ValueError("must be at least two different labels")
        return labels

    @model_validator(mode="after")
    def _leaves_training_data(self) -> Data:
        if self.validation + self.test >= 1:
            raise ValueError("validation and test together must be below 1")
        return self

    @model_validator(mode="after")
    def _names_what_nobody_can_look_up(self) -> Data:
        if self.source == DEVICES and self.labels is None:
            raise ValueError("labels must name the classes in their order where source is devices, such as [ham, spam]")
        return self


class Federation(Section):
    """Who takes part: `devices` workers host `clients` owners of data, `clients_per_round` of which train a round.

    The first round begins when `min_devices` (all of them where none is given) are ready. A round draws `over_select`
    clients more than it needs and closes as soon as `clients_per_round` updates are there. At its deadline it closes
    with no fewer than `quorum` (all where none is given); below that it is tried again with other clients, `attempts`
    times in all, and then the run pauses. `deadline_s` counts from the round's announcement; `auto` is twice what the
    slowest of the drawn devices is expected to take by its measured speed; without one a round waits for everybody.

    An update whose distance from the broadcast is more than `norm_limit` times the median of earlier rounds' is
    refused; `null` lets every finite one pass.
    """

    devices: Count = 2
    clients: Count = 10
    clients_per_round: Count = 5
    rounds: Count = 50
    min_devices: Count | None = None
    over_select: Annotated[int, Field(ge=0, le=1_000_000)] = 0
    quorum: Count | None = None
    deadline_s: Literal["auto"] | Annotated[float, Field(gt=0)] | None = None
    attempts: Count = 3
    norm_limit: Annotated[float, Field(gt=1)] | None = 10.0

    @field_validator("deadline_s", mode="before")
    @classmethod
    def _seconds_or_auto(cls, value: object) -> object:
        # pydantic would explain the first branch of the union alone.
        if value is None or value == "auto" or (isinstance(value, int | float) and 0 < value < float("inf")):
            return value
        raise ValueError("must be a number of seconds above 0, auto or null")

    @model_validator(mode="after")
    def _everybody_has_work(self) -> Federation:
        if self.clients < self.devices:
            raise ValueError(f"clients must be at least the number of devices ({self.devices}), not {self.clients}")
        if self.clients_per_round > self.clients:
            raise ValueError(f"clients_per_round must be at most clients ({self.clients})")
        if self.clients_per_round + self.over_select > self.clients:
            raise ValueError(f"over_select must be at most {self.clients - self.clients_per_round}, the clients left")
        if self.quorum is not None and self.quorum > self.clients_per_round:
            raise ValueError(f"quorum must be at most clients_per_round ({self.clients_per_round})")
        if self.min_devices is not None and self.min_devices > self.devices:
            raise ValueError(f"min_devices must be at most devices ({self.devices})")
        return self

    @property
    def devices_to_start(self) -> int:
        """`min_devices` in force."""
        return self.min_devices or self.devices

    @property
    def updates_to_close(self) -> int:
        """`quorum` in force."""
        return self.quorum or self.clients_per_round


class Adapter(Section):
    """LoRA's shape. `targets` are the ends of module names; `auto` takes query and value of the architecture."""

    r: Count = 8
    alpha: Annotated[float, Field(gt=0)] = 8.0
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    targets: Literal["auto"] | tuple[str, ...] = "auto"

    @field_validator("targets")
    @classmethod
    def _some(cls, targets: str | tuple[str, ...]) -> str | tuple[str, ...]:
        if not targets:
            raise ValueError("must name at least one module, or be auto")
        return targets

    @property
    def scale(self) -> float:
        """s = alpha / r, the factor on B A (LoRA, arXiv 2106.09685)."""
        return self.alpha / self.r


class Training(Section):
    """A client's local training. `micro_batch_size` accumulates gradients up to `batch_size` examples a step."""

    epochs: Count = 1
    batch_size: Count = 16
    micro_batch_size: Count | None = None
    precision: Precision = "auto"
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    max_grad_norm: Annotated[float, Field(gt=0)] | None = 1.0


class Target(Section):
    """The run ends when the validation part reaches `value`."""

    metric: Literal["accuracy"] = "accuracy"
    value: Annotated[float, Field(gt=0, le=1)] = 0.9


class MethodChoice(Section):
    """A method by name, with its own learning rate (the method's default where none is given)."""

    name: str
    learning_rate: Annotated[float, Field(gt=0)] | None = None

    @field_validator("name")
    @classmethod
    def _known(cls, name: str) -> str:
        if name not in METHODS:
            raise ValueError(f"must be one of {', '.join(METHODS)}, not {name!r}")
        return name

    @property
    def rate(self) -> float:
        """The learning rate in force."""
        return self.learning_rate or method_class(self.name).learning_rate


class Experiment(Section):
    """Everything that decides a result. `bandwidth_mbps` paces every device's transfers, in Mbit/s. `wire` is the dtype
    in which states travel: below fp32 differences do, rounded stochastically (federa.codec).

    With `evaluation: coordinator` the validation and the test part are the coordinator's; with `devices` every client
    splits its own documents, and what its device counts on them is summed."""

    name: str = "bbc-news"
    model: str = EMBEDDED
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    bandwidth_mbps: Annotated[float, Field(gt=0)] | None = None
    wire: Wire = "fp32"
    evaluation: Literal["coordinator", "devices"] = "coordinator"
    methods: Annotated[tuple[MethodChoice, ...], Field(min_length=1)] = (MethodChoice(name="federa"),)
    target: Target = Target()
    data: Data = Data()
    federation: Federation = Federation()
    adapter: Adapter = Adapter()
    training: Training = Training()

    @field_validator("methods")
    @classmethod
    def _distinct_methods(cls, methods: tuple[MethodChoice, ...]) -> tuple[MethodChoice, ...]:
        names = [choice.name for choice in methods]
        if len(set(names)) != len(names):
            raise ValueError("must name each method once")
        return methods

    @model_validator(mode="after")
    def _devices_with_data_of_their_own(self) -> Experiment:
        if self.data.source != DEVICES:
            return self
        if self.evaluation != "devices":
            raise ValueError(
                "evaluation must be devices where data.source is devices: the coordinator has no documents to score"
            )
        devices, clients = self.federation.devices, self.federation.clients
        if clients != devices:
            raise ValueError(
                f"federation.clients must be federation.devices ({devices}), not {clients}, where data.source is "
                "devices: each of them is one client"
            )
        return self

    def runs(self) -> Iterator[Experiment]:
        """The same experiment, a method at a time."""
        for choice in self.methods:
            yield self.model_copy(update={"methods": (choice,)})

    @property
    def method(self) -> MethodChoice:
        """The method of a run: the only one."""
        (choice,) = self.methods
        return choice

    def to_yaml(self) -> str:
        """The description as YAML, every value stated, learning rates filled in."""
        tree = self.model_dump(mode="json")
        for entry, choice in zip(tree["methods"], self.methods, strict=True):
            entry["learning_rate"] = choice.rate
        return yaml.safe_dump(tree, sort_keys=False, allow_unicode=True)


def parse_experiment(tree: object) -> Experiment:
    """Check a tree of plain values. Raises BadInput with one line that names the field and what it may be."""
    if not isinstance(tree, Mapping):
        raise BadInput("an experiment must be a mapping of fields, such as 'seed: 0'")
    try:
        return Experiment.model_validate(tree)
    except ValidationError as error:
        raise BadInput(_explain(error)) from None


def parse_json(text: str) -> Experiment:
    """The same from JSON, as it travels on the wire. Raises BadInput."""
    try:
        return Experiment.model_validate_json(text)
    except ValidationError as error:
        raise BadInput(_explain(error)) from None


def read_tree(path: Path) -> dict[str, Any]:
    """The plain values of a YAML file. Raises BadInput where it cannot be read or holds no mapping."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"cannot read the experiment {path}: {getattr(error, 'strerror', None) or error}") from None
    tree = parse_yaml(text, str(path))
    if not isinstance(tree, dict):
        raise BadInput(f"{path} must hold a mapping of fields, such as 'seed: 0'")
    return tree


def parse_yaml(text: str, origin: str) -> object:
    """A YAML document as plain values. Raises BadInput with one line that names the origin."""
    try:
        return yaml.safe_load(text)
    except Exception as error:
        # Not YAMLError alone: a date of month 99 is a ValueError, `!!bool x` a KeyError, deep nesting a RecursionError.
        raise BadInput(f"{origin} is not YAML: {' '.join(str(error).split())}") from None


def _explain(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_context=False)[0]
    # A union's branches stand in the location by type name ('tuple[str, ...]'): they are no field of the user's.
    parts = [str(part) for part in first["loc"] if not str(part).startswith(("tuple[", "literal["))]
    field = " ".join(".".join(parts).split()) or "experiment"
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] == "extra_forbidden":
        message = "is not a known field"
        return " ".join(f"{field} {message}".split())
    given = first.get("input")
    # Python refuses to print whole numbers of more than 4,300 digits.
    printable = isinstance(given, str | float) or (isinstance(given, int) and given.bit_length() < 1000)
    shown = f" (got {given!r})" if printable and repr(given) not in message else ""
    return " ".join(f"{field}: {message[0].lower()}{message[1:]}{shown}".split())
