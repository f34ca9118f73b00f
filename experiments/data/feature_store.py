"""Features of training images that never change, kept on the disk in pieces.

Any process may fill any piece, in any order; a piece appears whole or not at all. So nothing needs
to be agreed on, and one that is killed costs a piece.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from experiments.config import UserError
from experiments.files import replacing

PIECE = 4096
"""Examples in a piece."""


class FeatureStore:
    """Rows of features by the number of an example.

    Args:
        folder: Whose name tells what the features depend on.
        num_examples: Rows in all.
    """

    def __init__(self, folder: Path, num_examples: int) -> None:
        self.folder, self.num_examples = folder, num_examples
        self._opened: dict[int, np.ndarray] = {}

    @property
    def num_pieces(self) -> int:
        return -(-self.num_examples // PIECE)

    def numbers_of(self, piece: int) -> np.ndarray:
        """Examples of a piece."""
        return np.arange(piece * PIECE, min((piece + 1) * PIECE, self.num_examples))

    def missing(self, first: int) -> Iterator[int]:
        """Pieces that nobody has made yet, asked for one by one, beginning at one of them."""
        for number in range(self.num_pieces):
            piece = (first + number) % self.num_pieces
            if not self._path(piece).exists():
                yield piece

    def put(self, piece: int, features: Sequence[Tensor]) -> None:
        """Keeps the features of a piece.

        Raises:
            UserError: where the disk does not take them.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with replacing(self._path(piece)) as draft, draft.open("wb") as file:
                np.save(file, torch.cat(list(features)).float().cpu().numpy())
        except OSError as error:
            raise UserError(
                f"cannot keep features in {self.folder} ({error.strerror}): make room there, or "
                "set task.cache_features=false"
            ) from error

    def take(self, numbers: Tensor) -> Tensor:
        """Features (N, F) float32 of some examples, on the CPU."""
        rows = numbers.cpu().numpy()
        found = [self._piece(int(n) // PIECE)[int(n) % PIECE] for n in rows]
        return torch.from_numpy(np.stack(found))

    def _piece(self, piece: int) -> np.ndarray:
        if piece not in self._opened:
            try:
                self._opened[piece] = np.load(self._path(piece), mmap_mode="r", allow_pickle=False)
            except (OSError, ValueError, EOFError) as error:
                raise UserError(
                    f"{self._path(piece)} cannot be read ({error}): remove it, it will be made anew"
                ) from error
        return self._opened[piece]

    def _path(self, piece: int) -> Path:
        return self.folder / f"{piece:06d}.npy"
