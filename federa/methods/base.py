"""What a federated fine-tuning method is: which tensors are trained and communicated, how they start, what becomes of
them in the end."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from federa.section import Section

if TYPE_CHECKING:
    from torch import Tensor, nn

    from federa.tensors.state import Tensors


@dataclass(frozen=True, kw_only=True, slots=True)
class LowRankChange:
    """What a method adds to weights of the untouched base model: alpha / rank times B A for each module. `factors` has
    A (rank x in) and B (out x rank) by the module's name in the base model."""

    rank: int
    alpha: float
    factors: Mapping[str, tuple[Tensor, Tensor]]


class Method:
    """The whole difference between FT, BitFit, adapters, LoRA and FeDeRA.

    The coordinator calls `build`, `init`, `install`; a worker calls `build`, takes the start tensors that were sent,
    and calls `install`. All three change the model in place. Where a run's result is wanted as a plain model, `merge`
    comes last.
    """

    section: ClassVar[str | None] = None
    """The key of its section in the experiment, such as `lora`; None where it has nothing to configure. Methods may
    share one, if they share `Config`."""
    Config: ClassVar[type[Section]] = Section
    """What its section holds. Every field has a default."""
    learning_rate: ClassVar[float]
    """Used where the experiment gives none. Tuned on the embedded task, benchmarks/results says how."""
    learning_rates: ClassVar[Mapping[str, float]] = {}
    """The same for tasks, by name, for which another one was found."""
    needs_start: ClassVar[bool] = False
    """Whether `install` makes something of the start tensors: then they are kept beside the result."""
    mergeable: ClassVar[bool] = True
    """Whether `merge` leaves a plain model, which can be saved and loaded as such."""

    config: Any
    """An instance of `Config`."""

    def __init__(self, config: Section) -> None:
        self.config = config

    @classmethod
    def default_learning_rate(cls, task: str) -> float:
        """The learning rate for a task by name, where the experiment gives none."""
        return cls.learning_rates.get(task, cls.learning_rate)

    def build(self, model: nn.Module) -> None:
        """Put the method's layers into the model, without deciding their values."""

    def communicated(self, name: str) -> bool:
        """Whether the parameter of that name (after `build`) is trained and communicated. The head and what the
        checkpoint lacked are for every method, and are not asked about."""
        raise NotImplementedError

    def init(self, model: nn.Module, seed: int) -> None:
        """Give the method's tensors their first values, in fp32: on the coordinator, once a run."""

    def install(self, model: nn.Module) -> None:
        """On every side, once a run, after the start tensors are in place and before any cast."""

    def fitted_to_start(self, model: nn.Module) -> Iterable[nn.Parameter]:
        """The frozen weights that `install` changes, after `build`: a worker keeps them in fp32 until then, all others
        may be in the compute dtype before. All that are frozen, where a method with an `install` does not say."""
        if type(self).install is Method.install:
            return []
        return [parameter for parameter in model.parameters() if not parameter.requires_grad]

    def keeps_fp32(self, module: nn.Module) -> bool:
        """Whether a module's frozen parameters stay fp32 too, as those that are trained do; the rest goes to the
        compute dtype. By module: one kernel takes all of a module's parameters, and some (such as layer_norm on a CPU)
        take no weight in bf16 beside a bias in fp32, under autocast either."""
        return any(parameter.requires_grad for parameter in module.parameters(recurse=False))

    def merge(self, model: nn.Module) -> None:
        """Take the method's layers out again and leave their effect in the model's own weights, in fp32. Where that
        cannot be done (`mergeable` is False) they stay in the model."""

    def low_rank_change(self, model: nn.Module, start: Tensors) -> LowRankChange | None:
        """What was learned, as a LoRA adapter of the untouched base model, from the trained model (before `merge`) and
        the run's start. None where it is no such thing."""
        return None
