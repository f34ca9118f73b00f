"""Pictures of characters: held out are the same ones everywhere, and classes are what names say."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch

import run
from experiments.analysis.figures import lit
from experiments.data import bundled_glyphs
from experiments.evaluations.prompts import read_prompts


@pytest.fixture(scope="module")
def pairs():
    return bundled_glyphs.glyphs("glyphs")


def test_held_out_characters_are_in_no_other_split(pairs) -> None:
    """The page says how many there are."""
    sizes = {split: len(captions) for split, (_, captions) in pairs.splits.items()}
    assert sizes == {"train": 8817, "val": 800, "test": 800}
    names = {split: set(captions) for split, (_, captions) in pairs.splits.items()}
    assert len(names["train"]) == 2847 and len(names["val"]) == len(names["test"]) == 800
    assert not names["train"] & names["val"] and not (names["train"] | names["val"]) & names["test"]
    text = (run.CONF / "data/glyphs.yaml").read_text()
    assert "2,847 characters" in text and "8,817 pairs" in text
    pixels = pairs.splits["train"][0]
    assert (
        pixels.shape[1:] == (1, 24, 24) and float(pixels.min()) == -1 and float(pixels.max()) == 1
    )


def test_as_many_pictures_look_like_training_as_the_page_says(pairs) -> None:
    seen = {row.numpy().tobytes() for row in pairs.splits["train"][0]}
    alike = sum(row.numpy().tobytes() in seen for row in pairs.splits["val"][0])
    assert alike == pytest.approx(75, abs=10)  # fonts are drawn a little differently elsewhere


def test_the_tower_never_sees_a_held_out_character(pairs) -> None:
    data = bundled_glyphs.glyph_identities("glyph_identities")
    assert data.num_classes == 2847
    train, labels = data.splits["train"]
    assert torch.equal(train, pairs.splits["train"][0])
    names = dict(zip(labels.tolist(), pairs.splits["train"][1], strict=True))
    assert len(names) == len(set(names.values())) == 2847
    for split in ("val", "test"):
        assert len(data.splits[split][1]) > 1000
        assert set(data.splits[split][1].tolist()) <= set(names)


def test_scripts_are_the_first_words_of_names_and_none_decides_alone(pairs) -> None:
    data = bundled_glyphs.glyph_scripts("glyph_scripts")
    for split in ("val", "test"):
        counts = np.bincount(data.splits[split][1].numpy(), minlength=10)
        assert counts.min() > 5 and counts.max() == bundled_glyphs.MOST_OF_A_SCRIPT
        named = {
            image.numpy().tobytes(): name.split()[0]
            for image, name in zip(*pairs.splits[split], strict=True)
        }
        first = [named[image.numpy().tobytes()] for image in data.splits[split][0]]
        said = [bundled_glyphs.SCRIPTS[label] for label in data.splits[split][1]]
        assert sum(a != b for a, b in zip(first, said, strict=True)) < 15  # А, A and Α look alike
    largest = f"largest class {{}}{100 * counts.max() / counts.sum():.0f} %"  # of the test set
    page = (Path(run.CONF) / "experiment" / "lit_proxy.yaml").read_text()
    assert largest.format("") in page and largest.format("has ") in lit.OURS
    prompts = read_prompts("glyph_scripts", "glyph_templates", 10)
    firsts = tuple(name.split()[0] for name in prompts.classes)
    assert firsts == bundled_glyphs.SCRIPTS
    tokenizer = pairs.tokens.tokenizer
    sentences = [text for number in range(10) for text in prompts.of_class(number)]
    assert not any((ids == tokenizer.unknown_id).any() for ids in tokenizer.encode(sentences))
    assert tokenizer.vocab_size <= run.compose(["experiment=lit_proxy"]).model["text"]["vocab_size"]


def test_the_committed_tower_is_the_one_of_the_page() -> None:
    section = run.compose(["experiment=lit_proxy"]).start_from
    content = (Path(run.CONF).parent / section["source"]).read_bytes()
    assert hashlib.sha256(content).hexdigest() == section["sha256"]


def test_words_go_there_and_back(pairs) -> None:
    tokenizer = pairs.tokens.tokenizer
    (ids,) = tokenizer.encode(["Greek small  letter ALPHA"])
    assert tokenizer.decode(ids.tolist()) == "greek small letter alpha"
    assert tokenizer.encode(["xyzzy"])[0].tolist() == [tokenizer.unknown_id]
    rows = pairs.tokens(["greek", " ".join(["letter"] * 40)])
    assert rows.shape == (2, 12) and rows[0].tolist()[1:3] == [1, 0] and rows[1, -1] == 1
