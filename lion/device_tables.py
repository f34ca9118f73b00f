"""Small tables in a GPU's memory that tell one launch where its tensors are (`lion/fused_cuda.py`).

Cached by their content: while nothing moves nothing is copied, and none can be out of date.
"""

# pyright: reportPrivateImportUsage=false
# (torch has no public name for the _foreach functions)

import functools
from array import array
from typing import NamedTuple

import torch
from torch import Tensor


class Layout(NamedTuple):
    """How programs are spread over tensors of given sizes, on the device."""

    table: Tensor
    num_programs: int


MAX_LAYOUTS = 64
"""More are kept only where graphs read them. One takes 0.1 % of its parameters' memory."""
_layouts: dict[tuple[object, ...], Layout] = {}
_captured: dict[tuple[object, ...], Layout] = {}  # a graph may read them for ever


def layout(packed: bytes, block: int, device: torch.device) -> Layout | None:
    """Return the layout for tensors in programs of `block` elements.

    Args:
        packed: The numbers of their elements, as int64.
        block: Elements of a program.
        device: Where the tensors are.

    Returns:
        None if that would copy from the host while a graph is captured.
    """
    key = (packed, block, device)
    if is_capturing(device):
        if key in _layouts:
            _captured.setdefault(key, _layouts[key])  # not another one: a graph may read the first
        return _captured.get(key)
    if key in _layouts:
        _layouts[key] = _layouts.pop(key)  # the newest again
    else:
        if len(_layouts) >= MAX_LAYOUTS:
            if device.type == "cuda":
                torch.cuda.synchronize(device)  # any stream may still read what is dropped
            del _layouts[next(iter(_layouts))]
        sizes, owners, firsts = array("q", packed), array("q"), array("q")
        for i, size in enumerate(sizes):
            firsts.append(len(owners))
            owners.extend([i] * -(-size // block))
        values = torch.tensor([*sizes, *firsts, *owners], dtype=torch.int64, device="cpu")
        _layouts[key] = Layout(values.to(device), len(owners))  # waits, once: any stream may read
    return _layouts[key]


def table(addresses: "array[int]", device: torch.device) -> Tensor:
    """Return the addresses as an int64 tensor on the device, ready for the current stream."""
    if not is_capturing(device):
        stream = torch.cuda.current_stream(device).cuda_stream if device.type == "cuda" else 0
        return _uploaded(addresses.tobytes(), device, stream)
    # A graph replays no copy from the host, whose memory may be gone; but it does replay kernels,
    # with these numbers as their arguments. Nothing of this is cached: it is in the graph's memory.
    written = torch.zeros(len(addresses), dtype=torch.int64, device=device)
    torch._foreach_add_(list(written.unbind()), addresses.tolist())
    return written


@functools.lru_cache(maxsize=64)
def _uploaded(addresses: bytes, device: torch.device, stream: int) -> Tensor:
    # One for each stream, so that a dropped one is reused only after the launches that read it.
    values = torch.frombuffer(bytearray(addresses), dtype=torch.int64)
    if device.type != "cuda":
        return values
    return values.pin_memory().to(device, non_blocking=True)


def is_capturing(device: torch.device) -> bool:
    """Whether the current stream's work becomes a CUDA graph."""
    return device.type == "cuda" and torch.cuda.is_current_stream_capturing()
