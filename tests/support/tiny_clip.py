"""A CLIP model of a few thousand random weights, saved as transformers saves them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

SIDE = 24
"""Of the images that it sees."""


def save(folder: Path, words: Sequence[str], seed: int = 0) -> Path:
    """Writes model, tokenizer and image processor; captions of at most 6 tokens."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace
    from tokenizers.processors import TemplateProcessing
    from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, PreTrainedTokenizerFast

    # As in the real one the end has the highest number, by which the model finds it.
    known = {word: k for k, word in enumerate(["<pad>", "<unk>", *words, "<s>", "</s>"])}
    start, end = len(known) - 2, len(known) - 1
    tokenizer = Tokenizer(WordLevel(known, unk_token="<unk>"))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.post_processor = TemplateProcessing(
        "<s> $A </s>", None, [("<s>", start), ("</s>", end)]
    )
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    ).save_pretrained(folder)
    CLIPImageProcessor(
        size={"shortest_edge": SIDE}, crop_size={"height": SIDE, "width": SIDE}
    ).save_pretrained(folder)
    shape = {
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
    }
    text = {
        **shape,
        "vocab_size": len(known),
        "max_position_embeddings": 6,
        "bos_token_id": start,
        "eos_token_id": end,
        "pad_token_id": 0,
    }
    vision = {**shape, "image_size": SIDE, "patch_size": 8}
    torch.manual_seed(seed)
    config = CLIPConfig(text_config=text, vision_config=vision, projection_dim=8)
    model = CLIPModel(config)
    for weights in model.parameters():  # far from those that differ by nothing one could see
        torch.nn.init.normal_(weights, std=0.3)
    model.save_pretrained(folder)
    return folder
