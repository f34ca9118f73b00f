"""The name that is meant where a key or a page is asked for that there is not.

Other tools have other words for the settings of a run: timm, transformers, Lightning,
torchrun, nanoGPT.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence

_OTHERS = {
    "optimizer.lr": "lr learning_rate base_lr max_lr peak_lr step_size",
    "optimizer.weight_decay": "weight_decay wd",
    "optimizer.betas": "betas beta1 beta2 b1 b2 adam_beta1 adam_beta2",
    "optimizer.eps": "eps epsilon opt_eps adam_epsilon",
    "train.batch_size": "batch_size bs batch global_batch_size train_batch_size",
    "train.micro_batch_size": (
        "per_device_train_batch_size gradient_accumulation_steps accumulate_grad_batches "
        "grad_accum_steps grad_accum accum accum_iter accumulation_steps"
    ),
    "train.steps": "max_steps num_steps max_iters iters iterations total_steps num_train_steps",
    "train.epochs": "num_epochs max_epochs num_train_epochs",
    "train.grad_clip_norm": "clip clip_grad clip_norm grad_clip max_grad_norm gradient_clip_val",
    "train.ema_decay": "ema model_ema model_ema_decay ema_rate",
    "train.precision": "precision amp amp_dtype bf16 fp16 fp32 mixed_precision dtype",
    "train.compile": "compile torchcompile torch_compile",
    "train.channels_last": "memory_format",
    "schedule.warmup_steps": "warmup warmup_iters num_warmup_steps warmup_epochs",
    "schedule.name": "sched scheduler schedule lr_scheduler lr_scheduler_type lr_schedule",
    "schedule.final_fraction": "min_lr min_lr_ratio",
    "launch.num_processes": (
        "gpu gpus devices num_gpus num_devices ngpus n_gpus nproc nproc_per_node world_size"
    ),
    "launch.strategy": "strategy fsdp ddp distributed",
    "launch.num_threads": "threads num_threads",
    "launch.timeout_minutes": "ddp_timeout nccl_timeout dist_timeout",
    "launch.log_every_steps": "log_every log_interval logging_steps log_every_n_steps",
    "data.root": "data_dir data_path data_root dataset_dir dataset_path path",
    "data.num_workers": "workers num_workers dataloader_num_workers",
    "data.input_size": "img_size image_size input_size resolution",
    "model.model_name": "arch model_name",
    "model.drop_path_rate": "drop_path stochastic_depth",
    "task.label_smoothing": "smoothing",
    "task.randaug_magnitude": "randaugment randaug aa auto_augment",
    "eval.every_steps": "eval_every eval_interval eval_steps val_check_interval",
    "checkpoint.every_steps": "save_every save_interval save_steps checkpoint_every",
    "start_from.source": "pretrained finetune init_from load_from initial_checkpoint",
    "results_dir": "out output out_dir output_dir save_dir log_dir logdir run_dir default_root_dir",
    "tracking.wandb": "wandb log_wandb use_wandb wandb_log report_to",
    "tracking.tensorboard": "tensorboard",
}
MEANT = {word: key for key, words in _OTHERS.items() for word in words.split()}
"""Last word of a key, as others write it -> the key here."""
TOLD: dict[str, str] = dict.fromkeys(
    ["resume", "auto_resume", "resume_from_checkpoint", "resume_from", "ckpt_path"],
    "the same command, called again, goes on where it stopped; start_from.source takes weights",
)
"""Last word of a key that is not needed here -> why."""
LIKE = 0.6
"""Likeness, of 0 to 1, from which on a name is taken for a mistyped one."""


def nearest(name: str, known: Sequence[str], where: str = "--cfg job") -> str:
    """`; did you mean X?`, or the list where it is short and nothing is near, or where it stands.

    Args:
        name: What was asked for.
        known: What there is.
        where: The flag that shows all: keys stand in --cfg job, pages in --help.
    """
    if ":" in name:  # YAML takes {a:1} for a key without a value
        return f"; write a space behind the colon: {name.partition(':')[0]}: VALUE"
    if told := TOLD.get(_last(name)):
        return f"; {told}"
    near = _meant(name, known)[:3]
    if near:
        return f"; did you mean {' or '.join(near)}?"
    return f"; there are: {', '.join(known)}" if 0 < len(known) <= 20 else f"; see {where}"


def _meant(name: str, known: Sequence[str]) -> list[str]:
    """What there is in that section, as another tool has it, in another, longer, or alike."""
    tail, plain = _last(name), name.lower()
    if alike := [key for key in known if key.lower() == plain]:
        return alike
    section = name[: -len(tail)]
    if len(tail) > 2 and (near := [k for k in known if section and _is_part(k, section, tail)]):
        return sorted(near, key=len)
    if (meant := MEANT.get(tail.replace("-", "_").lower(), "")) in known:
        return [meant]
    if same := [key for key in known if _last(key) == tail]:
        return same
    if meant:  # of other pages
        return []
    if len(name) > 1 and (longer := [k for k in known if _begins(k, name)]):
        return sorted(longer, key=len)
    likeness = {key: _likeness(name, key) for key in known}
    best = max(likeness.values(), default=0.0)
    return [k for k, value in likeness.items() if value >= LIKE and value > best - 0.01]


def _is_part(key: str, section: str, word: str) -> bool:
    return key.startswith(section) and word in key[len(section) :].partition(".")[0]


def _begins(key: str, name: str) -> bool:
    return key.startswith(name) or _last(key).startswith(name)


def _likeness(name: str, key: str) -> float:
    """Of two keys; of the last word where only one was said, if it is of about that length."""
    word = key if "." in name else _last(key)
    if abs(len(word) - len(name)) > 2 and word != key:
        return 0.0
    return difflib.SequenceMatcher(None, name, word).ratio()


def _last(key: str) -> str:
    return key.rpartition(".")[2]
