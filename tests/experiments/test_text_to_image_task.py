"""Text to image: a tiny T5 and tiny pictures; embeddings once, guidance, super-resolution."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import forked
import numpy as np
import pytest
import tiny_clip
import torch
from PIL import Image

from experiments import compose, runner
from experiments.config import ConfigError, RunConfig, UserError
from experiments.data import caption_embeddings, captioned_images
from experiments.data.locate import DataMissing, check_section
from experiments.evaluations.clip_score import digest_of
from experiments.identity import run_id
from experiments.start_from import checksum
from experiments.store import read_rows
from experiments.tasks.text_to_image import TextToImage

COLOURS = {"red": (220, 30, 30), "green": (30, 200, 40), "blue": (20, 40, 230)}
CLASSIFIER = (
    "{_target_: experiments.evaluations.extractors.classifier, path: %s, model: {_target_: "
    "experiments.models.feature_classifier.FeatureClassifier, side: 16, in_chans: 3}}"
)


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A T5 of 8 words, a CLIP, a classifier, 24 + 9 pictures with captions; all made here."""
    from safetensors.torch import save_file
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace
    from transformers import PreTrainedTokenizerFast, T5Config, T5EncoderModel

    from experiments.models.feature_classifier import FeatureClassifier

    root = tmp_path_factory.mktemp("lab")
    words = ["<pad>", "</s>", "<unk>", "a", "square", *COLOURS]
    tokenizer = Tokenizer(WordLevel({word: k for k, word in enumerate(words)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = Whitespace()
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    ).save_pretrained(root / "encoder")
    torch.manual_seed(0)
    shape = {"d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 1, "num_heads": 2}
    T5EncoderModel(T5Config(vocab_size=8, **shape)).save_pretrained(root / "encoder")
    tiny_clip.save(root / "clip", ["a", "square", *COLOURS])
    save_file(FeatureClassifier(16, 3).state_dict(), root / "classifier.safetensors")
    for split, number in (("train", 24), ("val", 9)):
        (root / split).mkdir()
        lines = []
        for k in range(number):
            name, colour = list(COLOURS.items())[k % 3]
            pixels = np.full((20, 16, 3), 128, np.uint8)
            pixels[4 : 12 + k % 4, 3:13] = colour
            Image.fromarray(pixels).save(root / split / f"{k}.png")
            lines.append(json.dumps({"file": f"{k}.png", "caption": f"a {name} square"}))
        (root / split / "captions.jsonl").write_text("\n".join(lines) + "\n")
    return root


@pytest.fixture(autouse=True)
def cached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def config(lab: Path, root: Path, page: str, *changes: str) -> RunConfig:
    sampling = "sampler: ddim, num_steps: 2, num_samples: 9, guidance: 3.0, threshold: 0.9"
    words = [
        *(f"experiment={page}", "optimizer=lion", f"results_dir={root}", f"data.root={lab}"),
        *(f"data.encoder={lab}/encoder", f"data.encoder_sha256={checksum(lab / 'encoder')}"),
        *(f"task.judge.clip.path={lab}/clip", f"task.judge.clip.sha256={digest_of(lab / 'clip')}"),
        *("data.num_train=24", "data.input_size=16", "data.num_tokens=4", "data.embed_dim=16"),
        *("model.sample_size=16", "model.block_out_channels=[8,16]", "model.layers_per_block=1"),
        *(
            "model.cross_attention=[false,true]",
            "model.cross_attention_dim=16",
            "model.embed_dim=16",
        ),
        *("+model.attention_head_dim=8", "+model.norm_num_groups=4", "+model.pooling_heads=2"),
        *("train.steps=4", "train.batch_size=8", "train.micro_batch_size=null"),
        *("schedule.warmup_steps=1", "train.precision=fp32", "train.ema_decay=0.5"),
        *("eval.every_steps=4", "eval.batch_size=4", "tracking.wandb=disabled"),
        *("launch.progress=false", "launch.log_every_steps=1", "launch.device=cpu"),
        *("checkpoint.every_seconds=null", "task.num_time_steps=50", "optimizer.lr=1e-3"),
        *(f"task.judge.sampling.quick={{{sampling}}}", "task.judge.sampling.paper=null"),
    ]
    made = compose.compose([*words, *changes])
    extractor = CLASSIFIER % (lab / "classifier.safetensors")
    import yaml

    made.task["judge"]["extractor"] = yaml.safe_load(extractor)
    return made


def rows_of(made: RunConfig, metric: str) -> list[dict[str, Any]]:
    path = Path(made.results_dir) / run_id(made) / "metrics.jsonl"
    return [row for row in read_rows(path) if row["metric"] == metric]


@pytest.mark.parametrize(
    ("page", "changes"),
    [("imagen_base64", ()), ("imagen_sr256", ("task.low_resolution=4",))],
)
def test_pages_train_and_draw(
    lab: Path, tmp_path: Path, page: str, changes: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed and resumed is bit-equal; the encoder is asked once; samples have their distance."""
    calls, fill = [], caption_embeddings._fill
    monkeypatch.setattr(caption_embeddings, "_fill", lambda *a: (calls.append(1), fill(*a))[1])
    whole = config(lab, tmp_path / "a", page, *changes, "checkpoint.every_steps=2")
    part = replace(whole, results_dir=str(tmp_path / "b"))
    runner.run(whole)
    loss, steps = TextToImage.loss, iter(range(1, 99))

    def dies(self: Any, *args: Any) -> Any:
        if next(steps) == 4:
            raise RuntimeError("killed")
        return loss(self, *args)

    with monkeypatch.context() as patch, pytest.raises(RuntimeError, match="killed"):
        patch.setattr(TextToImage, "loss", dies)
        runner.run(part)
    runner.run(part)
    forked.assert_same_end(whole, part)
    assert len(calls) == 2  # once for each split
    (row,) = [r for r in rows_of(whole, "fd9_ddim2_g3") if r["weights"] == "ema"]
    instrument = json.loads(row["instrument"])
    assert instrument["reference"] == "9 images of val" and instrument["guidance"] == 3.0
    clip = [r for r in rows_of(whole, "clip_score9_ddim2_g3") if r["weights"] == "ema"][0]
    told = json.loads(clip["instrument"])
    assert told["clip_sha256"] == digest_of(lab / "clip") and told["steps"] == 2
    assert "clip" not in row["instrument"]  # another CLIP does not make another distance
    assert (clip["n"], clip["better"], clip["unit"]) == (9, "higher", "")
    assert [r["n"] for r in rows_of(whole, "eps_loss")] == [9, 9]
    assert not rows_of(whole, "agreement9_ddim2_g3")  # nobody says what a caption's class is
    first = next(r for r in rows_of(whole, "loss") if r["split"] == "train")
    assert first["value"] == pytest.approx(1.0, abs=0.1)


def test_micro_batches_train_like_one(lab: Path, tmp_path: Path) -> None:
    sgd = ("optimizer=sgd", "optimizer.momentum=0.9", "optimizer.weight_decay=0")
    small = ("task.low_resolution=4", "task.judge.sampling.quick=null", *sgd)
    one = config(lab, tmp_path / "one", "imagen_sr256", *small)
    cut = config(lab, tmp_path / "cut", "imagen_sr256", *small, "train.micro_batch_size=2")
    for made in (one, cut):
        runner.run(made)
    ours, theirs = ([r["value"] for r in rows_of(m, "loss")] for m in (one, cut))
    assert ours == pytest.approx(theirs, rel=2e-5)


@pytest.mark.parametrize("side", ["right", "left"])
def test_embeddings_are_those_of_the_encoder_and_end_where_the_caption_ends(
    lab: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, side: str
) -> None:
    """On whichever side the tokenizer's own files say that it pads."""
    from transformers import AutoTokenizer, T5EncoderModel

    load_part = caption_embeddings.load_part

    def padding(*given: Any) -> Any:
        tokenizer = load_part(*given)
        tokenizer.padding_side = side
        return tokenizer

    monkeypatch.setattr(caption_embeddings, "load_part", padding)
    sha = checksum(lab / "encoder")
    captions = captioned_images.Listed(["a red square", "blue", "a green square a red square"])
    found = caption_embeddings.embed(captions, "x", str(lab / "encoder"), 4, str(tmp_path), sha)
    values, mask = found.take(np.array([1, 0]))
    assert mask.tolist() == [[True, False, False, False], [True, True, True, False]]
    assert not values[0, 1:].any() and found.lengths.tolist() == [3, 1, 4]
    model = T5EncoderModel.from_pretrained(lab / "encoder").eval()
    ids = AutoTokenizer.from_pretrained(lab / "encoder")("a red square", return_tensors="pt")
    with torch.no_grad():
        expected = model(**{k: ids[k] for k in ("input_ids", "attention_mask")}).last_hidden_state
    torch.testing.assert_close(values[1, :3], expected[0], rtol=2e-3, atol=2e-3)
    with pytest.raises(ConfigError, match=f"not given.*set data.encoder_sha256={sha}"):
        caption_embeddings.embed(captions, "x", str(lab / "encoder"), 4, str(tmp_path), "")


def test_what_is_missing_is_one_line(lab: Path, tmp_path: Path) -> None:
    made = config(lab, tmp_path, "imagen_base64")
    check_section(made.data)
    for key, said in (("root", "no train/captions.jsonl"), ("encoder", "no config.json")):
        with pytest.raises(DataMissing, match=f"data.{key}={tmp_path}: there is {said}"):
            check_section({**made.data, key: str(tmp_path)})
        with pytest.raises(DataMissing, match=f"data.{key} is not set.*experiment="):
            check_section({**made.data, key: None})
    half = tmp_path / "half"
    (half / "train").mkdir(parents=True)
    (half / "train/captions.jsonl").touch()
    with pytest.raises(DataMissing, match=f"data.root={half}: there is no val/captions.jsonl"):
        check_section({**made.data, "root": str(half)})
    made.data["num_train"] = 25
    with pytest.raises(ConfigError, match="lists 24 training images: set data.num_train=24"):
        runner.run(made)
    bad = tmp_path / "bad"
    for number, entry in enumerate(('"file": "0.png"', '"file": "0", "caption": " "', "[" * 10**5)):
        (bad / f"{number}").mkdir(parents=True)
        (bad / f"{number}/captions.jsonl").write_text(f"{{{entry}}}\n")
        with pytest.raises(UserError, match="line 1: must be .*caption"):
            captioned_images._read(str(bad), f"{number}")
    (bad / "0/captions.jsonl").write_text('{"file": "0.png", "caption": "a \\ud83d"}\r\n')
    captioned_images._read.cache_clear()
    assert captioned_images._read(str(bad), "0") == [(f"{bad}/0/0.png", "a \ufffd")]
    small = config(lab, tmp_path, "imagen_sr256", "task.low_resolution=5")
    with pytest.raises(ConfigError, match="low_resolution=5: must divide the 16 pixels"):
        runner.run(small)


def test_an_image_to_train_on_is_not_validated_on(tmp_path: Path) -> None:
    for split, names in (("train", ("../all/0.png", "1.png")), ("val", ("../all/0.png", "1.png"))):
        lines = [json.dumps({"file": name, "caption": "a square"}) for name in names]
        (tmp_path / split).mkdir()
        (tmp_path / split / "captions.jsonl").write_text("\n".join(lines))
    source = captioned_images.CaptionedImages("toy", 2, str(tmp_path))
    with pytest.raises(ConfigError, match=r"1 of 2 images of val .* in train, too, .*/all/0\.png"):
        source._embeddings("train")


def test_pieces_that_are_there_are_not_embedded_again(
    lab: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Processes begin at different pieces; what a killed one left is gone on with."""
    monkeypatch.setattr(caption_embeddings, "PIECE", 2)
    sha, encoder = checksum(lab / "encoder"), str(lab / "encoder")
    captions = captioned_images.Listed([f"a {c} square" for c in (*COLOURS, "red", "green")])
    hidden, done = caption_embeddings._hidden, []

    def counted(model: Any, tokenizer: Any, texts: list[str], num_tokens: int) -> Any:
        if len(done) == 2:
            raise RuntimeError("killed")
        done.append(texts[0])
        return hidden(model, tokenizer, texts, num_tokens)

    monkeypatch.setattr(caption_embeddings, "_hidden", counted)
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(RuntimeError, match="killed"):
        caption_embeddings.embed(captions, "x", encoder, 4, str(tmp_path), sha)
    assert done == ["a blue square", "a green square"]  # of three pieces the second and third
    done.pop()
    found = caption_embeddings.embed(captions, "x", encoder, 4, str(tmp_path), sha)
    assert done[1:] == ["a red square"]
    monkeypatch.setattr(caption_embeddings, "PIECE", 8)
    monkeypatch.setattr(caption_embeddings, "_hidden", hidden)
    whole = caption_embeddings.embed(captions, "y", encoder, 4, str(tmp_path), sha)
    rows = np.array([4, 0, 2])
    monkeypatch.setattr(caption_embeddings, "PIECE", 2)
    in_pieces, mask = found.take(rows)
    monkeypatch.setattr(caption_embeddings, "PIECE", 8)
    torch.testing.assert_close(in_pieces, whole.take(rows)[0], rtol=2e-3, atol=2e-3)
    assert torch.equal(mask, whole.take(rows)[1])


def test_an_encoder_of_another_kind_is_refused(lab: Path, tmp_path: Path) -> None:
    """Weights that are not there would be drawn at random, and the run train on noise."""
    made = config(lab, tmp_path, "imagen_base64", f"data.encoder={lab}/clip")
    made.data["encoder_sha256"] = checksum(lab / "clip")
    with pytest.raises(ConfigError, match="data.encoder=.*/clip: no T5 encoder"):
        runner.run(made)


def test_the_clip_score_asks_for_its_model_and_can_be_left_out(lab: Path, tmp_path: Path) -> None:
    from experiments.build import build

    def task_of(made: RunConfig) -> TextToImage:
        return build(made.task, "task", data=made.data, model=made.model)

    with pytest.raises(ConfigError, match=r"clip.path is not set.*task.judge.clip=null"):
        task_of(config(lab, tmp_path, "imagen_base64", "task.judge.clip.path=null"))
    made = config(lab, tmp_path, "imagen_base64", "task.judge.clip=null")
    assert task_of(made).clip is None and run_id(made) == run_id(
        config(lab, tmp_path, "imagen_base64")
    )
    source = task_of(made).source
    assert source.captions("val", [0, 8, 9, 10]) == [
        f"a {name} square" for name in ("red", "blue", "red", "green")
    ]
    with pytest.raises(ConfigError, match="no such|not in"):
        compose.compose(["experiment=diffusion_proxy", "task.judge.clip.path=/x"])
