"""VGG networks with batch norm for small images: 3 x 3 convolutions, halved in size between stages.

Simonyan and Zisserman, "Very Deep Convolutional Networks for Large-Scale Image Recognition", ICLR 2015, configuration
D, in the form for 32 x 32 images of Li et al. (ICLR 2017) and Liu et al. (ICCV 2017): a batch norm after every
convolution, and one or two small linear layers in place of three large ones. They follow a mean over all positions, so
images may have any size from 8 pixels (`vgg_like`) or 16 (`vgg16`) on.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from torch import Tensor, nn

from secateur.models.widths import scaled

LIKE = ((64, 64), (128, 128), (256, 256))
"""Widths of the convolutions of the small network, by stage."""

VGG16 = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))
"""Widths of the convolutions of VGG-16, by stage."""


class VGG(nn.Module):
    """x: (n, channels, h, w) -> logits (n, num_classes).

    stages: the widths of the convolutions of each stage; the size is halved between stages. hidden: the
    widths of linear layers before the last.
    """

    def __init__(
        self, stages: Sequence[Sequence[int]], *, hidden: Sequence[int] = (), channels: int = 3, num_classes: int = 10
    ) -> None:
        super().__init__()
        self.features = nn.Sequential(*_convolutions(stages, channels))
        self.classifier = nn.Sequential(*_linears(stages[-1][-1], hidden, num_classes))

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.features(x).mean((2, 3)))


def _convolutions(stages: Sequence[Sequence[int]], inputs: int) -> Iterator[nn.Module]:
    for number, widths in enumerate(stages):
        if number:
            yield nn.MaxPool2d(2)
        for width in widths:
            yield from (nn.Conv2d(inputs, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU())
            inputs = width


def _linears(inputs: int, hidden: Sequence[int], num_classes: int) -> Iterator[nn.Module]:
    for width in hidden:
        yield from (nn.Linear(inputs, width, bias=False), nn.BatchNorm1d(width), nn.ReLU())
        inputs = width
    yield nn.Linear(inputs, num_classes)


def vgg_like(*, width: float = 1.0, channels: int = 3, num_classes: int = 10) -> VGG:
    """Return a VGG with convolutions of 64, 64, 128, 128, 256, 256 channels, times `width`.

    >>> sum(parameter.numel() for parameter in vgg_like().parameters())
    1148874
    """
    return VGG(_stages(LIKE, width), channels=channels, num_classes=num_classes)


def vgg16(*, width: float = 1.0, hidden: Sequence[int] = (), channels: int = 3, num_classes: int = 10) -> VGG:
    """Return a VGG-16, `width` times as wide; `hidden=(512,)` as in Li et al., none as in Liu et al.

    >>> sum(parameter.numel() for parameter in vgg16().parameters())
    14724042
    """
    return VGG(_stages(VGG16, width), hidden=hidden, channels=channels, num_classes=num_classes)


def _stages(stages: Sequence[Sequence[int]], width: float) -> list[list[int]]:
    return [[scaled(channels, width) for channels in stage] for stage in stages]


__all__ = ["LIKE", "VGG", "VGG16", "vgg16", "vgg_like"]
