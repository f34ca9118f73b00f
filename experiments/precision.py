"""In which precision a run trains: `auto` made plain, so that it is the same run everywhere."""

from __future__ import annotations

from pathlib import Path

from experiments.config import RunConfig


def resolved(config: RunConfig) -> str:
    """fp32 or bf16: what `train.precision` means on this machine.

    auto is bf16 where the run would use a GPU, and fp32 on a CPU. torch is imported only where the
    machine might have a GPU.
    """
    if config.train.precision != "auto":
        return config.train.precision
    return "bf16" if uses_gpu(config.launch.device) else "fp32"


def uses_gpu(device: str) -> bool:
    """Whether a run with this `launch.device` uses a GPU here."""
    if device != "auto":
        return device == "cuda"
    nodes = ("/dev/nvidiactl", "/dev/kfd", "/dev/dxg")  # CUDA, ROCm, CUDA under WSL
    if not any(Path(node).exists() for node in nodes):
        return False
    import torch

    return torch.cuda.is_available()


BF16_UNITS = {"avx512_bf16", "amx_bf16", "avx_ne_convert", "bf16"}
"""Flags of /proc/cpuinfo (x86, and `bf16` of Arm) of CPUs that multiply bfloat16 themselves."""


def warning(config: RunConfig, cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """What to say of a precision that this machine has no units for; "" where it has.

    On a CPU without them, products of matrices in bfloat16 were measured 80 times slower.
    """
    if resolved(config) != "bf16":
        return ""
    if uses_gpu(config.launch.device):
        return _warning_of_gpu()
    try:
        lines = cpuinfo.read_text().splitlines()
    except OSError:  # not Linux: nothing is known
        return ""
    flags = {f for line in lines if line.startswith(("flags", "Features")) for f in line.split()}
    if not flags or flags & BF16_UNITS:
        return ""
    return (
        "train.precision=bf16 on a CPU without units for it is many times slower than fp32: set "
        "train.precision=fp32"
    )


def _warning_of_gpu() -> str:
    """NVIDIA's have units for bfloat16 since Ampere (2020)."""
    import torch

    if torch.version.cuda is None or torch.cuda.get_device_capability() >= (8, 0):
        return ""
    return (
        "train.precision=bf16 on a GPU without units for it (older than compute capability 8.0) is "
        "slow: set train.precision=fp32"
    )
