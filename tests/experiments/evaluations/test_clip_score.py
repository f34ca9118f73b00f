"""The CLIP score against a computation of its own, by the weights of a tiny model."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import tiny_clip
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from experiments.config import ConfigError
from experiments.evaluations import clip_score
from experiments.evaluations.clip_score import Clip, digest_of, open_clip

WORDS = ("a", "red", "green", "square")
CAPTIONS = ["a red square", "green", "a red square a green square a red square"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_clip.save(tmp_path_factory.mktemp("clip"), WORDS)


@pytest.fixture(scope="module")
def clip(folder: Path) -> Clip:
    return open_clip(str(folder), digest_of(folder))


def images(number: int, side: int = 24) -> Tensor:
    """Smooth ones: enlarged noise."""
    noise = torch.rand(number, 3, 5, 5, generator=torch.Generator().manual_seed(1))
    return (255 * functional.interpolate(noise, side, mode="bilinear")).to(torch.uint8)


def attended(x: Tensor, weights: dict[str, Tensor], name: str, allowed: Tensor) -> Tensor:
    """A transformer block's attention, written out."""
    head = 8
    q, k, v = (
        (x @ weights[f"{name}.{part}_proj.weight"].T + weights[f"{name}.{part}_proj.bias"])
        .unflatten(-1, (-1, head))
        .transpose(1, 2)
        for part in "qkv"
    )
    logits = (q @ k.transpose(2, 3) / head**0.5).masked_fill(~allowed, float("-inf"))
    mixed = (logits.softmax(-1) @ v).transpose(1, 2).flatten(2)
    return mixed @ weights[f"{name}.out_proj.weight"].T + weights[f"{name}.out_proj.bias"]


def norm(x: Tensor, weights: dict[str, Tensor], name: str) -> Tensor:
    return functional.layer_norm(
        x, x.shape[-1:], weights[f"{name}.weight"], weights[f"{name}.bias"]
    )


def blocks(x: Tensor, weights: dict[str, Tensor], tower: str, allowed: Tensor) -> Tensor:
    for layer in range(2):
        name = f"{tower}.encoder.layers.{layer}"
        x = x + attended(
            norm(x, weights, f"{name}.layer_norm1"), weights, f"{name}.self_attn", allowed
        )
        inner = norm(x, weights, f"{name}.layer_norm2")
        inner = inner @ weights[f"{name}.mlp.fc1.weight"].T + weights[f"{name}.mlp.fc1.bias"]
        inner = inner * torch.sigmoid(1.702 * inner)
        x = x + inner @ weights[f"{name}.mlp.fc2.weight"].T + weights[f"{name}.mlp.fc2.bias"]
    return x


def cosine_by_hand(weights: dict[str, Tensor], picture: Tensor, caption: str) -> float:
    """CLIP as its paper has it, of one image of the right size and one caption, in float64."""
    mean = torch.tensor([0.48145466, 0.4578275, 0.40821073]).double()[:, None, None]
    std = torch.tensor([0.26862954, 0.26130258, 0.27577711]).double()[:, None, None]
    pixels = ((picture.double() / 255 - mean) / std)[None]
    tower = "vision_model"
    patches = functional.conv2d(
        pixels, weights[f"{tower}.embeddings.patch_embedding.weight"], stride=8
    )
    first = weights[f"{tower}.embeddings.class_embedding"][None, None]
    x = torch.cat([first, patches.flatten(2).transpose(1, 2)], 1)
    x = x + weights[f"{tower}.embeddings.position_embedding.weight"]
    x = norm(x, weights, f"{tower}.pre_layrnorm")
    everything = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool)
    x = norm(blocks(x, weights, tower, everything)[:, 0], weights, f"{tower}.post_layernorm")
    seen = (x @ weights["visual_projection.weight"].T)[0]

    ids = [6, *(2 + WORDS.index(word) for word in caption.split())][:5] + [7]
    tower = "text_model"
    x = weights[f"{tower}.embeddings.token_embedding.weight"][ids][None]
    x = x + weights[f"{tower}.embeddings.position_embedding.weight"][: len(ids)]
    before = torch.ones(len(ids), len(ids)).tril().bool()
    x = norm(blocks(x, weights, tower, before), weights, f"{tower}.final_layer_norm")
    said = (x[:, -1] @ weights["text_projection.weight"].T)[0]
    return float(seen @ said / seen.norm() / said.norm())


def test_score_is_the_cosine_written_out(folder: Path, clip: Clip) -> None:
    from safetensors.torch import load_file

    weights = {k: v.double() for k, v in load_file(folder / "model.safetensors").items()}
    pictures = images(3)
    expected = [cosine_by_hand(weights, *pair) for pair in zip(pictures, CAPTIONS, strict=True)]
    found = clip.cosines(pictures, CAPTIONS)
    assert found.tolist() == pytest.approx(expected, abs=1e-5)
    assert max(expected) - min(expected) > 0.05 and min(expected) < max(expected) < 1


def test_one_pair_is_scored_as_among_others_and_bfloat16_around_it_changes_nothing(
    clip: Clip,
) -> None:
    together = clip.cosines(images(3), CAPTIONS)
    alone = [clip.cosines(images(3)[k : k + 1], CAPTIONS[k : k + 1]).item() for k in range(3)]
    assert together.tolist() == pytest.approx(alone, abs=1e-6)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(clip.cosines(images(3), CAPTIONS), together)


def test_images_of_another_size_are_resized_as_pillow_does(clip: Clip) -> None:
    """To the model's size, bicubic and with antialiasing; the crop takes the middle."""
    for side in (16, 64):
        pictures = images(3, side)
        resized = [
            Image.fromarray(p.permute(1, 2, 0).numpy()).resize((24, 24), Image.Resampling.BICUBIC)
            for p in pictures
        ]
        exact = torch.stack([torch.from_numpy(np.array(p)).permute(2, 0, 1) for p in resized])
        found = clip.cosines(pictures, CAPTIONS)
        assert found.tolist() == pytest.approx(clip.cosines(exact, CAPTIONS).tolist(), abs=0.02)


def test_the_row_says_by_what(folder: Path, clip: Clip, tmp_path: Path) -> None:
    facts = json.loads(json.dumps(clip.facts))
    assert facts["clip_sha256"] == digest_of(folder) and facts["clip"] == "mean cosine"
    assert facts["resize"]["size"] == {"shortest_edge": 24}
    copy = Path(shutil.copytree(folder, tmp_path / "copy"))
    (copy / "README.md").write_text("of no weight")
    (copy / "pytorch_model.bin").write_bytes(b"not read")
    assert digest_of(copy) == digest_of(folder)
    (copy / "preprocessor_config.json").write_text("{}")
    assert digest_of(copy) != digest_of(folder)


def test_what_is_missing_or_wrong_is_one_line(folder: Path, tmp_path: Path) -> None:
    right = digest_of(folder)
    with pytest.raises(ConfigError, match=r"clip.path is not set: .*or .* task.judge.clip=null"):
        open_clip(None, right)
    with pytest.raises(ConfigError, match=r"there is no config.json in it"):
        open_clip(str(tmp_path), right)
    with pytest.raises(ConfigError, match=f"is {right}, not given: .*clip.sha256={right}"):
        open_clip(str(folder), None)
    with pytest.raises(ConfigError, match=f"is {right}, not 0123"):
        open_clip(str(folder), "0123")
    with pytest.raises(ConfigError, match="needs images of 3 channels, these have 1"):
        open_clip(str(folder), right, num_channels=1)


@pytest.mark.parametrize(
    ("file", "content", "said"),
    [
        ("model.safetensors", None, "no CLIP model"),
        ("model.safetensors", b"damaged", "no CLIP model"),
        ("tokenizer.json", None, "AutoTokenizer finds nothing"),
        ("preprocessor_config.json", None, "CLIPImageProcessor finds nothing"),
    ],
)
def test_a_folder_that_lacks_a_part_is_refused(
    folder: Path, tmp_path: Path, file: str, content: bytes | None, said: str
) -> None:
    broken = Path(shutil.copytree(folder, tmp_path / "broken"))
    if content is None:
        (broken / file).unlink()
    else:
        (broken / file).write_bytes(content)
    with pytest.raises(ConfigError, match=said) as error:
        open_clip(str(broken), digest_of(broken))
    assert "\n" not in str(error.value) and clip_score.KEY in str(error.value)


def test_weights_that_are_not_there_are_not_drawn_at_random(folder: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    broken = Path(shutil.copytree(folder, tmp_path / "broken"))
    weights = load_file(folder / "model.safetensors")
    del weights["text_projection.weight"]
    save_file(weights, broken / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ConfigError, match="1 of its weights are not there, such as text_projec"):
        open_clip(str(broken), digest_of(broken))
