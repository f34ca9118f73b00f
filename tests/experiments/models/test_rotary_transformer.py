"""The small transformer is GPT-NeoX's with one block behind the other, from other code."""

from __future__ import annotations

import pytest
import torch

from experiments.models.rotary_transformer import RotaryTransformer

WIDTH, HEADS, DEPTH, SYMBOLS = 32, 4, 2, 19
SAME = {
    "attention.dense": "attention_out",
    "input_layernorm": "attention_norm",
    "post_attention_layernorm": "mlp_norm",
    "mlp.dense_h_to_4h": "mlp_in",
    "mlp.dense_4h_to_h": "mlp_out",
}
"""Theirs: ours. Their queries, keys and values lie head by head."""


def test_logits_are_those_of_gpt_neox() -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.GPTNeoXConfig(
        vocab_size=SYMBOLS, hidden_size=WIDTH, num_hidden_layers=DEPTH, num_attention_heads=HEADS,
        intermediate_size=4 * WIDTH, hidden_act="gelu", layer_norm_eps=1e-6,
        use_parallel_residual=False, max_position_embeddings=64,
        rope_parameters={
            "rope_type": "default", "rope_theta": 10_000.0, "partial_rotary_factor": 1.0
        },
    )  # fmt: skip
    theirs = transformers.GPTNeoXModel(config).eval()
    torch.manual_seed(0)
    ours = RotaryTransformer(SYMBOLS, WIDTH, DEPTH, HEADS)
    for parameter in ours.parameters():  # biases and gains, too
        torch.nn.init.normal_(parameter, std=0.3)
    state = {"embed_in.weight": ours.embedding.weight}
    state |= {f"final_layer_norm.{n}": p for n, p in ours.norm.named_parameters()}
    for number, block in enumerate(ours.blocks):
        layer = f"layers.{number}"
        for name, own in SAME.items():
            module = block.get_submodule(own)
            state |= {f"{layer}.{name}.{n}": p for n, p in module.named_parameters()}
        for n, p in block.get_submodule("qkv").named_parameters():
            by_head = p.unflatten(0, (3, HEADS, -1)).transpose(0, 1).flatten(0, 2)
            state[f"{layer}.attention.query_key_value.{n}"] = by_head
    theirs.load_state_dict(state)
    tokens = torch.randint(0, SYMBOLS, (3, 40))
    with torch.no_grad():
        wanted = ours.head(theirs(input_ids=tokens).last_hidden_state)
        torch.testing.assert_close(ours(tokens), wanted, rtol=1e-4, atol=1e-4)
