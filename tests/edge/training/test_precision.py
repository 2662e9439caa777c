"""Mixed precision: what is chosen follows from what the hardware does. What stands for a GPU here is named fake."""

from __future__ import annotations

from functools import partial

import pytest
import torch

from edge.training import precision
from edge.training.precision import Precision, choose_precision
from federa.errors import BadInput

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
PLAIN_CPUINFO = "processor\t: 0\nmodel name\t: bf16 by name only\nflags\t\t: fpu sse2 avx2 avx512f\n"


@pytest.fixture
def cpuinfo(monkeypatch, tmp_path):
    """Writes what /proc/cpuinfo says."""
    path = tmp_path / "cpuinfo"
    monkeypatch.setattr(precision, "_cpu_has_bf16", partial(precision._cpu_has_bf16, path))
    return path.write_text


@pytest.fixture
def probe(monkeypatch):
    """Answers a probe from this table of dtypes that fail, and lists what was tried."""
    fails, tried = {}, []

    def fake_try_device(device, dtype=torch.float32):
        tried.append((device, dtype))
        return fails.get(dtype)

    monkeypatch.setattr(precision, "try_device", fake_try_device)
    return fails, tried


def fake_bf16_support(monkeypatch, supported):
    def fake_is_bf16_supported(including_emulation=True):
        # Xavier and Nano: torch says yes when it may emulate.
        return supported or including_emulation

    monkeypatch.setattr(torch.cuda, "is_bf16_supported", fake_is_bf16_supported)


@pytest.mark.parametrize("flag", ["avx512_bf16", "amx_bf16"])
def test_auto_is_bf16_on_an_x86_cpu_that_has_it(cpuinfo, flag):
    cpuinfo(PLAIN_CPUINFO.replace("avx2", f"avx2 {flag}"))
    assert choose_precision("auto", CPU).name == "bf16"


def test_auto_is_bf16_on_an_arm_cpu_that_has_it(cpuinfo):
    cpuinfo("processor\t: 0\nFeatures\t: fp asimd i8mm bf16\n")
    assert choose_precision("auto", CPU).name == "bf16"


@pytest.mark.parametrize("text", [PLAIN_CPUINFO, "", "Features\t: fp asimd bf16x notbf16\n"])
def test_auto_is_fp32_on_a_cpu_without_it(cpuinfo, text):
    # torch would compute in bf16 there too, and take several times as long.
    cpuinfo(text)
    assert choose_precision("auto", CPU).name == "fp32"


def test_auto_is_fp32_where_nothing_tells(cpuinfo):
    assert choose_precision("auto", CPU).name == "fp32"


def test_a_flag_alone_is_not_believed(cpuinfo, probe):
    fails, _ = probe
    fails[torch.bfloat16] = "illegal instruction"
    cpuinfo(PLAIN_CPUINFO.replace("avx2", "avx512_bf16"))
    assert choose_precision("auto", CPU).name == "fp32"


@pytest.mark.parametrize(
    ("supported", "failing", "expected"),
    [
        (True, {}, "bf16"),
        (False, {}, "fp16"),
        (True, {torch.bfloat16: "no"}, "fp16"),
        (False, {torch.float16: "no"}, "fp32"),
        (True, {torch.bfloat16: "no", torch.float16: "no"}, "fp32"),
    ],
)
def test_auto_on_a_gpu(monkeypatch, probe, supported, failing, expected):
    fails, tried = probe
    fails.update(failing)
    fake_bf16_support(monkeypatch, supported)
    chosen = choose_precision("auto", CUDA)
    assert (chosen.name, chosen.device) == (expected, CUDA)
    # Whatever is chosen was tried on that device.
    assert tried[-1] == (CUDA, chosen.dtype)


@pytest.mark.parametrize("wanted", ["fp32", "bf16", "fp16"])
def test_what_was_asked_for_is_tried_and_refused_by_name(probe, wanted):
    fails, tried = probe
    dtype = precision.DTYPES[wanted]
    assert choose_precision(wanted, CPU).name == wanted
    assert tried == [(CPU, dtype)]
    fails[dtype] = "not implemented for 'Half'"
    with pytest.raises(BadInput, match=f"--precision {wanted} does not work on this cpu: not implemented for 'Half'"):
        choose_precision(wanted, CPU)


def test_what_was_asked_for_is_not_second_guessed(cpuinfo):
    cpuinfo(PLAIN_CPUINFO)
    assert choose_precision("bf16", CPU).name == "bf16"


@pytest.mark.parametrize(
    ("name", "dtype", "scaled"),
    [("fp32", torch.float32, False), ("bf16", torch.bfloat16, False), ("fp16", torch.float16, True)],
)
def test_only_fp16_needs_its_gradients_scaled(name, dtype, scaled):
    chosen = Precision(name=name, device=CPU)
    assert (chosen.dtype, chosen.scaled) == (dtype, scaled)
    with chosen.autocast():
        product = torch.ones(4, 4) @ torch.ones(4, 4)
    assert product.dtype == dtype
    assert not torch.is_autocast_enabled("cpu")
