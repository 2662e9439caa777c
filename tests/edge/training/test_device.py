"""Which device to compute on, and what is said about it. No test needs a GPU: what stands for one is named fake."""

from __future__ import annotations

import os

import pytest
import torch

from edge.board import Board
from edge.training import device
from edge.training.device import choose_device, device_name, facts, try_device
from federa import __version__
from federa.errors import BadInput
from federa.versions import versions

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


def fake_cuda(monkeypatch, *, problem):
    """A CUDA build that says it is available, and a probe with this outcome."""
    tried = []

    def fake_try_device(where, dtype=torch.float32):
        tried.append(where)
        return problem

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(device, "try_device", fake_try_device)
    return tried


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_cpu_computes(dtype):
    assert try_device(CPU, dtype) is None


def test_trying_leaves_random_numbers_alone():
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    try_device(CPU)
    assert torch.equal(torch.rand(1), expected)


@pytest.mark.parametrize("where", ["meta", "cuda"])
def test_a_device_that_cannot_compute_says_why_in_one_line(where):
    if where == "cuda" and torch.cuda.is_available():
        pytest.skip("here CUDA can")
    problem = try_device(torch.device(where))
    assert problem
    assert "\n" not in problem


def test_an_error_of_many_lines_becomes_one(monkeypatch):
    def fake_matmul(left, right):
        raise RuntimeError("CUDA error: no kernel image is available\nCUDA kernel errors might be reported elsewhere")

    monkeypatch.setattr(torch.Tensor, "__matmul__", fake_matmul)
    assert try_device(CPU) == "CUDA error: no kernel image is available"


@pytest.mark.parametrize("wrong", [lambda product: product + 1, lambda product: product * float("nan")])
def test_wrong_numbers_are_noticed(monkeypatch, wrong):
    matmul = torch.Tensor.__matmul__

    def fake_matmul(left, right):
        product = matmul(left, right)
        return wrong(product) if left.dtype == torch.bfloat16 else product

    monkeypatch.setattr(torch.Tensor, "__matmul__", fake_matmul)
    assert "wrong numbers from a torch.bfloat16 matmul" in str(try_device(CPU, torch.bfloat16))
    assert try_device(CPU, torch.float32) is None


def test_a_gpu_is_taken_when_it_works(monkeypatch):
    tried = fake_cuda(monkeypatch, problem=None)
    for wanted in ("auto", "cuda"):
        chosen, why = choose_device(wanted)
        assert chosen == CUDA
        assert "work there" in why
    assert tried == [CUDA, CUDA]


def test_a_gpu_that_only_says_it_is_there_is_not_taken(monkeypatch):
    fake_cuda(monkeypatch, problem="no kernel image is available")
    chosen, why = choose_device("auto")
    assert chosen == CPU
    assert why == "not CUDA: no kernel image is available"
    with pytest.raises(BadInput, match="--device cuda: no kernel image is available"):
        choose_device("cuda")


def test_without_cuda_there_is_the_cpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(device, "try_device", lambda where: pytest.fail("tried a device that is not there"))
    assert choose_device("auto") == (CPU, "not CUDA: torch finds no CUDA device")
    with pytest.raises(BadInput, match="--device cuda: torch finds no CUDA device"):
        choose_device("cuda")


def test_the_cpu_is_taken_when_asked_for(monkeypatch):
    tried = fake_cuda(monkeypatch, problem=None)
    assert choose_device("cpu") == (CPU, "as asked")
    assert tried == []


def test_devices_have_the_names_that_people_use(monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda which: "fake Orin")
    assert device_name(CUDA) == "fake Orin"
    for threads, name in ((1, "CPU, 1 thread"), (2, "CPU, 2 threads")):
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        assert device_name(CPU) == name


def test_a_jetsons_board_is_among_the_facts(monkeypatch):
    monkeypatch.setattr(device, "find_board", lambda: Board(None, None))
    assert "board" not in facts(CPU)
    monkeypatch.setattr(device, "find_board", lambda: Board("NVIDIA Jetson Orin Nano Developer Kit", "Orin Nano"))
    assert facts(CPU)["board"] == "NVIDIA Jetson Orin Nano Developer Kit"


def test_facts_and_versions_are_words():
    found = facts(CPU)
    assert found["cpus"] == str(os.cpu_count())
    assert found["threads"] == str(torch.get_num_threads())
    assert {"device", "platform", "machine"} <= found.keys()
    assert versions()["federa"] == __version__
    assert {"python", "torch", "transformers", "peft", "grpcio", "protobuf", "numpy"} <= versions().keys()
    assert all(isinstance(value, str) and value for value in (*found.values(), *versions().values()))
