"""Captions and classes that a model cannot tell apart, and names in another order."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from experiments.config import ConfigError
from experiments.data.caption_tokens import CaptionTokens
from experiments.data.tokenizer import WordTokenizer
from experiments.evaluations.alike import alike, captions_in_words, classes_in_words
from experiments.evaluations.prompts import Prompts, read_prompts

TOKENS = CaptionTokens(WordTokenizer("abcde"), 3)  # two letters and the end


def test_rows_are_alike_where_another_owner_has_them() -> None:
    rows = np.array([[1, 2], [1, 2], [3, 4], [3, 4], [5, 6], [1, 2]])
    owners = np.array([0, 1, 2, 2, 3, 1])
    assert alike(rows, owners).tolist() == [True, True, False, False, False, True]


@pytest.mark.parametrize(
    ("captions", "image_of", "number"),
    [
        (["a b", "b a", "c"], [0, 1, 2], 0),
        (["a b", "a b", "c"], [0, 0, 1], 0),  # twice of one image
        (["a b", "A  b", "c"], [0, 1, 2], 2),
        (["a b c", "a b d", "b"], [0, 1, 2], 2),  # cut
    ],
)
def test_captions_of_several_images_are_said(
    captions: list[str], image_of: list[int], number: int
) -> None:
    said = captions_in_words("val", captions, np.array(image_of), TOKENS)
    assert (f"val: {number} of 3 captions are to the model" in said) == bool(number)
    assert ("the same data.num_tokens=3 tokens" in said) == bool(number)


def test_classes_whose_names_the_model_does_not_see_are_said() -> None:
    assert classes_in_words(Prompts(["c", "d", "e"], ["a {}"]), TOKENS) == ""
    said = classes_in_words(Prompts(["c", "d", "e"], ["a b {}"]), TOKENS)
    assert "of 3 of 3 classes are to the model those of another, 'c' and 'd'" in said
    said = classes_in_words(Prompts(["c", "x", "y"], ["a {}"]), TOKENS)  # both unknown
    assert "of 2 of 3 classes" in said and "'x' and 'y'" in said


def test_names_in_another_order_than_the_data_s_are_refused(tmp_path: Path) -> None:
    classes, templates = tmp_path / "c.txt", tmp_path / "t.txt"
    templates.write_text("a {}")
    own = ["fire_truck", "boat", "Crane"]
    for names in (["fire truck", "boat", "crane"], ["engine", "boat", "bird"], ["x", "y", "z"]):
        classes.write_text("\n".join(names))
        assert read_prompts(str(classes), str(templates), 3, own).classes == names
    classes.write_text("boat\ncrane\nfire truck\n")
    with pytest.raises(ConfigError, match="class 0 'boat', which is class 1 of the data: write"):
        read_prompts(str(classes), str(templates), 3, own)


def test_numbers_of_wordnet_are_no_names(tmp_path: Path) -> None:
    templates = tmp_path / "t.txt"
    templates.write_text("a {}")
    assert read_prompts("", str(templates), 2, ["0", "1"]).classes == ["0", "1"]  # of digits
    with pytest.raises(ConfigError, match="numbers of WordNet .n01440764.*set .*classes"):
        read_prompts("", str(templates), 2, ["n01440764", "n01443537"])
