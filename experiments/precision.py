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
