"""What landuse is compared with: ImageFolder in a DataLoader, trained by Lightning or by a plain loop.

    python -m benchmarks.rivals lightning|loop FOLDER SIZE EPOCHS WORKERS DEVICE [equal PRECISION]

At their defaults, or equal to landuse in precision and memory layout, with workers that live on and page-locked memory.
On a GPU the defaults include TF32 in convolutions, which landuse's fp32 does not.
A fifth of the images validates, another fifth is left for the test, as landuse divides them.
"""

import sys
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, random_split
from torchvision import datasets, transforms

from landuse.models.cnn import CNN

BATCH = 64
Loader = DataLoader[tuple[Tensor, Tensor]]


def main(arguments: list[str]) -> None:
    """Train once."""
    trainer, folder, *numbers, device = arguments[:6]
    size, epochs, workers = map(int, numbers)
    precision = arguments[7] if len(arguments) > 6 else None
    train, val, num_classes = loaders(folder, size, workers, precision is not None and device == "cuda")
    model: nn.Module = CNN(num_classes)
    if precision is not None:
        model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    {"lightning": by_lightning, "loop": by_loop}[trainer](model, train, val, epochs, device, precision)


def loaders(folder: str, size: int, workers: int, tuned: bool) -> tuple[Loader, Loader, int]:
    """Training and validation batches, and the number of classes."""
    steps = transforms.Compose([transforms.Resize((size, size)), transforms.ToTensor()])
    images = datasets.ImageFolder(folder, steps)
    train, val, _ = random_split(images, [0.6, 0.2, 0.2], torch.Generator().manual_seed(0))
    more: dict[str, Any] = {"num_workers": workers}
    if tuned:
        more |= {"pin_memory": True, "persistent_workers": workers > 0}
    return (
        DataLoader(train, BATCH, shuffle=True, **more),
        DataLoader(val, BATCH, **more),
        len(images.classes),
    )


def by_lightning(model: nn.Module, train: Loader, val: Loader, epochs: int, device: str, precision: str | None) -> None:
    """As the original project did, with logits in the place of its softmax."""
    import lightning

    class Module(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def training_step(self, batch: Any, _: int) -> Tensor:
            images, labels = batch
            loss = F.cross_entropy(self.model(images), labels)
            self.log("train_loss", loss)
            return loss

        def validation_step(self, batch: Any, _: int) -> None:
            images, labels = batch
            logits = self.model(images)
            self.log("val_loss", F.cross_entropy(logits, labels))
            self.log("val_accuracy", (logits.argmax(1) == labels).float().mean())

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.AdamW(self.model.parameters(), lr=1e-3)

    options: dict[str, Any] = {"precision": "bf16-mixed"} if precision == "bf16" else {}
    lightning.Trainer(max_epochs=epochs, enable_progress_bar=False, accelerator=device, devices=1, **options).fit(
        Module(), train, val
    )


def by_loop(model: nn.Module, train: Loader, val: Loader, epochs: int, device: str, precision: str | None) -> None:
    """As in torchvision's reference scripts, in little."""
    model.to(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    scope = torch.autocast(device, torch.bfloat16, enabled=precision == "bf16")
    for _ in range(epochs):
        model.train()
        for images, labels in train:
            with scope:
                loss = F.cross_entropy(model(images.to(device)), labels.to(device))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        model.eval()
        correct = 0
        with torch.no_grad(), scope:
            for images, labels in val:
                correct += int((model(images.to(device)).argmax(1).cpu() == labels).sum())
    torch.save(model.state_dict(), "model.pt")


if __name__ == "__main__":
    main(sys.argv[1:])
