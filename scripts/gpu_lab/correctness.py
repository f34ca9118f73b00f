"""Is the optimizer step of a card right: against the plain loop on the CPU, bit by bit."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from typing import Any

import torch
from gpu_lab.measuring import DEVICE, Rows, check_alive, emptied, in_a_line, wait
from torch import Tensor, nn

from lion import Lion, fused_cuda, native

SHAPES = ((), (0,), (1,), (3,), (2047,), (2049, 2), (5, 7, 11), (64, 64), (4097,))
IMAGE_SHAPE = (6, 3, 5, 5)
"""Of a parameter that lies in memory as images with channels last."""
KINDS: dict[str, tuple[torch.dtype, dict[str, Any]]] = {
    "fp32": (torch.float32, {}),
    "fp32, bf16 momentum": (torch.float32, {"momentum_dtype": "bfloat16"}),
    "fp32, int8 momentum": (torch.float32, {"momentum_dtype": "int8"}),
    "bf16": (torch.bfloat16, {}),
    "bf16, kahan": (torch.bfloat16, {"kahan_sum": True}),
}
CASES = (
    *("from the start", "after load_state_dict", "on a side stream", "maximizing"),
    *("unaligned", "gradients unaligned"),
)
"""The last two are compilations of their own; gradients of DDP lie anywhere in its buckets."""
ON_THE_CARD = {
    "the card's loop": {"fused": False, "foreach": False},
    "the card's foreach": {"fused": False, "foreach": True},
}
"""Torch's own kernels: in float32 the same to the bit; bfloat16 they round as they like."""
NUM_STEPS = 20
GIANT_BYTES = 20 << 30
"""Free memory that a tensor of 2^31 elements needs, with its gradient and its state."""


class Launches:
    """Counts launches of the Triton kernel, so that no other path is taken for it."""

    def __init__(self) -> None:
        self.count, self._run = 0, fused_cuda._run

    def __enter__(self) -> Launches:
        def run(*args: Any, **kwargs: Any) -> None:
            self.count += 1
            self._run(*args, **kwargs)

        fused_cuda._run = run
        return self

    def __exit__(self, *_: object) -> None:
        fused_cuda._run = self._run


def correct(rows: Rows) -> None:
    """The fused step against the plain loop on the CPU, bit by bit.

    bfloat16 weights against the fused step on the CPU, as torch's own kernels, which the loop
    calls, round the last elements of a tensor in another way than the rest.
    """
    works = _kernel(rows)
    for case in CASES:  # each kind once before any twice: time may end
        for kind, (dtype, options) in KINDS.items():
            _add(rows, kind, case, lambda c=case, d=dtype, o=options: _stepped(d, o, c), works)
    for kind, (dtype, options) in KINDS.items():
        if DEVICE.type == "cuda":
            _add(rows, kind, "graph", lambda d=dtype, o=options: _in_graph(d, o, works), works)
        for case, path in ON_THE_CARD.items() if dtype == torch.float32 else ():
            wanted = {**options, **path}
            _add(rows, kind, case, lambda d=dtype, o=wanted: _stepped(d, o, CASES[0]))
    if torch.cuda.device_count() > 1:
        other = torch.device("cuda", 1)
        _add(rows, "fp32", "on another card", lambda: _stepped(torch.float32, {}, CASES[0], other))
    if works and torch.cuda.mem_get_info()[0] > GIANT_BYTES:
        _add(rows, "bf16", "beyond 2^31 elements", _giant, works)
    elif DEVICE.type == "cuda":
        rows.add(part="correct", what="skipped: too little memory for 2^31 elements, or no kernel")


def _kernel(rows: Rows) -> bool:
    """Whether the Triton kernel works here, and whether it should."""
    if DEVICE.type != "cuda":
        return False
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        works = fused_cuda.available(DEVICE)
        has_native = native.optional() is not None
    should = torch.cuda.get_device_capability() >= fused_cuda.MIN_CAPABILITY
    rows.add(
        part="correct", what="Triton kernel", works=works, as_expected=works or not should,
        native_tables=has_native, said=[str(one.message)[:400] for one in said],
    )  # fmt: skip
    return works


def _add(
    rows: Rows, kind: str, case: str, compare: Callable[[], list[str]], is_fused: bool = False
) -> None:
    """A row of one comparison: whatever fails there, the next one is still made.

    Of the kernel the momenta must be equal, too; of torch's own kernels it is only said.
    """
    if rows.is_time_over:
        return
    row: dict[str, Any] = {"part": "correct", "kind": kind, "case": case}
    with Launches() as launches:
        try:
            found = compare()
            row |= {"differs": found} if found else {}
            is_equal: bool | None = not any(is_fused or x.startswith("weight") for x in found)
        except torch.OutOfMemoryError as error:
            is_equal, row["skipped"] = None, in_a_line(error)
        except Exception as error:
            is_equal, row["error"] = False, in_a_line(error)
    if "error" not in row and is_fused and not launches.count:
        is_equal, row["error"] = False, "the Triton kernel was not launched"
    if DEVICE.type == "cuda" and kind.startswith("bf16") and not _is_comparable(case, launches):
        row["torch_rounds_alike"], is_equal = is_equal, None
    rows.add(**row, bit_equal=is_equal, launches=launches.count)
    check_alive()
    emptied()


def _is_comparable(case: str, launches: Launches) -> bool:
    """Whether bfloat16 must be equal: torch's own kernels round it in other ways on a card."""
    return bool(launches.count) and (case == "graph" or native.optional() is not None)


def placed(values: Tensor, device: torch.device, shift: int = 0) -> Tensor:
    """A copy on a device, in the same order of memory, `shift` elements behind an aligned one."""
    memory = torch.empty(values.numel() + shift, dtype=values.dtype, device=device)
    return memory.as_strided(values.shape, values.stride(), shift).copy_(values)


def _drawn(dtype: torch.dtype) -> list[Tensor]:
    image = torch.randn(IMAGE_SHAPE).to(memory_format=torch.channels_last)
    return [x.to(dtype) for x in (*(0.02 * torch.randn(shape) for shape in SHAPES), image)]


def _stepped(
    dtype: torch.dtype, options: dict[str, Any], case: str, device: torch.device = DEVICE
) -> list[str]:
    """What differs between the card and the CPU after some steps."""
    torch.manual_seed(0)
    shift, of_grads = int(case == "unaligned"), int(case in CASES[-2:])
    options = {**options, "maximize": case == "maximizing"}
    theirs = [nn.Parameter(x) for x in _drawn(dtype)]
    ours = [nn.Parameter(placed(x.detach(), device, shift)) for x in theirs]
    fast = Lion(ours, lr=1e-3, weight_decay=0.1, **options)
    plain = Lion(theirs, lr=1e-3, weight_decay=0.1, **_on_the_cpu(dtype, options))
    for step in range(NUM_STEPS):
        for mine, other in zip(ours, theirs, strict=True):
            other.grad = torch.randn_like(other)
            mine.grad = placed(other.grad, device, of_grads)
        if case == "after load_state_dict" and step == NUM_STEPS // 2:
            state = fast.state_dict()
            fast = Lion(ours, lr=1e-3, weight_decay=0.1, **options)
            fast.load_state_dict(state)
        if case == "on a side stream" and DEVICE.type == "cuda":
            stream = torch.cuda.Stream()
            stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(stream):
                fast.step()
            torch.cuda.current_stream().wait_stream(stream)
        else:
            fast.step()
        plain.step()
    return differences(fast, plain)


def differences(one: Lion, other: Lion) -> list[str]:
    """Weights and what is kept of them that are not equal: where, how many, by how much."""
    found = []
    for a, b in zip(_held(one), _held(other), strict=True):
        x, y = (tensor.detach().cpu() for tensor in (a[1], b[1]))
        if a[0] != b[0] or x.shape != y.shape or x.dtype != y.dtype:
            found.append(f"{a[0]} {tuple(x.shape)} {x.dtype} is {b[0]} {tuple(y.shape)} {y.dtype}")
        elif not torch.equal(x, y):
            x, y = x.double(), y.double()
            number = int((x != y).sum())
            most = float((x - y).abs().nan_to_num(torch.inf).max())
            found.append(f"{a[0]} {tuple(x.shape)}: {number} of {x.numel()}, by {most:.3g} at most")
    return found


def _held(optimizer: Lion) -> Iterator[tuple[str, Tensor]]:
    for group in optimizer.param_groups:
        for param in group["params"]:
            yield "weight", param
            for key, value in sorted(optimizer.state[param].items()):
                if isinstance(value, Tensor):
                    yield key, value


def _on_the_cpu(dtype: torch.dtype, options: dict[str, Any]) -> dict[str, Any]:
    stored = {k: v for k, v in options.items() if k not in ("fused", "foreach")}
    return stored if dtype == torch.bfloat16 else {**stored, "fused": False, "foreach": False}


def _giant() -> list[str]:
    """Offsets beyond 32 bits: the same small block of numbers again and again."""
    block = torch.randn(4099, device=DEVICE).to(torch.bfloat16)
    times_over = 2**31 // len(block) + 1
    giant = nn.Parameter(block.repeat(times_over))
    giant.grad = block.flip(0).repeat(times_over)
    small = nn.Parameter(block.clone())
    small.grad = block.flip(0)
    for param in (giant, small):
        optimizer = Lion([param], lr=1e-2, weight_decay=0.1)
        for _ in range(2):
            optimizer.step()
        del optimizer
    number = int((giant.detach().view(times_over, -1) != small.detach()).sum())
    return [f"weight {tuple(giant.shape)}: {number}"] if number else []


def _in_graph(dtype: torch.dtype, options: dict[str, Any], works: bool) -> list[str]:
    """Replays follow an lr on the device; 20 steps, as many as without a graph.

    The kernel must step as by the same lr as a number; torch's own multiply by it in other ways.
    """
    torch.manual_seed(0)
    ours = [nn.Parameter(x.to(DEVICE)) for x in _drawn(dtype)]
    theirs = [nn.Parameter(p.detach().clone()) for p in ours]
    for mine, other in zip(ours, theirs, strict=True):
        mine.grad = torch.randn_like(mine)
        other.grad = mine.grad.clone()
    lr = torch.tensor(1e-3, device=DEVICE)
    wanted = {"lr": lr, "weight_decay": 0.1, "capturable": True, **options}
    captured, eager = (Lion(params, **wanted) for params in (ours, theirs))
    (group,) = eager.param_groups
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            captured.step()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured.step()
    factors = [1.0, 0.5] * ((NUM_STEPS - 3) // 2)
    for factor in factors:
        lr.fill_(1e-3 * factor)
        graph.replay()
    wait()
    for factor in (1.0, 1.0, 1.0, *factors):
        group["lr"] = lr.fill_(1e-3 * factor).item() if works else lr.fill_(1e-3 * factor)
        eager.step()
    return differences(captured, eager)
