"""A step for which memory is too short is done again with half the micro-batch, as if it had begun so."""

from __future__ import annotations

import asyncio
import json
import logging
import subprocess
import sys
import weakref
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from fake_coordinator import prepare_order, train_order, work
from live_coordinator import experiment, serving
from report_samples import make_result, make_run
from torch.nn import functional
from toy_classifier import CPU, EXAMPLES, TASK, ToyClassifier, equal, tuned

from coordinator.report import render_report
from coordinator.report.sentences import memory_sentences
from coordinator.report.terminal import memory_lines
from edge.training.dropout import CheapDropout
from edge.training.memory import halve_batch_on_oom, is_out_of_memory
from edge.training.precision import Precision
from edge.training.trainer import Trainer
from federa.config import Training
from federa.data.batches import collate
from federa.errors import FederaError
from tests.doubles.noop import NoopRuntime

ROOT = Path(__file__).resolve().parents[3]
ALLOCATOR = "/opt/pytorch/c10/cuda/CUDACachingAllocator.cpp"
# As torch 2.1 to 2.9 say it, the ones that begin with NVML on a Jetson, or where NVML is broken.
FORMS = {
    "torch's own": torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB."),
    "Tegra's": RuntimeError(
        'NVML_SUCCESS == r INTERNAL ASSERT FAILED at "/opt/pytorch/c10/cuda/CUDACachingAllocator.cpp":838, please '
        "report a bug to PyTorch."
    ),
    "Tegra's, from the start": RuntimeError(
        f'NVML_SUCCESS == DriverAPI::get()->nvmlInit_v2_() INTERNAL ASSERT FAILED at "{ALLOCATOR}":995, please report '
        "a bug to PyTorch."
    ),
    "Tegra's, of a device that NVML does not know": RuntimeError(
        "NVML_SUCCESS == DriverAPI::get()->nvmlDeviceGetHandleByPciBusId_v2_( pci_id, &nvml_device) INTERNAL ASSERT "
        'FAILED at "../c10/cuda/CUDACachingAllocator.cpp":1000, please report a bug to PyTorch.'
    ),
    "Tegra's, of a call that is not there yet": RuntimeError(
        f'NVML_SUCCESS == status INTERNAL ASSERT FAILED at "{ALLOCATOR}":1200, please report a bug to PyTorch. \nNVML'
    ),
    "plain": RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB (GPU 0; 7.44 GiB total capacity)"),
    "the driver's": RuntimeError("CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported"),
    "cuBLAS's": RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    "the driver's, of a segment": RuntimeError("CUDA driver error: out of memory"),
    "the driver's, by number": RuntimeError("CUDA driver error: 2"),
    "the runtime's, of old": RuntimeError("cuda runtime error (2) : out of memory at /pytorch/aten/src/THC/generic:66"),
    "a compiled kernel's": RuntimeError("Triton Error [CUDA]: out of memory"),
    "cuDNN's": RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
    "cuDNN 9's": RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED"),
    "cuSPARSE's": RuntimeError("CUDA error: CUSPARSE_STATUS_ALLOC_FAILED when calling `cusparseCreate(handle)`"),
    "NvMap's": RuntimeError("NvMapMemAllocInternalTagged: 1075072515 error 12"),
    "a mapping's": RuntimeError("unable to mmap 4096 bytes from file </torch_1>: Cannot allocate memory (12)"),
    "the CPU's": RuntimeError(
        "[enforce fail at alloc_cpu.cpp:118] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to "
        "allocate 4096000000 bytes. Error code 12 (Cannot allocate memory)"
    ),
    "oneDNN's": RuntimeError("could not create a primitive"),
    "C++'s": RuntimeError("std::bad_alloc"),
    "Python's": MemoryError(),
}


class FakeShortMemory(ToyClassifier):
    """Stands in for a device with little memory: what `fails` says of a forward pass (its number from 1, its examples)
    raises an error, which comes before that pass has drawn its dropout or, with `late`, in the middle of backward."""

    def __init__(self, dropout=0.0):
        super().__init__(dropout)
        self.fails = lambda number, count: False
        self.error = FORMS["torch's own"]
        self.late = False
        self.sizes = []

    def forward(self, input_ids, attention_mask):
        self.sizes.append(len(input_ids))
        fails = self.fails(len(self.sizes), len(input_ids))
        if fails and not self.late:
            raise self.error
        answer = super().forward(input_ids, attention_mask)
        if fails:
            answer.logits.register_hook(self._raise)
        return answer

    def _raise(self, gradient):
        raise self.error


def short_of_memory(fails, *, error=None, late=False, dropout=0.0):
    model = tuned(dropout)
    model.model.__class__ = FakeShortMemory
    model.model.fails, model.model.sizes, model.model.late = fails, [], late
    model.model.error = error or FORMS["torch's own"]
    return model


def train(model, *, precision="fp32", trainer=None, **training):
    trainer = trainer or make_trainer(model, precision=precision, **training)
    result = trainer.train(EXAMPLES, 1)
    return {name: value.copy() for name, value in model.state().items()}, result


def make_trainer(model, *, precision="fp32", **training):
    chosen = Precision(name=precision, device=CPU)
    return Trainer(model, TASK, Training(**{"epochs": 2, "batch_size": 16, **training}), 1e-2, chosen)


def reference(size_of_step, dropout):
    """The same training in fp32 written down once more, in twenty lines, with a micro-batch for each step."""
    model = tuned(dropout)
    parameters = list(model.communicated.values())
    torch.manual_seed(1)
    optimizer = torch.optim.AdamW(parameters, lr=1e-2, weight_decay=0.0, fused=True)
    model.model.train()
    for step, indices in enumerate(make_trainer(model).plan(EXAMPLES, 1), start=1):
        for first in range(0, len(indices), size_of_step(step)):
            batch = collate(EXAMPLES, indices[first : first + size_of_step(step)])
            with CheapDropout():
                logits = model.model(**batch.inputs).logits
            (functional.cross_entropy(logits, batch.targets, reduction="sum") / len(indices)).backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad()
    return {name: value.copy() for name, value in model.state().items()}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_in_which_it_is_said_is_known(form):
    assert is_out_of_memory(FORMS[form])


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("CUDA error: device-side assert triggered"),
        RuntimeError("CUDA error: CUBLAS_STATUS_EXECUTION_FAILED"),
        RuntimeError(
            "NVML_SUCCESS == DriverAPI::get()->nvmlInit_v2_() INTERNAL ASSERT FAILED at "
            '"/opt/pytorch/aten/src/ATen/cuda/PeerToPeerAccess.cpp":83, please report a bug to PyTorch.'
        ),
        RuntimeError(
            f'!block->allocated INTERNAL ASSERT FAILED at "{ALLOCATOR}":1200, please report a bug to PyTorch.'
        ),
        RuntimeError("CUDA driver error: 201"),
        RuntimeError("CUDA driver error: invalid device context"),
        RuntimeError("CUDA error: invalid argument: the number of pages is out of memory's bounds"),
        RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"),
        RuntimeError("NvMapMemAllocInternalTagged: 1075072515 error 22"),
        RuntimeError("Cannot allocate memory for an engine: unknown device"),
        KeyError("CUDA out of memory"),
        RuntimeError("mat1 and mat2 shapes cannot be multiplied"),
        RuntimeError("could not create a primitive descriptor for a matmul primitive"),
        ValueError("CUDA out of memory"),
        OSError(12, "Cannot allocate memory"),
    ],
)
def test_other_errors_are_not_taken_for_it(error):
    assert not is_out_of_memory(error)


@pytest.mark.parametrize("form", ["torch's own", "Tegra's", "Tegra's, from the start", "Python's"])
def test_a_step_is_done_again_with_half_as_many_at_a_time(form):
    model = short_of_memory(lambda number, count: number == 2, error=FORMS[form], late=form == "Tegra's")
    state, result = train(model)
    # The second step's 16 fail; it and all later ones go by eights. The epoch's last batch has 8 examples.
    assert model.model.sizes[:4] == [16, 16, 8, 8]
    assert set(model.model.sizes[2:]) == {8}
    assert result.micro_batch == 8
    assert all(np.isfinite(value).all() for value in state.values())


@pytest.mark.parametrize("late", [False, True], ids=["forward", "backward"])
@pytest.mark.parametrize("failing", [1, 2, 4])
def test_the_result_is_that_of_a_run_with_the_smaller_micro_batch_from_that_step_on(failing, late):
    # With dropout: the failed attempt's random numbers are drawn again. Until it fails, a step is a single pass.
    model = short_of_memory(lambda number, count: number == failing, late=late, dropout=0.3)
    state, result = train(model)
    plan = make_trainer(model).plan(EXAMPLES, 1)
    size = len(plan[failing - 1]) // 2
    assert result.micro_batch == size
    assert equal(state, reference(lambda step: size if step >= failing else 16, dropout=0.3))
    assert not equal(state, reference(lambda step: 16, dropout=0.3))


@pytest.mark.parametrize("late", [False, True], ids=["forward", "backward"])
def test_gradients_of_the_failed_attempt_do_not_leak_into_the_step(late):
    # Micro-batches of 8; the second half of the second step fails: the first half's gradients are there by then.
    model = short_of_memory(lambda number, count: number == 4, late=late)
    state, _ = train(model, micro_batch_size=8)
    assert model.model.sizes[:8] == [8, 8, 8, 8, 4, 4, 4, 4]
    assert equal(state, reference(lambda step: 4 if step >= 2 else 8, dropout=0.0))


def test_it_is_halved_until_it_fits_and_said_each_time(caplog):
    model = short_of_memory(lambda number, count: count > 3)
    with caplog.at_level(logging.WARNING, "federa.worker"):
        _, result = train(model)
    assert result.micro_batch == 2
    assert model.model.sizes[:3] == [16, 8, 4]
    assert set(model.model.sizes[3:]) == {2}
    assert [record.message.split(" (")[0] for record in caplog.records] == [
        "out of memory in training: from here on 8 examples at a time, not 16",
        "out of memory in training: from here on 4 examples at a time, not 8",
        "out of memory in training: from here on 2 examples at a time, not 4",
    ]


def test_the_smaller_micro_batch_is_kept_for_the_next_clients():
    model = short_of_memory(lambda number, count: count > 8)
    trainer = make_trainer(model)
    train(model, trainer=trainer)
    model.model.sizes.clear()
    _, result = train(model, trainer=trainer)
    assert max(model.model.sizes) == 8
    assert result.micro_batch == 8


def test_nothing_is_said_where_memory_is_enough():
    _, result = train(tuned())
    assert result.micro_batch == 0


def test_with_one_example_at_a_time_it_fails_in_one_line():
    model = short_of_memory(lambda number, count: True)
    with pytest.raises(FederaError, match=r"^out of memory in training with one example at a time: CUDA out") as caught:
        train(model)
    assert "\n" not in str(caught.value)
    assert model.model.sizes == [16, 8, 4, 2, 1]


def test_another_error_ends_the_training_at_once():
    model = short_of_memory(lambda number, count: number == 2, error=RuntimeError("a bug"))
    with pytest.raises(RuntimeError, match="a bug"):
        train(model)
    assert model.model.sizes == [16, 16]


def test_under_fp16_the_scale_goes_on_where_it_was():
    # On the CPU fp16's scaler works too. A failure in the third step, whose gradients are unscaled already (in clip).
    def states(failing):
        model = tuned()
        clip, calls = torch.nn.utils.clip_grad_norm_, []

        def failing_clip(*arguments, **named):
            calls.append(None)
            if len(calls) == failing:
                raise FORMS["Tegra's"]
            return clip(*arguments, **named)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(torch.nn.utils, "clip_grad_norm_", failing_clip)
            state, result = train(model, precision="fp16", batch_size=2, epochs=1)
        assert result.micro_batch == (1 if failing else 0)
        return state

    # Twenty steps of two: after the failure one at a time, which changes the last digits.
    undisturbed = states(0)
    for failing in (1, 3):
        disturbed = states(failing)
        assert all(np.allclose(disturbed[name], undisturbed[name], atol=2e-3) for name in undisturbed)


def test_under_fp16_memory_may_be_short_before_the_scale_exists():
    model = short_of_memory(lambda number, count: number == 1)
    _, result = train(model, precision="fp16")
    assert result.micro_batch == 8


def test_moments_for_which_there_is_no_memory_are_allocated_anew():
    # The optimizer's own memory is taken in its first step; the attempt left a part of it behind.
    def state(fail):
        model, zeros, calls = tuned(), torch.zeros_like, []

        def failing_zeros(*arguments, **named):
            calls.append(None)
            if fail and len(calls) == 4:
                raise FORMS["torch's own"]
            return zeros(*arguments, **named)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(torch, "zeros_like", failing_zeros)
            found, _ = train(model, micro_batch_size=16)
        assert len(calls) > 4
        return found

    assert equal(state(True), reference(lambda step: 8, dropout=0.0))


def test_in_a_later_step_of_the_optimizer_nothing_is_tried_again(monkeypatch):
    # It may have moved a part of the parameters already.
    step, calls = torch.optim.AdamW.step, []

    def failing_step(optimizer, *arguments, **named):
        calls.append(None)
        if len(calls) == 2:
            raise FORMS["torch's own"]
        return step(optimizer, *arguments, **named)

    monkeypatch.setattr(torch.optim.AdamW, "step", failing_step)
    with pytest.raises(FederaError, match=r"^out of memory in the optimizer's step: CUDA out"):
        train(tuned())
    assert len(calls) == 2


def test_what_an_attempt_held_is_free_before_the_next():
    held = []

    def attempt(size):
        assert all(reference() is None for reference in held), "the failed attempt's tensor is still there"
        big = torch.zeros(4)
        cycle = [big]
        cycle.append(cycle)  # as autograd's graphs have them: counting references does not free it
        held.append(weakref.ref(big))
        if size > 2:
            raise RuntimeError("CUDA out of memory")
        return size

    assert halve_batch_on_oom(attempt, 8, "a test") == (2, 2)
    assert len(held) == 3


# A real one: each example takes 32 MiB in the forward pass, and the process may have 200 MiB more than it has.
_REAL = """
import logging, resource
logging.basicConfig(level=logging.INFO, format="%(message)s")
import torch
from toy_classifier import ToyClassifier, tuned, examples, CPU, TASK
from edge.training.precision import Precision
from edge.training.trainer import Trainer
from federa.config import Training

torch.set_num_threads(1)

class Hungry(ToyClassifier):
    def forward(self, input_ids, attention_mask):
        answer = super().forward(input_ids, attention_mask)
        big = answer.logits[:, :1].expand(-1, 8 << 20) * 1.0
        answer.logits = answer.logits + 0 * big.mean(dim=1, keepdim=True)
        return answer

model = tuned()
trainer = Trainer(model, TASK, Training(epochs=1, batch_size=16), 1e-2, Precision(name="fp32", device=CPU))
trainer.train(examples(4), 1)
model.model.__class__ = Hungry
pages = int(open("/proc/self/statm").read().split()[0])
limit = pages * resource.getpagesize() + (200 << 20)
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
result = trainer.train(examples(32), 1)
print(result.micro_batch, len(result.step_ms))
"""


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads /proc")
def test_a_real_shortage_on_the_cpu_lowers_the_micro_batch_too():
    done = subprocess.run([sys.executable, "-c", _REAL], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    micro_batch, steps = map(int, done.stdout.split())
    assert micro_batch in (1, 2, 4)
    assert steps == 2
    assert "DefaultCPUAllocator" in done.stderr or "bad_alloc" in done.stderr


# ---- where it is said


class FakeShortRuntime(NoopRuntime):
    """Stands in for an runtime with memory for two examples at a time, of client 1 for three."""

    def train(self, round_, client, state, on_step):
        trained = super().train(round_, client, state, on_step)
        return replace(trained, micro_batch=3 if client == 1 else 2)


def test_a_worker_says_it_with_the_update():
    async def script(receive, send, number, fake):
        send(prepare=prepare_order())
        await receive("prepared")
        send(train=train_order())
        while len(fake.updates) < 2:
            await asyncio.sleep(0.01)

    fake = work(script, runtime=FakeShortRuntime())
    assert {update.client: update.micro_batch for update, _ in fake.updates} == {0: 2, 1: 3}


def test_the_smallest_stands_in_the_result_and_the_report(tmp_path):
    async def scenario(live):
        worker = await live.training()
        for client, micro_batch in ((0, 0), (1, 8), (2, 4)):
            await worker.upload(client, micro_batch=micro_batch)
        await worker.released()
        await live.end()
        result = json.loads(await live.fetch("result.json"))
        (device,) = result["runs"][0]["devices"]
        assert device["micro_batch"] == 4
        sentence = "Memory was too short on ada: it went down to 4 examples at a time, where the experiment says 16."
        assert memory_sentences(result["runs"][0]) == [sentence]
        assert memory_lines(result) == [f"memory: FeDeRA: {sentence}"]
        assert sentence in render_report(result)

    serving(tmp_path, scenario, experiment=experiment())


def test_a_report_says_nothing_where_memory_was_enough():
    result = make_result(make_run())
    assert memory_lines(result) == []
    assert "Memory was too short" not in render_report(result)
    result["runs"][0]["devices"][0]["micro_batch"] = 1
    (line,) = memory_lines(result)
    assert line == "memory: FeDeRA: Memory was too short on device-a: it went down to 1 example at a time."
