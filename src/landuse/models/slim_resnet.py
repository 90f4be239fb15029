"""A residual network for small images and few of them: what CPUs train in minutes."""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn


class SlimResNet(nn.Module):
    """ResNet of basic blocks (He et al. 2016) whose width and depth can be chosen; torchvision's cannot.

    It differs from torchvision's ResNet-18 in its first convolution (3x3 instead of 7x7), in its shortcuts (averaged
    before they are projected, He et al. 2019, "Bag of tricks") and in starting every block as the identity (its last
    batch norm begins at zero). With ``width=32`` an image costs a quarter of the arithmetic of a ResNet-18.

    Args:
        num_classes: number of logits.
        width: channels of the first stage; each further stage doubles them and halves the image.
        blocks: residual blocks in each stage.
    """

    def __init__(self, num_classes: int, width: int = 32, blocks: Sequence[int] = (2, 2, 2, 2)) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, width, kernel_size=3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.MaxPool2d(2, ceil_mode=True),  # before the ReLU, which then has a quarter to do: the same function
            nn.ReLU(inplace=True),
        )
        self.stages = nn.Sequential()
        channels = width
        for stage, num_blocks in enumerate(blocks):
            for block in range(num_blocks):
                stride = 2 if stage > 0 and block == 0 else 1
                self.stages.append(_Block(channels, width * 2**stage, stride))
                channels = width * 2**stage
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Linear(channels, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, images: Tensor) -> Tensor:
        """Logits (N, num_classes) of normalised images (N, 3, H, W) of any size."""
        logits: Tensor = self.head(self.pool(self.stages(self.stem(images))).flatten(1))
        return logits


class _Block(nn.Module):
    """Two 3x3 convolutions beside a shortcut."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(out_channels)
        nn.init.zeros_(self.norm2.weight)
        self.shortcut = nn.Sequential()
        if stride > 1:
            self.shortcut.append(nn.AvgPool2d(stride, ceil_mode=True))
        if stride > 1 or in_channels != out_channels:
            self.shortcut.append(nn.Conv2d(in_channels, out_channels, 1, bias=False))
            self.shortcut.append(nn.BatchNorm2d(out_channels))

    def forward(self, features: Tensor) -> Tensor:
        residual = F.relu(self.norm1(self.conv1(features)), inplace=True)
        return F.relu(self.norm2(self.conv2(residual)) + self.shortcut(features), inplace=True)
