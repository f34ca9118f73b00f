"""Statistics of many images in one pass: by hand, over batches and processes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from in_threads import together

from experiments.distributed import World
from experiments.evaluations import extractors, reference

FEATURES = torch.tensor([[0, 1], [2, 1], [4, 7], [1, 0], [3, 6]], dtype=torch.uint8)
MEAN = [2.0, 3.0]
COVARIANCE = [[2.5, 4.5], [4.5, 10.5]]
"""Away from the mean: (-2, -2), (0, -2), (2, 4), (-1, -3), (1, 3); sums of products by four."""


class Pixels(extractors.Extractor):
    """Two pixels are two features."""

    def _extract(self, images: torch.Tensor) -> tuple[torch.Tensor, None]:
        return images.flatten(1).float(), None


def share(world: World, at_a_time: int, empty: bool = True) -> list[torch.Tensor]:
    pieces = FEATURES[world.rank :: world.size][:, None, None].split(at_a_time)
    return [piece for piece in pieces if empty or len(piece)]


@pytest.mark.parametrize(("size", "empty"), [(1, True), (2, True), (6, True), (6, False)])
@pytest.mark.parametrize("at_a_time", [1, 2, 5])
def test_mean_and_covariance_by_hand(size: int, at_a_time: int, empty: bool) -> None:
    """The sixth process has no image: an empty batch, or none."""
    pixels = Pixels("fd", "Pixels", "0", "none", 1, torch.nn.Identity())
    for found in together(
        size, lambda w: reference.measured(pixels, share(w, at_a_time, empty), w)
    ):
        assert found.mean.tolist() == pytest.approx(MEAN)
        assert found.covariance.flatten().tolist() == pytest.approx(sum(COVARIANCE, []))
        assert found.num_images == 5
        assert torch.equal(found.features, FEATURES.double())  # in their order


@pytest.mark.parametrize("size", [1, 2])
def test_which_features_are_kept_by_hand(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    """Golden ratios 0 to 4, from -1/2 to 1/2: 0, -0.38, 0.24, -0.15, 0.47; the least two count."""
    monkeypatch.setattr(reference, "NUM_KEPT", 2)
    pixels = Pixels("fd", "Pixels", "0", "none", 1, torch.nn.Identity())
    for found in together(size, lambda w: reference.measured(pixels, share(w, 1), w)):
        assert torch.equal(found.features, FEATURES[[1, 3]].double())
        assert found.num_images == 5 and found.mean.tolist() == pytest.approx(MEAN)


def test_what_is_kept_is_taken_where_the_facts_are_the_same(tmp_path: Path) -> None:
    pixels = Pixels("fd", "Pixels", "0", "none", 1, torch.nn.Identity())
    world, calls = World(0, 1, torch.device("cpu")), []

    def asked(facts: dict[str, int]) -> list[float]:
        def batches() -> list[torch.Tensor]:
            calls.append(facts)
            return share(world, 2)

        found = reference.reference(facts, pixels, batches, str(tmp_path / "a" / "b"), world)
        assert found.covariance.flatten().tolist() == pytest.approx(sum(COVARIANCE, []))
        assert found.num_images == 5 and len(found.features) == 5
        return found.mean.tolist()

    for facts in ({"size": 1}, {"size": 1}, {"size": 2}, {"size": 2}):
        assert asked(facts) == MEAN
    assert calls == [{"size": 1}, {"size": 2}]
    for path in (tmp_path / "a" / "b").glob("*.npz"):
        path.write_bytes(b"cut")  # costs time only
    assert asked({"size": 1}) == MEAN and len(calls) == 3


def test_processes_measure_together_unless_all_have_the_file(tmp_path: Path) -> None:
    """One that has it and goes on alone would leave the others waiting."""
    pixels = Pixels("fd", "Pixels", "0", "none", 1, torch.nn.Identity())

    def asked(world: World) -> tuple[list[float], int]:
        calls: list[int] = []

        def batches() -> list[torch.Tensor]:
            calls.append(world.rank)
            return share(world, 2)

        folder = str(tmp_path / str(world.rank))
        return reference.reference({}, pixels, batches, folder, world).mean.tolist(), len(calls)

    assert together(2, asked) == [(MEAN, 1)] * 2
    assert together(2, asked) == [(MEAN, 1)] * 2  # the first one alone keeps it
    (kept,) = (tmp_path / "0").glob("*.npz")
    (tmp_path / "1").mkdir()
    (tmp_path / "1" / kept.name).write_bytes(kept.read_bytes())
    assert together(2, asked) == [(MEAN, 0)] * 2
