"""One description of an experiment: the schema of the YAML file, of the command line and of the wire.

An `Experiment` names one or several methods; `Experiment.runs()` splits it into runs of one method each. All of it is
frozen, and unknown keys and bad values are refused with the name of the field. What a task, a method or an aggregator
adds of its own comes from the registries: a task's `data`, and a section for each method or aggregator that has one.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

import yaml
from pydantic import (
    Field,
    SerializeAsAny,
    ValidationError,
    ValidationInfo,
    ValidatorFunctionWrapHandler,
    create_model,
    field_validator,
    model_validator,
)
from typing_extensions import Self

from federa.aggregation import AGGREGATORS, aggregator_class
from federa.config.sections import Federation, Training
from federa.data.readers import data_name
from federa.data.section import DEVICES, EMBEDDED, DataSection
from federa.errors import BadInput
from federa.methods import METHODS, method_class
from federa.section import Section
from federa.tasks import DEFAULT_TASK, TASKS, task_class
from federa.tasks.metric import Metric

if TYPE_CHECKING:
    from federa.aggregation.base import Aggregator
    from federa.methods.base import Method
    from federa.tasks.base import Task

Wire = Literal["fp32", "bf16", "fp16", "int8"]


def _known(name: str, registry: dict[str, str], find: Callable[[str], object]) -> str:
    if name not in registry:
        raise ValueError(f"must be one of {', '.join(registry)}, not {name!r}")
    find(name)  # BadInput, where its entry is wrong, is said as it is
    return name


class Target(Section):
    """The run ends when the validation part reaches it."""

    metric: str = ""
    """One of the task's. Without it the task's first."""
    value: float = 0.0
    """What it is to reach. Without it the metric's own."""


class MethodChoice(Section):
    """A method, with its own learning rate."""

    name: str
    """One of the methods below, each once."""
    learning_rate: Annotated[float, Field(gt=0)] | None = None
    """The optimizer's learning rate; without one the method's own."""

    @field_validator("name")
    @classmethod
    def _known(cls, name: str) -> str:
        return _known(name, METHODS, method_class)

    def rate(self, task: str) -> float:
        """The learning rate in force for a task."""
        return self.learning_rate or method_class(self.name).default_learning_rate(task)


class ExperimentFields(Section):
    """Everything that decides a result."""

    name: str = "bbc-news"
    """A name for people. It decides nothing. Without one it is the data's: a file's name without its ending, the last
    part of a hub data set's, `devices`."""
    model: str = EMBEDDED
    """`embedded`, `mpnet-base` (`make base-model` fetches it), a Hugging Face model folder, or a hub name."""
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    """The seed of shards, the draw of clients, starting values and dropout."""
    bandwidth_mbps: Annotated[float, Field(gt=0)] | None = None
    """Mbit/s to which every device's transfers are paced. Without it they are not."""
    wire: Wire = "fp32"
    """The dtype in which states are sent. Below fp32, differences are sent instead of values, rounded stochastically
    from the seed."""
    evaluation: Literal["coordinator", "devices"] = "coordinator"
    """`coordinator`: it scores a set of its own. `devices`: every client splits its own records, its device counts on
    what it holds out, and the counters are summed."""
    task: str = DEFAULT_TASK
    """What is learned; see the tables of `target` and `data`."""
    methods: Annotated[tuple[MethodChoice, ...], Field(min_length=1)] = (MethodChoice(name="federa"),)
    """Each makes a run, one after the other."""
    aggregator: str = "fedavg"
    """How the coordinator combines a round's updates."""
    # The defaults of these two are the task's: see their validators.
    target: Target = Field(default_factory=dict, validate_default=True)
    data: SerializeAsAny[DataSection] = Field(default_factory=dict, validate_default=True)
    federation: Federation = Field(default=Federation(), validate_default=True)
    training: Training = Training()

    @field_validator("task")
    @classmethod
    def _known_task(cls, name: str) -> str:
        return _known(name, TASKS, task_class)

    @field_validator("aggregator")
    @classmethod
    def _known_aggregator(cls, name: str) -> str:
        return _known(name, AGGREGATORS, aggregator_class)

    @field_validator("methods")
    @classmethod
    def _distinct_methods(cls, methods: tuple[MethodChoice, ...]) -> tuple[MethodChoice, ...]:
        names = [choice.name for choice in methods]
        if len(set(names)) != len(names):
            raise ValueError("must name each method once")
        return methods

    @field_validator("target", mode="wrap")
    @classmethod
    def _target_of_the_task(cls, value: Any, check: ValidatorFunctionWrapHandler, info: ValidationInfo) -> Target:
        target: Target = check(value)
        if "task" not in info.data:
            return target  # the task is refused: that is said first
        return _resolved_target(target, task_class(info.data["task"]).metrics)

    @field_validator("data", mode="wrap")
    @classmethod
    def _data_of_the_task(cls, value: Any, check: ValidatorFunctionWrapHandler, info: ValidationInfo) -> DataSection:
        # A refusal from in here keeps its field's name: pydantic puts `data.` before it.
        section = task_class(info.data["task"]).Data if "task" in info.data else DataSection
        return section.model_validate(value)

    @field_validator("federation", mode="wrap")
    @classmethod
    def _each_device_is_a_client_of_its_own_data(
        cls, value: Any, check: ValidatorFunctionWrapHandler, info: ValidationInfo
    ) -> Federation:
        data = info.data.get("data")  # not there where it is refused
        if data is not None and data.source == DEVICES:
            given = value.model_dump(exclude_unset=True) if isinstance(value, Federation) else value
            if isinstance(given, Mapping) and "clients" not in given:
                value = {**given, "clients": given.get("devices", Federation().devices)}
        found: Federation = check(value)
        return found

    @model_validator(mode="after")
    def _named_after_its_data(self) -> Self:
        if "name" not in self.model_fields_set:
            object.__setattr__(self, "name", data_name(self.data.source))  # frozen for everybody else
        return self

    @model_validator(mode="after")
    def _devices_with_data_of_their_own(self) -> Self:
        if self.data.source != DEVICES:
            return self
        given = self.data.given_parts
        if self.evaluation != "devices" and len(given) < 2:
            raise ValueError(
                "evaluation must be devices where data.source is devices: the coordinator has no documents to score, "
                "without both of data.validation_file and data.test_file"
            )
        if self.evaluation == "devices" and given:
            raise ValueError(
                f"data.{next(iter(given))}_file must not be given where data.source is devices and they evaluate: each "
                "holds a part of its own out; with evaluation: coordinator both files are the coordinator's"
            )
        devices, clients = self.federation.devices, self.federation.clients
        if clients != devices:
            raise ValueError(
                f"federation.clients must be federation.devices ({devices}), not {clients}, where data.source is "
                "devices: each of them is one client"
            )
        return self

    def runs(self) -> Iterator[Self]:
        """The same experiment, a method at a time."""
        for choice in self.methods:
            yield self.model_copy(update={"methods": (choice,)})

    def resolved(self, found: Mapping[str, Any]) -> Self:
        """The same experiment with what reading its data found in the `data` section's fields."""
        return self.model_copy(update={"data": self.data.model_copy(update=dict(found))})

    @property
    def method(self) -> MethodChoice:
        """The method of a run: the only one."""
        (choice,) = self.methods
        return choice

    @property
    def learning_rate(self) -> float:
        """The learning rate of a run."""
        return self.method.rate(self.task)

    @property
    def metric(self) -> Metric:
        """The metric that the target is of."""
        return next(metric for metric in task_class(self.task).metrics if metric.name == self.target.metric)

    def make_task(self) -> Task:
        """The task, with the data section of this experiment."""
        return task_class(self.task)(self.data)

    def make_method(self) -> Method:
        """The method of a run, with its section of this experiment."""
        found = method_class(self.method.name)
        return found(self._section(found))

    def make_aggregator(self) -> Aggregator:
        """The aggregator, with its section of this experiment."""
        found = aggregator_class(self.aggregator)
        return found(self._section(found))

    def _section(self, owner: type[Method] | type[Aggregator]) -> Section:
        if owner.section is None:
            return owner.Config()
        section: Section = getattr(self, owner.section)
        return section

    def to_yaml(self) -> str:
        """The description as YAML, every value stated, learning rates filled in."""
        tree = self.model_dump(mode="json")
        for entry, choice in zip(tree["methods"], self.methods, strict=True):
            entry["learning_rate"] = choice.rate(self.task)
        return yaml.safe_dump(tree, sort_keys=False, allow_unicode=True)


def _sections() -> dict[str, Any]:
    """The section of every method and aggregator that has one, by its key, as create_model takes fields."""
    owners: list[type[Method] | type[Aggregator]] = []
    for find, names in ((method_class, METHODS), (aggregator_class, AGGREGATORS)):
        for name in names:
            # Whoever names a wrong entry hears of it; for all others the programs start.
            with contextlib.suppress(BadInput):
                owners.append(find(name))
    found: dict[str, type[Section]] = {}
    for owner in owners:
        if owner.section is None:
            continue
        taken = owner.section in ExperimentFields.model_fields
        if taken or found.setdefault(owner.section, owner.Config) is not owner.Config:
            raise TypeError(f"{owner.__name__}: the section {owner.section!r} of the experiment is somebody else's")
    return {name: (section, section()) for name, section in found.items()}


if TYPE_CHECKING:

    class Experiment(ExperimentFields):
        """The whole description. Its sections of methods and aggregators are known at run time alone."""

        def __getattr__(self, name: str) -> Any: ...

else:
    Experiment = create_model("Experiment", __base__=ExperimentFields, __module__=__name__, **_sections())
    Experiment.__doc__ = ExperimentFields.__doc__


def _resolved_target(target: Target, metrics: Sequence[Metric]) -> Target:
    """The target with what the task says where the experiment says nothing."""
    by_name = {metric.name: metric for metric in metrics}
    name = target.metric if "metric" in target.model_fields_set else metrics[0].name
    if name not in by_name:
        raise _refused("metric", "literal_error", name, {"expected": " or ".join(map(repr, by_name))})
    metric = by_name[name]
    value = target.value if "value" in target.model_fields_set else metric.target
    if metric.above is not None and value <= metric.above:
        raise _refused("value", "greater_than", value, {"gt": metric.above})
    if metric.at_most is not None and value > metric.at_most:
        raise _refused("value", "less_than_equal", value, {"le": metric.at_most})
    return Target(metric=name, value=value)


def _refused(field: str, kind: str, value: Any, context: dict[str, Any]) -> ValidationError:
    return ValidationError.from_exception_data(
        "Target", [{"type": kind, "loc": (field,), "input": value, "ctx": context}]
    )
