"""The table of trained parameters, and the paper's about 1 %."""

from __future__ import annotations

import pytest

from benchmarks.parameters import CONFIGS, HEADS, count, main
from federa.errors import BadInput
from federa.methods.adapter import AdapterSection
from federa.methods.lora import LoRASection
from federa.section import Section

SECTIONS: dict[str, Section] = {"lora": LoRASection(r=32, alpha=32), "adapter": AdapterSection()}
LAYERS, WIDE = 12, 768


@pytest.mark.parametrize(
    ("method", "trained"),
    [
        # Query and value: A is 32 x 768 and B is 768 x 32.
        ("federa", LAYERS * 2 * 2 * 32 * WIDE),
        ("adapter", LAYERS * 2 * (2 * 32 * WIDE + 32 + WIDE)),
        # Of four projections, the feed-forward and two normalisations in a layer, and one of the embeddings.
        ("bitfit", LAYERS * (4 * WIDE + 4 * WIDE + WIDE + 2 * WIDE) + WIDE),
    ],
)
def test_roberta_base_is_counted_by_hand(method: str, trained: int) -> None:
    counted = count("RoBERTa-base", method, "20 Newsgroups", SECTIONS)
    assert counted.trained == trained
    assert counted.encoder == 124_055_040
    assert counted.head == WIDE * WIDE + WIDE + WIDE * 20 + 20
    assert method == "bitfit" or 0.9 < 100 * counted.trained / counted.encoder < 1


def test_the_command_prints_every_method_of_every_model(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for config in CONFIGS.values():
        monkeypatch.setitem(config, "num_hidden_layers", 1)
    assert main(["--rank", "4"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 + 5 * len(CONFIGS) and all(line.count("|") == 5 + len(HEADS) for line in lines)
    assert "| lora | 12,288 |" in lines[5]
    assert main(["--rank", "0"]) == 2


def test_a_rank_above_the_matrices_is_refused() -> None:
    with pytest.raises(BadInput, match=r"^lora\.r must be at most 768"):
        count("RoBERTa-base", "lora", "SQuAD", {"lora": LoRASection(r=769)})
