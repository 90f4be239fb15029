"""The project's own small network."""

from torch import Tensor, nn


class CNN(nn.Module):
    """Blocks of [convolution, max-pool, ReLU, batch norm], global average pooling and a linear head.

    Block ``i`` (from 0) has ``width * min(2**i, 8)`` channels and halves the image, whose side must therefore be at
    least ``2**depth`` pixels (checked by :mod:`landuse.models.rules`).

    Args:
        num_classes: number of logits.
        width: channels of the first block.
        depth: number of blocks.
        kernel_size: odd; the padding keeps the size of the image.
        dropout: probability, in front of the head.
    """

    def __init__(
        self, num_classes: int, width: int = 24, depth: int = 6, kernel_size: int = 3, dropout: float = 0.0
    ) -> None:
        super().__init__()
        channels = [3] + [width * min(2**i, 8) for i in range(depth)]
        self.features = nn.Sequential(*(_block(channels[i], channels[i + 1], kernel_size) for i in range(depth)))
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(channels[-1], num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (N, num_classes) of normalised images (N, 3, H, W); no softmax, the loss applies it."""
        features = self.pool(self.features(images)).flatten(1)  # (N, channels)
        logits: Tensor = self.head(self.dropout(features))
        return logits


def _block(in_channels: int, out_channels: int, kernel_size: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, kernel_size, padding=kernel_size // 2, bias=False),
        # Pooling goes before ReLU: the maximum of rectified values is the rectified maximum, so the function is the
        # same, and ReLU then has a quarter of the values to work on.
        nn.MaxPool2d(2),
        nn.ReLU(inplace=True),
        nn.BatchNorm2d(out_channels),
    )
