"""Which device is taken, one process a GPU, and what happens when the memory is too small; all of it without a GPU."""

import os
import shutil
import signal
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import TINY_ENCODER

from foundad import device
from foundad.config.encoder import Encoder
from foundad.detection.bank import BankTokens
from foundad.device import Compute
from foundad.encoders import build_encoder
from foundad.errors import UserError
from foundad.method.detector import Detector
from foundad.method.settings import Settings

HOLD = """
import sys, time
from pathlib import Path
from foundad.device import claim_gpu, gpu_pool
assert "torch" not in sys.modules
gpu = claim_gpu(gpu_pool(), Path(sys.argv[1]))
start = time.monotonic()
print(gpu, flush=True)
time.sleep(float(sys.argv[2]))
Path(sys.argv[1], f"{gpu}-{start}").write_text(f"{gpu} {start} {time.monotonic()}")
"""


def hold(folder: Path, seconds: float, pool: str = "7,GPU-8", **variables: str) -> subprocess.Popen:
    """A process that claims one GPU of the pool that the environment gives it."""
    environment = {"CUDA_VISIBLE_DEVICES": pool, "PYTHONPATH": ":".join(sys.path)} | variables
    return subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder), str(seconds)], env=environment, stdout=subprocess.PIPE, text=True
    )


def test_two_slots_are_shared_without_overlap(tmp_path):
    processes = [hold(tmp_path, 0.4) for _ in range(6)]
    assert all(process.wait(timeout=60) == 0 for process in processes)
    held: dict[str, list[tuple[float, float]]] = {}
    for path in tmp_path.glob("*-*.*[0-9]"):
        if not path.name.startswith("foundad"):
            gpu, start, end = path.read_text().split()
            held.setdefault(gpu, []).append((float(start), float(end)))
    assert set(held) == {"7", "GPU-8"}
    assert sum(map(len, held.values())) == 6
    for spans in held.values():
        spans.sort()
        assert all(end <= start for (_, end), (start, _) in pairwise(spans))


def test_a_killed_process_frees_its_gpu(tmp_path):
    first = hold(tmp_path, 60, pool="3")
    assert first.stdout.readline().strip() == "3"
    second = hold(tmp_path, 0, pool="3")
    time.sleep(0.5)
    assert second.poll() is None  # waits
    first.send_signal(signal.SIGKILL)
    assert second.wait(timeout=30) == 0
    assert second.stdout.readline().strip() == "3"


def test_jobs_of_a_cluster_do_not_wait_for_each_others_gpu_0(tmp_path):
    first = hold(tmp_path, 60, pool="0", SLURM_JOB_ID="11")
    try:
        assert first.stdout.readline().strip() == "0"
        assert hold(tmp_path, 0, pool="0", SLURM_JOB_ID="12").wait(timeout=30) == 0
        within = hold(tmp_path, 0, pool="0", SLURM_JOB_ID="11")  # processes of one job share its GPU in turn
        time.sleep(0.5)
        assert within.poll() is None
        first.kill()
        assert within.wait(timeout=30) == 0
    finally:
        first.kill()


def test_the_pool_is_what_the_environment_gives(monkeypatch):
    for given, pool in (("", []), ("-1", []), ("0", ["0"]), ("2, GPU-abc", ["2", "GPU-abc"])):
        monkeypatch.setenv(device.VISIBLE, given)
        assert device.gpu_pool() == pool


@pytest.mark.skipif(torch.cuda.is_available(), reason="is about machines without a GPU")
def test_a_device_that_is_not_here_is_an_error_and_auto_is_not(monkeypatch):
    monkeypatch.delenv(device.VISIBLE, raising=False)
    assert device.choose_device("cpu") == "cpu"
    assert device.choose_device("auto") in ("cpu", "mps")
    with pytest.raises(UserError, match="no usable CUDA GPU; choose cpu or auto"):
        device.choose_device("cuda")
    with pytest.raises(UserError, match="has 0 GPUs, counted from 0"):
        device.choose_device("cuda:3")


def encoder(precision: str = "float32"):
    return build_encoder(Encoder.model_validate(TINY_ENCODER | {"id": "tiny"}), Compute(precision=precision))


def test_lower_precision_changes_tokens_a_little_and_keeps_their_type():
    images = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), np.uint8)
    exact, rounded = (e(e.normalise(images)) for e in (encoder(), encoder("bfloat16")))
    assert rounded.dtype == torch.float32
    difference = (exact - rounded).abs().max()
    assert 0 < difference < 0.1 * exact.abs().max()


def test_tf32_is_float32_where_there_is_no_gpu():
    images = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), np.uint8)
    exact, same = (e(e.normalise(images)) for e in (encoder(), encoder("tf32")))
    assert torch.equal(exact, same)


@pytest.mark.parametrize("precision", ["float32", "tf32", "bfloat16"])
def test_on_cuda_float32_is_float32_and_tf32_is_asked_for(precision):
    def switches() -> tuple[str, bool]:
        return torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32

    before = switches()
    with device.float32_products(torch.device("cuda"), precision):
        assert switches() == (("high", True) if precision == "tf32" else ("highest", False))
    assert switches() == before
    with device.float32_products(torch.device("cpu"), precision):
        assert switches() == before


def test_equal_bits_are_asked_for_on_cuda_alone():
    for name, expected in (("cuda", True), ("cpu", False)):
        with device.repeatable(torch.device(name)):
            assert torch.are_deterministic_algorithms_enabled() is expected
        assert not torch.are_deterministic_algorithms_enabled()
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"]


@pytest.mark.parametrize("precision", ["float32", "tf32", "bfloat16", "float16"])
def test_training_in_any_precision_scores_alike(precision):
    generator = np.random.default_rng(0)
    clean = generator.normal(size=(8, 16, 24)).astype(np.float32)
    bank = BankTokens(clean, ["c"] * 8, clean, clean + 1, ["c"] * 8)
    values = {"id": "small", "title": "Small", "projector": {"depth": 1, "width": 32}, "training": {"steps": 40}}
    settings = Settings.model_validate(values)
    exact, other = Detector(settings, 0), Detector(settings, 0, Compute(precision=precision))
    for detector in (exact, other):
        record = detector.fit(bank)
        assert record["health"]["synthetic_residual"] > record["health"]["clean_residual"]
    assert all(array.dtype == np.float32 for array in other.state().values())
    np.testing.assert_allclose(other.score(clean), exact.score(clean), rtol=0.1)


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
def test_compiled_networks_compute_alike():
    images = np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3), np.uint8)
    settings = Encoder.model_validate(TINY_ENCODER | {"id": "tiny"})
    plain, fast = build_encoder(settings), build_encoder(settings, Compute(compiled=True))
    for count in (3, 1):
        tokens = plain(plain.normalise(images[:count]))
        torch.testing.assert_close(fast(fast.normalise(images[:count])), tokens, rtol=1e-4, atol=1e-5)
    clean = tokens.numpy().repeat(8, axis=0)
    bank = BankTokens(clean, ["c"] * 8, clean, clean + 1, ["c"] * 8)
    values = {"id": "small", "title": "Small", "projector": {"depth": 1, "width": 32}, "training": {"steps": 20}}
    method = Settings.model_validate(values)
    detectors = Detector(method, 0), Detector(method, 0, Compute(compiled=True))
    for detector in detectors:
        detector.fit(bank)
    assert list(detectors[1].state()) == list(detectors[0].state())
    np.testing.assert_allclose(detectors[1].score(clean), detectors[0].score(clean), rtol=1e-2)


def test_without_a_compiler_torch_compile_fails_in_one_line(tmp_path):
    code = (
        "import torch; from foundad.device import compiled; from foundad.errors import UserError\n"
        "try: compiled(torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.GELU()))(torch.ones(2, 4))\n"
        "except UserError as error: print(error)"
    )
    here = {"CXX": "absent-compiler", "TORCHINDUCTOR_CACHE_DIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=os.environ | here, check=True
    )
    assert done.stdout.startswith("compile: true: torch.compile failed, set it to false")
    assert done.stdout.count("\n") == 1


class SmallMemory(torch.nn.Module):
    """A network that holds three images and not one more."""

    def __init__(self, network: torch.nn.Module, holds: int = 3) -> None:
        super().__init__()
        self.network, self.holds, self.calls = network, holds, []

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.calls.append(len(images))
        if len(images) > self.holds:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return self.network(images)


def test_a_batch_that_does_not_fit_is_halved_and_the_limit_kept():
    whole, small = encoder(), encoder()
    small.network = SmallMemory(small.network)
    images = whole.normalise(np.random.default_rng(0).integers(0, 256, (9, 64, 64, 3), np.uint8))
    torch.testing.assert_close(small.in_memory(images)["patch"], whole(images), rtol=1e-4, atol=1e-5)
    assert small.batch_limit == 2
    before = len(small.network.calls)
    small.in_memory(images)
    assert small.network.calls[before:] == [2, 2, 2, 2, 1]
    small.network.holds = 0
    with pytest.raises(UserError, match="out of memory with a single image"):
        small.in_memory(images)


def test_the_training_batch_is_never_changed(monkeypatch):
    clean = np.zeros((8, 4, 8), np.float32)
    settings = Settings.model_validate({"id": "big", "title": "Big", "training": {"steps": 2}})

    def full(*_):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr("foundad.method.detector.projection_loss", full)
    with pytest.raises(UserError, match=r"out of memory at training\.batch_size 8, which is never changed by itself"):
        Detector(settings, 0).fit(BankTokens(clean, ["c"] * 8, clean, clean, ["c"] * 8))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
@pytest.mark.parametrize("precision", ["float32", "tf32", "bfloat16"])
def test_cuda_scores_as_the_cpu_does(precision):
    settings = Encoder.model_validate(TINY_ENCODER | {"id": "tiny"})
    images = np.random.default_rng(0).integers(0, 256, (4, 64, 64, 3), np.uint8)
    on_cpu, on_cuda = build_encoder(settings), build_encoder(settings, Compute("cuda", precision=precision))
    tokens = on_cpu(on_cpu.normalise(images))
    tolerance = {"float32": 1e-4, "tf32": 0.02, "bfloat16": 0.1}[precision]
    found = on_cuda.in_memory(on_cuda.normalise(images))["patch"].cpu()
    torch.testing.assert_close(found, tokens, rtol=tolerance, atol=tolerance * tokens.abs().max().item())
    clean = tokens.numpy()
    bank = BankTokens(clean, ["c"] * 4, clean, clean + 1, ["c"] * 4)
    method = Settings.model_validate({"id": "small", "title": "Small", "training": {"steps": 20, "feature_dropout": 0}})
    cpu, cuda = Detector(method, 0), Detector(method, 0, Compute("cuda", precision=precision))
    cpu.fit(bank)
    cuda.fit(bank)
    np.testing.assert_allclose(cuda.score(clean), cpu.score(clean), rtol=0.2)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
@pytest.mark.parametrize("precision", ["float32", "tf32", "bfloat16"])
def test_a_seed_trains_the_same_projector_twice_on_cuda(precision):
    clean = np.random.default_rng(0).normal(size=(16, 256, 96)).astype(np.float32)
    bank = BankTokens(clean, ["c"] * 16, clean, clean + 1, ["c"] * 16)
    method = Settings.model_validate({"id": "small", "title": "Small", "training": {"steps": 20}})
    states = []
    for _ in range(2):
        detector = Detector(method, 0, Compute("cuda", precision=precision))
        detector.fit(bank)
        states.append(detector.state())
    for name, array in states[0].items():
        np.testing.assert_array_equal(states[1][name], array, err_msg=name)


@pytest.mark.parametrize(("given", "expected"), [({}, "4"), ({"OPENBLAS_THREAD_TIMEOUT": "20"}, "20")])
def test_threads_are_bounded_before_a_numerical_library_is_loaded(given, expected):
    code = (
        "import os, sys, foundad.cli; from foundad.device import limit_threads; assert 'numpy' not in sys.modules\n"
        "limit_threads(3); print(os.environ['OMP_NUM_THREADS'], os.environ['OPENBLAS_THREAD_TIMEOUT'])"
    )
    environment = {"PYTHONPATH": ":".join(sys.path)} | given
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["3", expected]
