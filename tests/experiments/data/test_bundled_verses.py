"""Verses as bags of words: what they are, which are wrong on purpose, and what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from experiments.config import ConfigError
from experiments.data import bundled_verses
from experiments.data.label_noise import redrawn
from experiments.data.locate import check_section

GENESIS_1_1 = "in the beginning god created the heaven and the earth"


def test_a_verse_has_its_words_and_its_book() -> None:
    words, books = bundled_verses._read()
    assert words[0] == GENESIS_1_1.split() and books[0] == 0
    assert words[-1][-4:] == ["with", "you", "all", "amen"] and books[-1] == 65
    assert np.bincount(books)[[0, 63, 65]].tolist() == [
        1533,
        14,
        404,
    ]  # Genesis, 3 John, Revelation


def test_splits_share_no_verse_and_the_commonest_word_is_number_one() -> None:
    data = bundled_verses.verses("v", num_train=300, num_words=50)
    assert data.name == "v, 300 verses" and data.num_classes == 66
    sizes = {split: len(labels) for split, (_, labels) in data.splits.items()}
    assert sizes == {"train": 300, "val": 5000, "test": 5000}
    rows = torch.cat([images for images, _ in data.splits.values()]).flatten(1)
    assert rows.shape[1] == bundled_verses.MAX_WORDS
    counts = rows.long().flatten().bincount()
    assert len(counts) == 51 and counts[1] == counts[1:].max()
    filled = (rows > 0).long()
    assert (filled.diff(dim=1) <= 0).all()  # zeros stand behind the words only


def test_only_training_labels_are_redrawn_and_more_noise_holds_less() -> None:
    one, two = (bundled_verses.verses("v", 2000, 50, noise) for noise in (0.0, 0.4))
    wrong = one.splits["train"][1] != two.splits["train"][1]
    assert float(wrong.float().mean()) == pytest.approx(0.4 * 65 / 66, abs=0.01)
    assert two.name == "v, 2000 verses, 40 % of labels redrawn"
    for split in ("val", "test"):
        assert torch.equal(one.splits[split][1], two.splits[split][1])
    labels = np.arange(1000) % 10
    little, much = redrawn(labels, 0.2, 10), redrawn(labels, 0.8, 10)
    changed = little != labels
    assert (much[changed] == little[changed]).all() and (labels == np.arange(1000) % 10).all()
    assert (redrawn(labels, 0.0, 10) == labels).all()
    assert len(set(little[changed] - labels[changed])) > 15, "any other class"
    # The committed studies are of these very draws.
    assert redrawn(np.arange(8) % 4, 0.45, 4).tolist() == [0, 1, 3, 3, 0, 3, 2, 3]


@pytest.mark.parametrize(
    ("source", "settings", "said"),
    [
        ("bundled_verses.verses", {"num_train": 21_103}, "data.num_train=21103: must be a whole"),
        ("bundled_verses.verses", {"label_noise": 1.5}, "data.label_noise=1.5: must be a finite"),
        ("bundled_signals.many_signals", {"label_noise": -1}, "data.label_noise=-1: must be"),
        ("bundled_signals.many_signals", {"num_test": 15}, "data.num_test=15: .* multiple of 10"),
    ],
)
def test_what_cannot_be_is_refused(source: str, settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        check_section({"_target_": f"experiments.data.{source}", **settings})
