"""The base model of a run, as a device has it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from edge.training.run_order import RunOrder
from federa.errors import BadInput

if TYPE_CHECKING:
    from federa.config import Experiment
    from federa.models.pretrained import PretrainedModel
    from federa.tasks.base import Task


def load_base_model(order: RunOrder, config: Experiment, task: Task, folder: Path | None) -> PretrainedModel:
    """The coordinator's base model, from `folder` where that holds its files, or from where this machine has it.
    Raises BadInput where that is another model, and ModelNotFound."""
    from federa.models.pretrained import load_local_model, load_pretrained

    if folder is not None:
        base = load_pretrained(str(folder), task)
        mend = (
            f"the files of it that the coordinator serves ({folder}) are read otherwise here: install the same versions"
        )
    else:
        load = load_local_model if order.model else load_pretrained
        base = load(config.model, task)
        mend = "install the same checkpoint on both"
    if base.digest != order.base_digest:
        raise BadInput(
            f"model: {config.model} here is another base model than the coordinator's "
            f"(digest {base.digest[:12]}, not {order.base_digest[:12]}); {mend}"
        )
    return base
