"""The cheap dropout against torch's own: rate, scale, gradients, and attention."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from edge.training.dropout import CheapDropout, attention, dropout, scaled_mask

DTYPES = (torch.float32, torch.bfloat16, torch.float16)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_rate_and_scale_are_torch_s(dtype: torch.dtype, p: float) -> None:
    torch.manual_seed(0)
    mask = scaled_mask(torch.Size([1000, 1001]), p, dtype)
    # A million draws: five standard deviations of the rate.
    assert abs(float((mask == 0).double().mean()) - p) < 5 * (p * (1 - p) / mask.numel()) ** 0.5
    with torch.no_grad():
        ones = functional.dropout(torch.ones(1000, dtype=dtype), p)
    assert set(mask.unique().tolist()) == {0.0, float(ones.max())}


def test_neighbours_and_lanes_are_independent() -> None:
    torch.manual_seed(0)
    kept = (scaled_mask(torch.Size([1 << 20]), 0.5, torch.bfloat16) != 0).double() - 0.5
    for distance in range(1, 9):
        correlation = float((kept[:-distance] * kept[distance:]).mean()) * 4
        assert abs(correlation) < 5 / (1 << 10), distance


def test_the_seed_decides_and_nothing_else() -> None:
    def draw() -> torch.Tensor:
        torch.manual_seed(3)
        return dropout(torch.ones(77), 0.3)

    assert torch.equal(draw(), draw())
    assert not torch.equal(draw(), dropout(torch.ones(77), 0.3))


def test_gradients_pass_where_values_passed() -> None:
    torch.manual_seed(0)
    value = torch.randn(50, 50, requires_grad=True)
    result = dropout(value, 0.4)
    result.sum().backward()
    assert value.grad is not None
    assert torch.equal(value.grad == 0, result == 0)
    assert torch.allclose(value.grad[result != 0], torch.tensor(1 / 0.6))


@pytest.mark.parametrize("kind", ["none", "bool", "additive"])
def test_attention_without_dropout_is_torch_s(kind: str) -> None:
    torch.manual_seed(0)
    query, key, value = torch.randn(3, 2, 4, 9, 16).unbind(0)
    allowed = torch.ones(2, 1, 1, 9, dtype=torch.bool)
    allowed[0, ..., 6:] = False
    mask = {"none": None, "bool": allowed, "additive": torch.zeros(2, 1, 1, 9).masked_fill(~allowed, -1e9)}[kind]
    ours = attention(query, key, value, mask, 0.0, None)
    theirs = functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)
    assert torch.allclose(ours, theirs, atol=1e-6)


def test_attention_s_dropout_has_torch_s_mean() -> None:
    torch.manual_seed(0)
    query, key, value = torch.randn(3, 1, 1, 8, 16).unbind(0)
    with CheapDropout():
        drawn = [functional.scaled_dot_product_attention(query, key, value, dropout_p=0.2) for _ in range(4000)]
    mean = torch.stack(drawn).mean(dim=0)
    assert torch.allclose(mean, functional.scaled_dot_product_attention(query, key, value), atol=0.06)


def test_the_context_takes_over_dropout_of_cpu_tensors_in_training_alone() -> None:
    ones = torch.ones(100)
    with CheapDropout():
        torch.manual_seed(1)
        cheap = functional.dropout(ones, 0.5)
        assert torch.equal(functional.dropout(ones, 0.5, training=False), ones)
        assert functional.dropout(ones, 1.0).sum() == 0
    torch.manual_seed(1)
    assert torch.equal(cheap, dropout(ones, 0.5))
    torch.manual_seed(1)
    assert not torch.equal(cheap, functional.dropout(ones, 0.5))
