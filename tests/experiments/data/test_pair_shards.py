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
