"""W = W_res + s B0 A0: against numpy's SVD, and in the precision that the starting function needs."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

from federa.methods.decomposition import principal_factors, residual


def _random(rows: int, columns: int, seed: int = 0) -> Tensor:
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed))


def _rotation(size: int, seed: int) -> Tensor:
    return torch.linalg.qr(_random(size, size, seed).double())[0]


def _with_singular_values(values: list[float], rows: int, columns: int) -> Tensor:
    middle = torch.zeros(rows, columns, dtype=torch.float64)
    middle.diagonal()[: len(values)] = torch.tensor(values, dtype=torch.float64)
    return (_rotation(rows, 1) @ middle @ _rotation(columns, 2)).float()


MATRICES = {
    "square": _random(24, 24),
    "wide": _random(16, 40),
    "tall": _random(40, 16),
    "rank 3 of 16": _random(16, 3) @ _random(3, 20, 1),
    "zero": torch.zeros(16, 20),
    "all singular values equal": _with_singular_values([2.0] * 16, 16, 20),
    "singular values in pairs": _with_singular_values([5, 5, 3, 3, 2, 2, 1, 1, 0.5, 0.5], 16, 20),
    "singular values over 12 orders": _with_singular_values([10.0**-n for n in range(12)], 16, 20),
}


@pytest.fixture(params=MATRICES)
def matrix(request: pytest.FixtureRequest) -> Tensor:
    return MATRICES[request.param]


@pytest.fixture(params=["highest", "medium"])
def matmul_precision(request: pytest.FixtureRequest) -> Iterator[str]:
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(request.param)
    yield request.param
    torch.set_float32_matmul_precision(before)


def _product(a: Tensor, b: Tensor, scale: float) -> NDArray[np.float64]:
    return scale * b.double().numpy() @ a.double().numpy()


@pytest.mark.parametrize("scale", [1.0, 0.25, 8.0])
@pytest.mark.parametrize("rank", [1, 3, 8, 16])
def test_the_factors_are_the_best_approximation_of_their_rank(matrix: Tensor, rank: int, scale: float) -> None:
    a, b = principal_factors(matrix, rank, scale)
    assert a.shape == (rank, matrix.shape[1]) and b.shape == (matrix.shape[0], rank)
    assert a.dtype == b.dtype == torch.float32
    values = np.linalg.svd(matrix.double().numpy(), compute_uv=False)
    error = np.linalg.norm(matrix.double().numpy() - _product(a, b, scale))
    # Eckart-Young: no matrix of this rank is nearer than what the other singular values leave.
    assert error == pytest.approx(np.sqrt(np.sum(values[rank:] ** 2)), abs=1e-6 * max(values[0], 1e-30), rel=1e-6)


@pytest.mark.parametrize("rank", [1, 4, 8])
def test_with_distinct_singular_values_the_product_is_numpys_truncated_svd(rank: int) -> None:
    matrix = _random(20, 30, 5)
    u, s, vt = np.linalg.svd(matrix.double().numpy(), full_matrices=False)
    a, b = principal_factors(matrix, rank, 0.5)
    np.testing.assert_allclose(_product(a, b, 0.5), (u[:, :rank] * s[:rank]) @ vt[:rank], atol=1e-6)


def test_both_factors_carry_the_square_root_of_the_singular_values(matrix: Tensor) -> None:
    # As PiSSA has it: B0^T B0 and A0 A0^T are both diag(S_r) / s.
    a, b = principal_factors(matrix, 6, 2.0)
    values = np.linalg.svd(matrix.double().numpy(), compute_uv=False)[:6] / 2.0
    for gram in (b.double().T @ b.double(), a.double() @ a.double().T):
        np.testing.assert_allclose(gram.numpy(), np.diag(values), atol=1e-6 * max(1.0, values[0]))


def test_weight_is_residual_plus_product_to_fp32_rounding(matrix: Tensor, matmul_precision: str) -> None:
    a, b = principal_factors(matrix, 8, 0.5)
    left = residual(matrix, a, b, 0.5)
    assert left.dtype == torch.float32
    whole = left.double().numpy() + _product(a, b, 0.5)
    np.testing.assert_allclose(whole, matrix.double().numpy(), rtol=0, atol=2e-7 * max(1.0, float(matrix.abs().max())))


def test_reduced_matmul_precision_does_not_change_the_residual() -> None:
    # "medium" lets fp32 products run in bf16 where the processor has it: wrong by 1e-3 here.
    matrix = _random(256, 256)
    a, b = principal_factors(matrix, 64, 1.0)
    before = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision("highest")
        highest = residual(matrix, a, b, 1.0)
        torch.set_float32_matmul_precision("medium")
        medium = residual(matrix, a, b, 1.0)
    finally:
        torch.set_float32_matmul_precision(before)
    assert torch.equal(highest, medium)


def test_autocast_does_not_change_factors_or_residual() -> None:
    matrix = _random(64, 64)
    a, b = principal_factors(matrix, 8, 1.0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        again = principal_factors(matrix, 8, 1.0)
        left = residual(matrix, a, b, 1.0)
    assert torch.equal(a, again[0]) and torch.equal(b, again[1])
    assert torch.equal(left, residual(matrix, a, b, 1.0))


@pytest.mark.parametrize("alpha", [1, 8, 64])
def test_alpha_drops_out_of_the_product(alpha: float) -> None:
    matrix = _random(24, 32)
    one = _product(*principal_factors(matrix, 8, 1 / 8), 1 / 8)
    other = _product(*principal_factors(matrix, 8, alpha / 8), alpha / 8)
    np.testing.assert_allclose(one, other, atol=1e-6)


@pytest.mark.parametrize("index", [0, 1, 2])
def test_residual_refuses_anything_but_fp32(index: int) -> None:
    matrix = _random(16, 16)
    tensors = [matrix, *principal_factors(matrix, 4, 1.0)]
    for dtype in (torch.bfloat16, torch.float16, torch.float64):
        cast = [tensor.to(dtype) if position == index else tensor for position, tensor in enumerate(tensors)]
        with pytest.raises(TypeError, match="fp32, before any cast"):
            residual(*cast, 1.0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_factors_of_a_weight_in_another_dtype_are_those_of_its_fp32_values(dtype: torch.dtype) -> None:
    stored = _random(16, 24).to(dtype)
    for one, other in zip(principal_factors(stored, 4, 1.0), principal_factors(stored.float(), 4, 1.0), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-6)


@pytest.mark.parametrize("rank", [0, -1, 17])
def test_a_rank_outside_the_matrix_is_refused(rank: int) -> None:
    with pytest.raises(ValueError, match=f"from 1 to 16, not {rank}"):
        principal_factors(_random(16, 20), rank, 1.0)


def test_the_largest_entry_of_each_column_of_b_is_positive(matrix: Tensor) -> None:
    _, b = principal_factors(matrix, 8, 1.0)
    largest = b.gather(0, b.abs().argmax(dim=0, keepdim=True))
    assert (largest >= 0).all()


@given(flips=st.lists(st.booleans(), min_size=12, max_size=12))
def test_an_svd_that_chooses_other_signs_gives_the_same_factors(flips: list[bool]) -> None:
    # Two machines' LAPACK may differ in just this.
    matrix = _random(12, 14, 3)
    expected = principal_factors(matrix, 5, 1.0)
    signs = torch.tensor([-1.0 if flip else 1.0 for flip in flips], dtype=torch.float64)
    real = torch.linalg.svd

    def other_machine(*arguments: object, **options: object) -> tuple[Tensor, Tensor, Tensor]:
        u, s, vt = real(*arguments, **options)
        return u * signs, s, signs[:, None] * vt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.linalg, "svd", other_machine)
        found = principal_factors(matrix, 5, 1.0)
    assert torch.equal(found[0], expected[0]) and torch.equal(found[1], expected[1])


def test_the_weight_and_the_factors_are_left_alone() -> None:
    matrix = torch.nn.Parameter(_random(16, 16))
    before = matrix.detach().clone()
    a, b = principal_factors(matrix, 4, 1.0)
    copies = a.clone(), b.clone()
    left = residual(matrix, a, b, 1.0)
    assert torch.equal(matrix, before) and torch.equal(a, copies[0]) and torch.equal(b, copies[1])
    assert not left.requires_grad and not a.requires_grad
