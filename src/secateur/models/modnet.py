"""MODNet, a trimap-free portrait matting network: one photo in, one alpha matte out.

Ke, Sun, Li, Yan and Lau, "MODNet: Real-Time Trimap-Free Portrait Matting via Objective Decomposition", AAAI 2022
(arXiv:2011.11961), on MobileNetV2 (Sandler et al., CVPR 2018). Sizes below are those for an image of h x w, both
divisible by 32. Three branches share the work:

- low resolution, the person: the encoder's last stage, re-weighted by squeeze-and-excite, up to h/8 x w/8;
- high resolution, the edge: two early encoder stages and the image itself, up to h x w;
- fusion, the matte: from the features of both and the image.

Parameter names are those of the authors' release, so their checkpoints load once `module.` is stripped. It is a hard
case for a pruning library: two norms share one channel axis at a split that is a Python integer, images are
concatenated to features, the encoder is reachable under two names, and some outputs exist only in training.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

ENCODER_STAGES = (2, 4, 7, 14, 19)
"""The end of each of the five encoder stages in MobileNetV2's list of layers: at 1/2, 1/4, 1/8, 1/16 and 1/32."""

ENCODER_CHANNELS = (16, 24, 32, 96, 1280)
"""Output channels of each of the five encoder stages."""

BLOCKS = (  # expansion, channels, repeats, stride: table 2 of the MobileNetV2 paper
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)


def _conv_bn(inputs: int, outputs: int, kernel: int, *, stride: int = 1, groups: int = 1) -> list[nn.Module]:
    conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
    return [conv, nn.BatchNorm2d(outputs)]


def _upsample(x: Tensor, factor: float = 2) -> Tensor:
    return F.interpolate(x, scale_factor=factor, mode="bilinear", align_corners=False)


class InvertedResidual(nn.Module):
    """Expand by a 1x1, filter depthwise, project by a 1x1 without activation; added to its input if shapes agree."""

    def __init__(self, inputs: int, outputs: int, *, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = inputs * expansion
        expand = [*_conv_bn(inputs, hidden, 1), nn.ReLU6(inplace=True)] if expansion > 1 else []
        depthwise = [*_conv_bn(hidden, hidden, 3, stride=stride, groups=hidden), nn.ReLU6(inplace=True)]
        self.conv = nn.Sequential(*expand, *depthwise, *_conv_bn(hidden, outputs, 1))
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(x) if self.residual else self.conv(x)


class MobileNetV2(nn.Module):
    """The trunk of MobileNetV2 1.0, without its classifier."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Sequential(*_conv_bn(3, 32, 3, stride=2), nn.ReLU6(inplace=True))]
        inputs = 32
        for expansion, outputs, repeats, first_stride in BLOCKS:
            for stride in [first_stride] + [1] * (repeats - 1):
                layers.append(InvertedResidual(inputs, outputs, stride=stride, expansion=expansion))
                inputs = outputs
        layers.append(nn.Sequential(*_conv_bn(inputs, ENCODER_CHANNELS[-1], 1), nn.ReLU6(inplace=True)))
        self.features = nn.Sequential(*layers)


class Encoder(nn.Module):
    """x: (n, 3, h, w) -> the outputs of the five stages, at 1/2, 1/4, 1/8, 1/16 and 1/32 of the size."""

    def __init__(self) -> None:
        super().__init__()
        self.model = MobileNetV2()

    def forward(self, x: Tensor) -> list[Tensor]:
        outputs: list[Tensor] = []
        for end, layer in enumerate(self.model.features, start=1):
            x = layer(x)
            if end in ENCODER_STAGES:
                outputs.append(x)
        return outputs


class IBNorm(nn.Module):
    """Batch norm on the first half of the channels, affine-free instance norm on the rest; x: (n, c, h, w) -> same.

    Batch norm preserves content, instance norm removes style (Pan et al., ECCV 2018).

    >>> IBNorm(5)(torch.ones(2, 5, 4, 4)).shape
    torch.Size([2, 5, 4, 4])
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.bnorm_channels = channels // 2
        self.inorm_channels = channels - self.bnorm_channels
        self.bnorm = nn.BatchNorm2d(self.bnorm_channels, affine=True)
        self.inorm = nn.InstanceNorm2d(self.inorm_channels, affine=False)

    def forward(self, x: Tensor) -> Tensor:
        batch = self.bnorm(x[:, : self.bnorm_channels].contiguous())
        instance = self.inorm(x[:, self.bnorm_channels :].contiguous())
        return torch.cat((batch, instance), 1)


class Conv2dIBNormRelu(nn.Module):
    """Convolution that keeps the size (or halves it with `stride=2`), IBNorm, ReLU; `head` drops the last two."""

    def __init__(self, inputs: int, outputs: int, kernel: int, *, stride: int = 1, head: bool = False) -> None:
        super().__init__()
        conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2)
        self.layers = nn.Sequential(conv) if head else nn.Sequential(conv, IBNorm(outputs), nn.ReLU(inplace=True))

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


class SEBlock(nn.Module):
    """Squeeze-and-excite: x: (n, c, h, w) times a gate (n, c, 1, 1) made of its means (Hu et al., CVPR 2018)."""

    def __init__(self, channels: int, *, reduction: int) -> None:
        super().__init__()
        hidden = channels // reduction
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Sequential(
            nn.Linear(channels, hidden, bias=False),
            nn.ReLU(inplace=True),
            nn.Linear(hidden, channels, bias=False),
            nn.Sigmoid(),
        )

    def forward(self, x: Tensor) -> Tensor:
        n, c, _, _ = x.size()
        gate = self.fc(self.pool(x).view(n, c)).view(n, c, 1, 1)
        return x * gate.expand_as(x)


class LRBranch(nn.Module):
    """img: (n, 3, h, w) -> (coarse matte (n, 1, h/16, w/16) or None, features at 1/8, [encoder at 1/2, at 1/4])."""

    def __init__(self, backbone: Encoder) -> None:
        super().__init__()
        _, _, at8, at16, at32 = ENCODER_CHANNELS
        self.backbone = backbone
        self.se_block = SEBlock(at32, reduction=4)
        self.conv_lr16x = Conv2dIBNormRelu(at32, at16, 5)
        self.conv_lr8x = Conv2dIBNormRelu(at16, at8, 5)
        self.conv_lr = Conv2dIBNormRelu(at8, 1, 3, stride=2, head=True)

    def forward(self, img: Tensor, inference: bool) -> tuple[Tensor | None, Tensor, list[Tensor]]:
        enc2x, enc4x, _, _, enc32x = self.backbone(img)
        lr16x = self.conv_lr16x(_upsample(self.se_block(enc32x)))
        lr8x = self.conv_lr8x(_upsample(lr16x))
        pred_semantic = None if inference else torch.sigmoid(self.conv_lr(lr8x))
        return pred_semantic, lr8x, [enc2x, enc4x]


class HRBranch(nn.Module):
    """The image and its early features -> (edges of the matte (n, 1, h, w) or None, features at 1/2)."""

    def __init__(self, hr_channels: int) -> None:
        super().__init__()
        at2, at4 = ENCODER_CHANNELS[:2]
        c = hr_channels
        block = Conv2dIBNormRelu
        self.tohr_enc2x = block(at2, c, 1)
        self.conv_enc2x = block(c + 3, c, 3, stride=2)
        self.tohr_enc4x = block(at4, c, 1)
        self.conv_enc4x = block(2 * c, 2 * c, 3)
        self.conv_hr4x = nn.Sequential(block(3 * c + 3, 2 * c, 3), block(2 * c, 2 * c, 3), block(2 * c, c, 3))
        self.conv_hr2x = nn.Sequential(block(2 * c, 2 * c, 3), block(2 * c, c, 3), block(c, c, 3), block(c, c, 3))
        self.conv_hr = nn.Sequential(block(c + 3, c, 3), block(c, 1, 1, head=True))

    def forward(
        self, img: Tensor, enc2x: Tensor, enc4x: Tensor, lr8x: Tensor, inference: bool
    ) -> tuple[Tensor | None, Tensor]:
        enc2x = self.tohr_enc2x(enc2x)
        hr4x = self.conv_enc2x(torch.cat((_upsample(img, 1 / 2), enc2x), 1))
        hr4x = self.conv_enc4x(torch.cat((hr4x, self.tohr_enc4x(enc4x)), 1))
        hr4x = self.conv_hr4x(torch.cat((hr4x, _upsample(lr8x), _upsample(img, 1 / 4)), 1))
        hr2x = self.conv_hr2x(torch.cat((_upsample(hr4x), enc2x), 1))
        if inference:
            return None, hr2x
        return torch.sigmoid(self.conv_hr(torch.cat((_upsample(hr2x), img), 1))), hr2x


class FusionBranch(nn.Module):
    """The image and the features of both other branches -> the matte (n, 1, h, w), between 0 and 1."""

    def __init__(self, hr_channels: int) -> None:
        super().__init__()
        c, half = hr_channels, hr_channels // 2
        self.conv_lr4x = Conv2dIBNormRelu(ENCODER_CHANNELS[2], c, 5)
        self.conv_f2x = Conv2dIBNormRelu(2 * c, c, 3)
        self.conv_f = nn.Sequential(Conv2dIBNormRelu(c + 3, half, 3), Conv2dIBNormRelu(half, 1, 1, head=True))

    def forward(self, img: Tensor, lr8x: Tensor, hr2x: Tensor) -> Tensor:
        lr2x = _upsample(self.conv_lr4x(_upsample(lr8x)))
        f2x = self.conv_f2x(torch.cat((lr2x, hr2x), 1))
        return torch.sigmoid(self.conv_f(torch.cat((_upsample(f2x), img), 1)))


class MODNet(nn.Module):
    """img: (n, 3, h, w) -> (pred_semantic (n, 1, h/16, w/16), pred_detail (n, 1, h, w), pred_matte (n, 1, h, w)).

    `h` and `w` are multiples of 32; all outputs are between 0 and 1. With `inference` true, pred_semantic and
    pred_detail are None and the three convolutions that only they need never run. `hr_channels` is the width of the
    high-resolution branch.

    >>> with torch.device("meta"):
    ...     semantic, detail, matte = MODNet()(torch.empty(1, 3, 64, 64), inference=True)
    >>> semantic, detail, tuple(matte.shape)
    (None, None, (1, 1, 64, 64))
    """

    def __init__(self, hr_channels: int = 32) -> None:
        super().__init__()
        self.backbone = Encoder()
        self.lr_branch = LRBranch(self.backbone)
        self.hr_branch = HRBranch(hr_channels)
        self.f_branch = FusionBranch(hr_channels)

    def forward(self, img: Tensor, inference: bool = False) -> tuple[Tensor | None, Tensor | None, Tensor]:
        pred_semantic, lr8x, (enc2x, enc4x) = self.lr_branch(img, inference)
        pred_detail, hr2x = self.hr_branch(img, enc2x, enc4x, lr8x, inference)
        return pred_semantic, pred_detail, self.f_branch(img, lr8x, hr2x)
