"""A PEFT adapter of the untouched base model: what was learned, for whoever has PEFT and no federa."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from federa.methods.base import LowRankChange

WEIGHTS = "adapter_model.safetensors"


@dataclass(frozen=True, kw_only=True, slots=True)
class PeftAdapter:
    """`change` goes beside weights, as LoRA; `whole` has the parameters that were trained whole (the head, and what the
    checkpoint lacked), by name. `tokens` has what the task's own tokens stand for, by the name of the table: their
    numbers, and a row for each. The base model's table must have these rows before the adapter is put on it:
    `resize_token_embeddings`."""

    change: LowRankChange
    whole: Mapping[str, Tensor]
    tokens: Mapping[str, tuple[range, Tensor]] = field(default_factory=dict)

    def config(self, base_model: str = "") -> Any:
        """PEFT's LoraConfig."""
        from peft import LoraConfig

        return LoraConfig(
            base_model_name_or_path=base_model,
            r=self.change.rank,
            lora_alpha=self.change.alpha,  # type: ignore[arg-type]  # PEFT says int and computes with any number
            # Whole paths: PEFT takes a name for the end of one.
            target_modules=sorted(self.change.factors),
            modules_to_save=sorted({name.rpartition(".")[0] for name in self.whole}),
            trainable_token_indices={name: list(numbers) for name, (numbers, _) in self.tokens.items()} or None,
            bias="none",
            inference_mode=True,
        )

    def tensors(self) -> dict[str, Tensor]:
        """The adapter's tensors, as PEFT names them in its file."""
        found = {f"base_model.model.{name}": value for name, value in self.whole.items()}
        for name, (a, b) in self.change.factors.items():
            found[f"base_model.model.{name}.lora_A.weight"] = a
            found[f"base_model.model.{name}.lora_B.weight"] = b
        for name, (_, rows) in self.tokens.items():
            found[f"base_model.model.{name}.token_adapter.trainable_tokens_delta"] = rows
        return {name: value.contiguous() for name, value in found.items()}

    def save(self, folder: Path, base_model: str = "") -> None:
        """Write adapter_config.json and adapter_model.safetensors, as PeftModel.from_pretrained reads them. Raises
        OSError."""
        from safetensors.torch import save_file

        folder.mkdir(parents=True, exist_ok=True)
        self.config(base_model).save_pretrained(str(folder))
        save_file(self.tensors(), folder / WEIGHTS, metadata={"format": "pt"})
