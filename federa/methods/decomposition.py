"""The decomposition behind FeDeRA's start: W = W_res + s B0 A0.

With W = U S V^T, s = alpha / r and the first r singular values:
B0 = U_r sqrt(S_r / s), A0 = sqrt(S_r / s) V_r^T. By Eckart-Young s B0 A0 is the best rank-r approximation of W, and
alpha drops out of it. The paper says that the principal components are taken; the square roots on both sides are this
project's reading, as in PiSSA (arXiv 2404.02948).
"""

from __future__ import annotations

import torch
from torch import Tensor


def principal_factors(weight: Tensor, rank: int, scale: float) -> tuple[Tensor, Tensor]:
    """A0 (rank x in) and B0 (out x rank), fp32, of a weight (out x in) of any float dtype.

    The SVD is exact and in double precision: it is done once a run, and takes a second or two for a base model.
    Raises ValueError for a rank above min(out, in).
    """
    if not 1 <= rank <= min(weight.shape):
        raise ValueError(f"rank must be from 1 to {min(weight.shape)}, not {rank}")
    u, s, vt = torch.linalg.svd(weight.detach().to(device="cpu", dtype=torch.float64), full_matrices=False)
    # The SVD leaves the sign of each pair of columns open. Fixed, so that two coordinators start alike.
    signs = torch.sign(u.gather(0, u.abs().argmax(dim=0, keepdim=True)))[:, :rank]
    root = torch.sqrt(s[:rank] / scale)
    b = u[:, :rank] * signs * root
    a = root[:, None] * vt[:rank] * signs.T
    return a.float().contiguous(), b.float().contiguous()


def residual(weight: Tensor, a: Tensor, b: Tensor, scale: float) -> Tensor:
    """W_res = W - s B0 A0 (out x in), in fp32, on the weight's device.

    Formed on the CPU, where no TF32 and no reduced-precision matmul enters: an error of 1e-3 here would move the
    starting function. Raises TypeError unless all three are fp32.
    """
    if not weight.dtype == a.dtype == b.dtype == torch.float32:
        raise TypeError("the residual is formed in fp32, before any cast")
    w, a, b = (tensor.detach().cpu() for tensor in (weight, a, b))
    product = b.double() @ a.double()
    return (w.double() - scale * product).float().to(weight.device)
