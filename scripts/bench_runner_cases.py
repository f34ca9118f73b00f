"""What `bench_runner.py` trains: model, task, size, batch, steps of a turn and the goal of each."""

from __future__ import annotations

from typing import Any

VIT = {"_target_": "timm.models.VisionTransformer", "in_chans": 3, "num_classes": 10}
CLASSIFY = {
    "_target_": "experiments.tasks.image.ImageClassification",
    "horizontal_flip": 0.0,
}
DENOISE = {
    "_target_": "experiments.tasks.diffusion.Diffusion",
    "horizontal_flip": 0.0,
    "judge": {"sampling": {}},
}
CASES: dict[str, dict[str, Any]] = {
    "small": {
        "about": "ViT, width 64, depth 2, 8x8 patches of 32x32 images, batch 64",
        "model": {
            **VIT,
            "img_size": 32,
            "patch_size": 8,
            "embed_dim": 64,
            "depth": 2,
            "num_heads": 4,
        },
        "size": 32,
        "batch": 64,
        "steps": 60,
        "goal": 0.93,
    },
    "tiny": {
        "about": "tiny ViT (width 192, depth 4), 4x4 patches of 32x32 images, batch 128",
        "model": {
            **VIT,
            "img_size": 32,
            "patch_size": 4,
            "embed_dim": 192,
            "depth": 4,
            "num_heads": 3,
        },
        "size": 32,
        "batch": 128,
        "steps": 8,
        "goal": 0.97,
    },
    "vit_small": {
        "about": "vit_small_patch16_224, batch 8",
        "model": {
            "_target_": "timm.create_model",
            "model_name": "vit_small_patch16_224",
            "num_classes": 10,
        },
        "size": 224,
        "batch": 8,
        "steps": 6,
        "goal": 0.97,
    },
    "diffusion": {
        "about": "the U-Net of diffusion_proxy on 8x8 images of 3 channels, batch 32",
        "task": DENOISE,
        "model": {
            "_target_": "experiments.models.diffusion_unet.DiffusionUNet",
            "sample_size": 8,
            "in_channels": 3,
            "out_channels": 3,
            "block_out_channels": [16, 32],
            "layers_per_block": 1,
            "attention_resolutions": [4],
            "num_class_embeds": 10,
            "attention_head_dim": 8,
            "norm_num_groups": 8,
        },
        "size": 8,
        "batch": 32,
        "steps": 30,
        "goal": 0.97,
    },
    "diffusion_64px": {
        "about": "the U-Net of diffusion_imagenet64 at a third of its width, batch 2",
        "task": DENOISE,
        "model": {
            "_target_": "experiments.models.diffusion_unet.DiffusionUNet",
            "sample_size": 64,
            "in_channels": 3,
            "out_channels": 3,
            "block_out_channels": [64, 128, 192, 256],
            "layers_per_block": 3,
            "attention_resolutions": [32, 16, 8],
            "num_class_embeds": 10,
            "attention_head_dim": 32,
        },
        "size": 64,
        "batch": 2,
        "steps": 2,
        "goal": 0.97,
    },
    "lm_proxy": {
        "about": "the model of lm_proxy, 16 sequences of 32 tokens",
        "model": {
            "_target_": "experiments.models.rotary_transformer.RotaryTransformer",
            "vocab_size": 67,
            "width": 32,
        },
        "tokens": 32,
        "vocab": 67,
        "batch": 16,
        "steps": 200,
        "goal": 0.97,
    },
    "lm_small": {
        "about": "the model of lm_small_wiki40b, 4 sequences of 512 tokens",
        "model": {
            "_target_": "experiments.models.from_transformers.from_config",
            "model_name": "GPT2LMHeadModel",
            "vocab_size": 32000,
            "n_positions": 1024,
            "resid_pdrop": 0.0,
            "embd_pdrop": 0.0,
            "attn_pdrop": 0.0,
            "bos_token_id": 1,
            "eos_token_id": 1,
        },
        "tokens": 512,
        "vocab": 32000,
        "batch": 4,
        "steps": 2,
        "goal": 0.97,
    },
}
