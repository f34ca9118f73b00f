"""What other tools call the settings of a run: timm, transformers, Lightning, torchrun, nanoGPT."""

from __future__ import annotations

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
