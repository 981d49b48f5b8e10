"""CIFAR-10 (JPEG q75) with trained ResNet-20 and ResNet-56.

JPEG compression costs several points, so figures are not comparable with published CIFAR-10 figures. Images are sorted
by class in the file, so every subset is drawn class by class.
"""

from __future__ import annotations

import io
import itertools
import os
import tempfile
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

from secateur.models.cifar_resnet import ResNet

from .task import Hints, Task

DATA = Path(os.environ.get("SECATEUR_DATA", Path(__file__).parents[3] / "shared" / "data"))
CACHE = Path(tempfile.gettempdir()) / "secateur-cifar10-jpeg.npy"
BLOCKS = {"resnet20": 3, "resnet56": 9}
MEAN, STD = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
CALIBRATION, SUBSET, SUBSET_SEED = 1024, 2000, 1234


@dataclass(frozen=True, slots=True)
class Split:
    """pixels: (n, 3, 32, 32) uint8; labels: (n,)"""

    pixels: Tensor
    labels: Tensor

    def __getitem__(self, where: Tensor) -> Split:
        return Split(self.pixels[where], self.labels[where])

    def images(self, where: Tensor | slice = slice(None)) -> Tensor:
        """Return the images, normalised as the weights expect them."""
        return normalised(self.pixels[where])


def normalised(pixels: Tensor) -> Tensor:
    """Normalise (n, 3, h, w) uint8 to float by the mean and standard deviation of ImageNet."""
    return ((pixels.float() / 255 - MEAN.view(3, 1, 1)) / STD.view(3, 1, 1)).contiguous()


@lru_cache(maxsize=1)
def splits() -> tuple[Split, Split]:
    """Return the 50,000 training and the 10,000 test images."""
    z = np.load(DATA / "cifar10_jpeg.npz")
    pixels = torch.from_numpy(np.load(CACHE) if CACHE.exists() else _decoded(z))
    everything = Split(pixels.permute(0, 3, 1, 2), torch.from_numpy(z["label"].astype(np.int64)))
    train = torch.from_numpy(z["is_train"])
    return everything[train], everything[~train]


def _decoded(z: np.lib.npyio.NpzFile) -> np.ndarray:
    from PIL import Image

    jpeg, offset = z["jpeg"].tobytes(), z["offset"]
    spans = itertools.pairwise(offset)
    pixels = np.stack([np.asarray(Image.open(io.BytesIO(jpeg[a:b])).convert("RGB")) for a, b in spans])
    part = CACHE.with_suffix(f".{os.getpid()}.tmp.npy")
    np.save(part, pixels)
    part.replace(CACHE)  # two runs at once each find a whole file
    return pixels


def stratified(labels: Tensor, count: int, seed: int) -> Tensor:
    """Return shuffled positions of `count` examples, with equal numbers of each class up to one."""
    rng = torch.Generator().manual_seed(seed)
    classes = torch.unique(labels).tolist()
    extra = torch.randperm(len(classes), generator=rng)[: count % len(classes)].tolist()
    picked = []
    for i, label in enumerate(classes):
        where = (labels == label).nonzero().flatten()
        order = torch.randperm(len(where), generator=rng)
        picked.append(where[order[: count // len(classes) + (i in extra)]])
    chosen = torch.cat(picked)
    return chosen[torch.randperm(len(chosen), generator=rng)]


def trained(name: str) -> nn.Module:
    """Return the trained network in evaluation mode."""
    model = ResNet(BLOCKS[name])
    model.load_state_dict(load_file(DATA / f"{name}_cifar10jpeg.safetensors"))
    return model.eval()


def accuracy(model: nn.Module, test: Split, batch: int = 500) -> float:
    """Return the share of images whose largest logit is that of their class."""
    model.eval()
    right = 0
    with torch.no_grad():
        for i in range(0, len(test.labels), batch):
            where = slice(i, i + batch)
            right += int((model(test.images(where)).argmax(1) == test.labels[where]).sum())
    return right / len(test.labels)


def task(name: str, seed: int, *, full: bool = False) -> Task:
    """Return the task: 1,024 calibration images by seed; a fixed set of 2,000 test images, or all 10,000 (`full`)."""
    train, test = splits()
    chosen = train[stratified(train.labels, CALIBRATION, seed)]
    seen = test if full else test[stratified(test.labels, SUBSET, SUBSET_SEED)]
    images = chosen.images()
    model = trained(name)
    inner = ["conv1", "linear", *(f"layer{s}.{i}.conv2" for s in (1, 2, 3) for i in range(BLOCKS[name]))]
    return Task(
        name=name,
        model=model,
        example=(torch.zeros(1, 3, 32, 32),),
        batches=list(zip(images.split(128), chosen.labels.split(128), strict=True)),
        loss=F.cross_entropy,
        evaluate=lambda m: {"top1": accuracy(m, seen)},
        hints=Hints(ignored={"inner": inner}),  # its graph maps the zero-padded shortcut wrongly
        inner=["layer?.?.conv1: only"],
        seed=seed,
    )
