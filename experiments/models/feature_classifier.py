"""A small classifier whose last hidden layer describes images, to compare sets of them."""

from __future__ import annotations

from torch import Tensor, nn


class FeatureClassifier(nn.Module):
    """Two convolutions and a bounded hidden layer; no batch norm, so that images do not meet.

    Args:
        side: Of the images in pixels, divisible by 4.
        in_chans: Channels of the images.
        width: Channels of the first convolution; the second has twice as many.
        num_features: Width of the hidden layer (tanh), which `features` gives.
        num_classes: Outputs; 0: the features themselves.
    """

    def __init__(
        self,
        side: int = 8,
        in_chans: int = 1,
        width: int = 16,
        num_features: int = 32,
        num_classes: int = 10,
    ) -> None:
        super().__init__()
        self.in_chans, self.num_features = in_chans, num_features
        self.body = nn.Sequential(
            nn.Conv2d(in_chans, width, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(width, 2 * width, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(2 * width * (side // 4) ** 2, num_features),
            nn.Tanh(),
        )
        self.head = nn.Linear(num_features, num_classes) if num_classes else nn.Identity()

    def features(self, images: Tensor) -> Tensor:
        """(N, num_features) in [-1, 1], of images (N, C, H, W) normalised as in training."""
        return self.body(images)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.features(images))
