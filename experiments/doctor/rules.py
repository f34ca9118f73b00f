"""The rules for a run. Each looks at the evidence and says nothing where it lacks what it needs."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterator

from experiments.doctor.evidence import Evidence, Finding, Series, later_half, limit

PAPER = "arXiv:2302.06675, section 5"
Rule = Callable[[Evidence], Iterator[Finding]]


def decay_not_kept(run: Evidence) -> Iterator[Finding]:
    """The strength of decay is lr x weight decay; a switch of optimizers should keep it."""
    lr, decay = run.number("lr"), run.number("weight_decay")
    other = Evidence("", settings=run.baseline)
    base_lr, base_decay = other.number("lr"), other.number("weight_decay")
    if not run.is_sign_based or not (lr and decay and base_lr and base_decay):
        return
    ratio, most = lr * decay / (base_lr * base_decay), limit("decay_ratio")
    if 1 / most <= ratio <= most:
        return
    yield Finding(
        "lr x weight decay not kept",
        f"{lr:g} x {decay:g} = {lr * decay:.2g}, the baseline's {base_lr:g} x {base_decay:g} = "
        f"{base_lr * base_decay:.2g}: {ratio:.2g} times as strong",
        f"try weight_decay={base_lr * base_decay / lr:.2g} at this lr",
        f"{PAPER}: lr 3 to 10 times smaller, weight decay as much larger, their product similar",
    )


def final_lr_not_scaled(run: Evidence) -> Iterator[Finding]:
    """The lr at the end has to be scaled as its peak is."""
    end, base_end = _end_of(run), _end_of(Evidence("", settings=run.baseline))
    if not run.is_sign_based or end is None or base_end is None or end <= 0:
        return
    if end <= max(limit("final_lr_ratio") * base_end, limit("final_lr_none")):
        return
    lr = run.number("lr") or 0.0
    yield Finding(
        "final lr not scaled",
        f"the lr ends at {end * lr:.2g}, {end:.0%} of its peak; the baseline's at {base_end:.0%}",
        f"end it at {base_end * lr:.2g} (schedule.final_fraction={base_end:.2g})",
        "README of google/automl, lion: initial, peak and end value change by the same ratio",
    )


def _end_of(run: Evidence) -> float | None:
    """Where the lr ends, as a share of its peak."""
    fraction, final, peak = (run.number(k) for k in ("final_fraction", "final_lr", "lr"))
    if final is not None and peak:
        return final / peak
    return fraction


def warmup_too_short(run: Evidence) -> Iterator[Finding]:
    """The loss climbs right after the start."""
    losses = _finite(run.series.get("loss", []))
    total = run.number("total_steps") or (losses[-1][0] if losses else 0)
    early = [value for step, value in losses if step <= 0.1 * total]
    if len(early) < 3 or early[0] <= 0:
        return
    rise, warmup = max(early[1:]) / early[0], run.number("warmup_steps")
    most, least_points = limit("warmup_rise"), limit("warmup_points")
    if len(early) >= least_points:  # of many, the largest is large by chance
        most = max(most, math.exp(limit("warmup_noise") * _noise([value for _, value in losses])))
    if rise <= most or (warmup is not None and warmup >= 0.1 * total):
        return
    said = "" if warmup is None else f"warm-up {warmup:g} of {_step(total)} steps; "
    yield Finding(
        "warm-up too short",
        f"{said}the loss rises from {early[0]:.3g} to {max(early):.3g} in the first tenth",
        f"try a warm-up of {max(1, round(0.1 * total))} steps, then a smaller lr",
        "arXiv:2302.06675, section 4: 10,000 steps of warm-up; arXiv:1706.02677, section 2.2",
    )


def _noise(losses: list[float]) -> float:
    """Robust standard deviation of the logarithms of losses around their trend."""
    logs = [math.log(value) for value in losses if value > 0]
    bends = [abs(a - 2 * b + c) for a, b, c in zip(logs, logs[1:], logs[2:], strict=False)]
    return 1.4826 * statistics.median(bends) / math.sqrt(6) if bends else 0.0


def small_batch(run: Evidence) -> Iterator[Finding]:
    """Signs of noisy gradients are noise."""
    size = run.number("batch_size")
    if not run.is_sign_based or size is None or size >= limit("small_batch"):
        return
    yield Finding(
        "small batch",
        f"{size:g} examples a step, fewer than {limit('small_batch')}",
        "larger batches (accumulate), or stay with the baseline",
        "arXiv:2302.06675, limitations: likely no better than AdamW below 64",
    )


def drift(run: Evidence) -> Iterator[Finding]:
    """A scalar or an embedding goes one way by lr a step, however small its gradient."""
    if not run.is_sign_based:
        return
    for group in ("scalars", "embeddings"):
        sizes, flips = run.values(f"weight_rms/{group}"), run.values(f"sign_flips/{group}")
        if len(sizes) < 3 or not flips or sizes[0] <= 0:
            continue
        growth, share = sizes[-1] / sizes[0], statistics.median(flips)
        if growth < limit("drift_growth") or share >= limit("drift_flips"):
            continue
        yield Finding(
            f"{group} drift",
            f"their RMS grew {growth:.2g} times, from {sizes[0]:.2g} to {sizes[-1]:.2g}; only "
            f"{share:.0%} of their updates change sign",
            "a smaller lr for this group, or AdamW for it",
            "arXiv:2302.06675, Alg. 2: every update is lr, however small the gradient",
        )


def frozen_weights(run: Evidence) -> Iterator[Finding]:
    """An update below half of a weight's last digit is rounded away."""
    if str(run.settings.get("param_dtype", "")).split(".")[-1] not in ("bfloat16", "float16"):
        return
    shares = {g: later_half(run.values(f"zero_updates/{g}")) for g in run.groups_of("zero_updates")}
    frozen = {g: share for g, share in shares.items() if (share or 0) > limit("frozen_share")}
    if frozen:
        said = ", ".join(f"{share:.0%} of {group}" for group, share in frozen.items())
        yield Finding(
            "16-bit weights no longer move",
            f"a step leaves as they were: {said}",
            "float32 weights (train.param_dtype=float32), or optimizer.kahan_sum=true",
            "results/lean_state/README.md; arXiv:2010.06192 (bfloat16 training with Kahan sums)",
        )


def always_clipped(run: Evidence) -> Iterator[Finding]:
    """Clipping that always binds is a normalisation, not a guard."""
    share, norm = later_half(run.values("clip_share")), run.number("grad_clip_norm")
    norms = run.values("grad_norm")
    if share is None and norm and len(norms) >= 5:
        share = sum(value > norm for value in norms) / len(norms)
    if share is None or share <= limit("clip_share"):
        return
    at = f" at norm {norm:g}" if norm else ""
    typical = f"; typical norm {statistics.median(norms):.2g}" if norms else ""
    yield Finding(
        "clipping always on",
        f"{share:.0%} of the steps are clipped{at}{typical}",
        "raise train.grad_clip_norm above the typical norm, or leave it out",
        "arXiv:1211.5063, section 3.2: a threshold around the average norm",
    )


def momentum_reset(run: Evidence) -> Iterator[Finding]:
    """A checkpoint without the optimizer's state."""
    for step in run.resumed_at:
        for group in run.groups_of("momentum_rms"):
            series = _finite(run.series[f"momentum_rms/{group}"])
            before = [value for at, value in series if at <= step][-3:]
            after = next((value for at, value in series if at > step), None)
            if not before or after is None or statistics.median(before) <= 0:
                continue
            left = after / statistics.median(before)
            if left < limit("momentum_drop"):
                yield Finding(
                    "momentum reset at resume",
                    f"resumed at step {_step(step)}: the momentum of {group} falls to {left:.0%}",
                    "save and load optimizer.state_dict() with the weights",
                    "docs.pytorch.org, Saving and Loading Models: save the optimizer's state, too",
                )
                break


def applied_twice(run: Evidence) -> Iterator[Finding]:
    """An update of a sign is lr; one of 2 lr was made twice."""
    low, high = limit("twice")
    if not run.is_sign_based:
        return
    sizes = {}
    for group in run.groups_of("update_rms"):
        if group == "decay" and (run.number("weight_decay") or 0) > 0:
            continue  # decay adds to the sign
        rates = dict(run.series.get(f"lr/{group}", run.series.get("lr/no_decay", [])))
        rates = rates or dict(run.series.get("lr", []))
        times = [u / rates[s] for s, u in run.series[f"update_rms/{group}"] if rates.get(s)]
        found = later_half([t for t in times if math.isfinite(t)])
        if found is not None and low <= found <= high:
            sizes[group] = found
    if sizes:
        said = ", ".join(f"{size:.2f} lr ({group})" for group, size in sizes.items())
        yield Finding(
            "a step applied twice",
            f"updates have an RMS of {said}; a sign's is 1",
            "look for a second optimizer.step(), or a kernel that is autotuned in place",
            "arXiv:2302.06675, Alg. 2; triton.autotune runs a kernel several times on first use",
        )


def spikes_before_nan(run: Evidence) -> Iterator[Finding]:
    """Whether the loss warned."""
    series = run.series.get("loss", [])
    bad = next((place for place, (_, v) in enumerate(series) if not math.isfinite(v)), None)
    if bad is None:
        return
    warned = list(_spikes(series[:bad]))
    if not warned:
        yield Finding(
            "not finite without a warning",
            f"the loss is not finite at step {_step(series[bad][0])}, and no spike came before",
            "look at the data of that step, and at overflow (16 bits, log or division by 0)",
            "experiments.doctor: no spike in the losses that were logged",
        )
        return
    spiked = ", ".join(map(_step, warned[-3:]))
    yield Finding(
        "loss spikes before it diverged",
        f"not finite at step {_step(series[bad][0])}; spikes at {spiked}",
        "a smaller lr, a longer warm-up, or clipping at norm 1",
        "arXiv:2204.02311, section 5.1 (spikes); arXiv:2309.14322 (small-scale proxies for them)",
    )


def _spikes(series: Series) -> Iterator[float]:
    """Steps whose loss stands out of the 20 before, by robust standard deviations."""
    for place in range(5, len(series)):
        window = [value for _, value in series[max(0, place - 20) : place]]
        middle = statistics.median(window)
        spread = 1.4826 * statistics.median([abs(value - middle) for value in window])
        if series[place][1] > middle + limit("spike") * max(spread, 0.01 * abs(middle)):
            yield series[place][0]


def _step(step: float) -> str:
    """As a whole number, however large."""
    return f"{step:.0f}"


def _finite(series: Series) -> Series:
    return [(step, value) for step, value in series if math.isfinite(value)]


RULES: tuple[Rule, ...] = (
    decay_not_kept, final_lr_not_scaled, warmup_too_short, small_batch, drift, frozen_weights,
    always_clipped, momentum_reset, applied_twice, spikes_before_nan,
)  # fmt: skip


def examine(run: Evidence) -> list[Finding]:
    """Every finding of every rule."""
    return [finding for rule in RULES for finding in rule(run)]
