"""The typed schema of a run, its checks and its identity.

Standard library only, so that `python run.py --help` stays quick. Hydra composes the pages of
`conf/` into these dataclasses; an unknown key or a wrong type is refused while composing;
`experiments.checks` refuses combinations that cannot work. Every message names the remedy.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields, is_dataclass
from typing import Any

JOBS = {
    "train": "experiments.runner",
    "evaluate": "experiments.jobs.evaluate",
    "landscape": "experiments.jobs.landscape",
    "plan": "experiments.jobs.plan",
    "search": "experiments.jobs.search",
}
"""Name of a job: the module whose `main(config)` does it and returns the exit code."""

JOBS_OF_THE_COMMAND_LINE = ("compare",)
"""Jobs of many runs, which `run.py` starts before one is composed."""
WITHOUT_DATA = ("plan",)
"""Jobs that need no data to be there."""


class UserError(Exception):
    """Something the user can mend; shown as one line, without a traceback, with exit code 2."""


class ConfigError(UserError):
    """A configuration that cannot work; the message names the key and the fix."""


@dataclass
class ScheduleConfig:
    """Learning rate over the steps of a run; see `experiments.schedule`."""

    name: str = "cosine"  # cosine | linear | constant | rsqrt
    warmup_steps: int | None = None  # linear warm-up, in optimizer steps
    warmup_fraction: float = 0.0  # of all steps; used where warmup_steps is null
    final_fraction: float = 0.0  # of the peak lr, where the decay ends; cosine and linear
    timescale: int = 10_000  # rsqrt: steps after the warm-up in which the lr falls to 1 / sqrt(2)
    cooldown_steps: int = 0  # rsqrt and constant: last steps, over which it falls linearly to 0


@dataclass
class TrainConfig:
    """What one training run does."""

    epochs: float | None = None  # passes over the training set; exactly one of epochs and steps
    steps: int | None = None  # optimizer steps
    batch_size: int = 64  # examples per optimizer step, over all processes
    micro_batch_size: int | None = None  # examples per forward pass; null: batch_size / processes
    grad_clip_norm: float | None = None  # global L2 norm; null: no clipping
    ema_decay: float | None = None  # Polyak averaging per step; null: none
    precision: str = "auto"  # auto (bf16 on GPUs, fp32 on CPU) | fp32 | bf16
    param_dtype: str = "float32"  # of weights, gradients, optimizer: float32 | bfloat16 (with bf16)
    compile: bool = False  # torch.compile of the model
    channels_last: bool = False  # memory format of images and convolutions
    deterministic: bool = False  # refuse non-deterministic kernels (slower on GPUs)


@dataclass
class ParamGroupsConfig:
    """Which parameters decay, and which are not trained; see `lion.param_groups`."""

    no_decay_1d: bool = True  # biases and norm scales do not decay
    no_decay: list[str] = field(default_factory=list)  # name patterns without decay
    decay_multipliers: dict[str, float] = field(default_factory=dict)  # pattern: times the decay
    frozen: list[str] = field(default_factory=list)  # name patterns that are not trained


@dataclass
class EvalConfig:
    """When and how to evaluate. The last step is always evaluated."""

    every_epochs: float | None = None  # at most one of every_epochs and every_steps
    every_steps: int | None = None
    batch_size: int = 256  # examples per forward pass and process
    weights: str | None = None  # that decide: raw | ema (averaged); null: the task's choice


@dataclass
class CheckpointConfig:
    """When to save. A run also saves when it is told to stop (SIGTERM, SIGINT)."""

    every_steps: int | None = None
    every_seconds: float | None = 600.0
    keep: int = 2  # newest good checkpoints to keep
    format: str = "auto"  # whole (one file) | sharded (a file a process) | auto: as the model is
    asynchronous: bool = False  # write shards while training goes on, from a copy in host memory
    step: int | None = None  # job=evaluate: of the checkpoint to measure; null: the newest


@dataclass
class LaunchConfig:
    """Where and how to run. Nothing here changes which run this is."""

    num_processes: int = 1  # on this machine; torchrun sets it itself
    strategy: str = "ddp"  # ddp (each holds all) | fsdp (all share one) | hsdp (groups share one)
    shard_size: int | None = None  # hsdp: processes that share one model; null: those of a host
    device: str = "auto"  # auto | cpu | cuda
    num_threads: int | None = None  # torch threads per process; null: its share of the cores
    timeout_minutes: float | None = None  # that another process is waited for; null: 30, on GPUs 10
    log_every_steps: int = 50  # optimizer steps between ledger rows of the training loss
    progress: bool = True  # live line on a terminal


@dataclass
class TrackingConfig:
    """Mirrors of the ledger. They are never needed, and never stop a run."""

    wandb: str = "disabled"  # disabled | offline | online
    wandb_project: str = "lion-experiments"
    tensorboard: bool = False
    telemetry_every_steps: int | None = None  # rows on updates and signs; null: none


@dataclass
class ProvenanceConfig:
    """Where the numbers of this run come from."""

    source: str = "untuned"  # paper table, or the sweep that found the numbers
    assumed: list[str] = field(default_factory=list)  # what the source leaves unsaid, and why so
    experiment_source: str = ""  # source of the experiment page
    experiment_assumed: list[str] = field(default_factory=list)


@dataclass
class LandscapeConfig:
    """`job=landscape`; see `experiments.jobs.landscape`. Nothing here changes which run this is.

    The paper does not state the scale of its noise, so the scales are assumed.
    """

    sigmas: list[float] = field(default_factory=lambda: [0.01, 0.02, 0.05])  # of each weight
    relative_scales: list[float] = field(default_factory=lambda: [0.1, 0.3, 0.5])  # of each filter
    num_draws: int = 100  # of noise per scale, in antithetic pairs, >= 4; the paper has 1000
    num_examples: int = 1024  # training examples behind a loss; at most the training set
    batch_size: int = 256  # examples per forward pass
    hessian_examples: int = 512  # behind the top eigenvalue, at most num_examples; 0: none
    hessian_tolerance: float = 1e-3  # relative, of the top eigenvalue
    hessian_iterations: int = 100  # Lanczos restarts before giving up
    seed: int = 0  # of examples and noise; the same for all runs, so that they are paired


@dataclass
class PlanConfig:
    """`job=plan`; see `experiments.planner`. Nothing here changes which run this is."""

    format: str = "text"  # text | json: one JSON object
    peak_fraction: float = 0.4  # of a card's peak rate that training reaches: assumed
    usable_memory: float = 0.9  # of a device's; the rest: context, workspaces, fragments: assumed


@dataclass
class RunConfig:
    """One training run. `experiments.identity` says which parts make it another run."""

    job: str = "train"  # train | plan | search | evaluate | landscape (both: its last checkpoint)
    run: str = ""  # id of a recorded run to take instead of pages; not with job=train
    evaluation: str = ""  # job=evaluate: name of what to measure; empty: what a run ends with
    experiment: str = ""  # name of the page in conf/experiment, set while composing
    optimizer_name: str = ""  # name of the page in conf/optimizer, set while composing
    scale: str = "paper"  # paper | proxy: a stand-in says so in every row
    stands_for: str = ""  # a proxy names the experiment it stands in for
    seed: int = 0
    task: Any = None  # _target_ of a task and its settings
    data: dict[str, Any] = field(default_factory=dict)  # _target_ of a data source, its settings
    model: dict[str, Any] = field(default_factory=dict)  # _target_ of a model and its arguments
    optimizer: dict[str, Any] = field(default_factory=dict)
    start_from: Any = field(  # whose weights to begin with; see experiments.start_from
        default_factory=lambda: {
            "source": None,  # id of a run, or path of a file; null: fresh weights
            "weights": "raw",  # raw | ema, where the source has both
            "leave_out": [],  # patterns of names that keep fresh weights, e.g. head.*
            "into": "",  # prefix of the model's part that they are for
            "take": "",  # prefix of the source's part to take
            "grid": None,  # rows and columns of its patches, where nothing tells them, e.g. [4,16]
            "sha256": "",  # of the file; another content is refused
        }
    )
    param_groups: ParamGroupsConfig = field(default_factory=ParamGroupsConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    eval: EvalConfig = field(default_factory=EvalConfig)
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
    launch: LaunchConfig = field(default_factory=LaunchConfig)
    tracking: TrackingConfig = field(default_factory=TrackingConfig)
    landscape: LandscapeConfig = field(default_factory=LandscapeConfig)
    plan: PlanConfig = field(default_factory=PlanConfig)
    search: dict[str, Any] = field(default_factory=dict)  # see experiments.search.settings
    provenance: ProvenanceConfig = field(default_factory=ProvenanceConfig)
    results_dir: str = "results/runs"


def to_dict(config: RunConfig) -> dict[str, Any]:
    """The whole configuration as plain dicts and lists."""
    return asdict(config)


def from_dict(plain: dict[str, Any]) -> RunConfig:
    """Reads back what `to_dict` gave.

    Raises:
        ConfigError: for a key that the schema does not know.
    """
    sections = {
        f.name: f.default_factory for f in fields(RunConfig) if is_dataclass(f.default_factory)
    }
    try:
        built: dict[str, Any] = {
            k: sections[k](**v) if k in sections else v for k, v in plain.items()
        }
        return RunConfig(**built)
    except TypeError as error:
        raise ConfigError(f"a saved configuration of another version: {error}") from error
