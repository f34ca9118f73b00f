"""Pairs in tar files: each shard holds as many as it promises."""

from __future__ import annotations

from pathlib import Path

import pytest
from data_trees import image, tar

from experiments.config import ConfigError
from experiments.data.pair_shards import open_pairs


def shard(path: Path, *keys: str) -> Path:
    tar(path, [m for key in keys for m in ((f"{key}.png", image(1)), (f"{key}.txt", key.encode()))])
    return path


def test_each_shard_is_held_to_its_own_promise(tmp_path: Path) -> None:
    one, two = shard(tmp_path / "0.tar", "a", "b", "c"), shard(tmp_path / "1.tar", "d")
    cache = str(tmp_path / "cache")
    for promised in ({one: 3, two: 1}, {one: None, two: 1}, {one: 3, two: None}):
        images, captions = open_pairs(dict(promised), cache, "pairs")
        assert captions.texts(range(4)) == ["a", "b", "c", "d"]
        assert [images.file_name(n) for n in range(4)] == ["a", "b", "c", "d"]
    with pytest.raises(ConfigError, match=r"0\.tar holds 3 pairs, but _info\.json promises 1"):
        open_pairs({one: 1, two: 1}, cache, "pairs")
    with pytest.raises(ConfigError, match=r"1\.tar holds 1 pairs, but _info\.json promises 3"):
        open_pairs({one: 3, two: 3}, cache, "pairs")


def test_pairs_whose_names_have_more_dots_are_counted(tmp_path: Path) -> None:
    """Their key would end at the first dot, where another has the same beginning."""
    path = shard(tmp_path / "0.tar", "a", "b", "c.1", "c.2", "d.1")
    cache = str(tmp_path / "cache")
    with pytest.warns(UserWarning, match="left out: 2 without a name of one dot, as KEY.jpg and"):
        images, captions = open_pairs({path: None}, cache, "pairs")
    assert captions.texts(range(len(captions))) == ["a", "b"]


@pytest.mark.filterwarnings("error")
def test_further_files_of_a_pair_are_not_counted(tmp_path: Path) -> None:
    members = [("a.png", image(1)), ("a.txt", b"a"), ("a.mask.png", image(2)), ("a.b.json", b"{}")]
    tar(tmp_path / "0.tar", [*members, ("about.it.json", b"{}")])
    assert len(open_pairs({tmp_path / "0.tar": None}, str(tmp_path / "cache"), "pairs")[1]) == 1
