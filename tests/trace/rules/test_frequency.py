"""Models that transform, and models with complex parameters, are cut and proved; frequencies stay."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import secateur
from nets import Parts

IMAGE, TOKENS, SOUND = (1, 3, 8, 8), (2, 5, 6), (2, 64)


class ComplexLinear(nn.Module):
    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.w = nn.Parameter(torch.randn(outputs, inputs, dtype=torch.cfloat))
        self.b = nn.Parameter(torch.randn(outputs, dtype=torch.cfloat))

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.w, self.b)


class Spectral(nn.Module):
    """The layer of a Fourier neural operator."""

    def __init__(self, width: int, modes: int = 3):
        super().__init__()
        self.modes = modes
        self.w = nn.Parameter(torch.randn(width, width, modes, modes, dtype=torch.cfloat) * 0.1)

    def forward(self, x: Tensor) -> Tensor:
        spectrum, m = torch.fft.rfft2(x), self.modes
        out = torch.zeros_like(spectrum)
        out[:, :, :m, :m] = torch.einsum("bixy,ioxy->boxy", spectrum[:, :, :m, :m], self.w)
        return torch.fft.irfft2(out, s=x.shape[-2:])


def operator(self: Any, x: Tensor) -> Tensor:
    x = self.lift(x)
    return self.out(torch.relu(self.spectral(x) + self.skip(x)))


def shifted(self: Any, x: Tensor) -> Tensor:
    spectrum = torch.fft.fftshift(torch.fft.fft2(self.a(x)), dim=(-2, -1))
    return self.b(torch.fft.ifft2(torch.fft.ifftshift(spectrum * self.mask, dim=(-2, -1))).real)


def complex_linear(self: Any, x: Tensor) -> Tensor:
    z = self.first(torch.complex(self.re(x), self.im(x)))
    return self.b(self.second(torch.complex(z.real.relu(), z.imag.relu())).abs())


def complex_conv(self: Any, x: Tensor) -> Tensor:
    return self.b(torch.view_as_real(self.second(self.a(x.to(torch.cfloat)))).mean(-1))


def masked_sound(self: Any, x: Tensor) -> Tensor:
    window = torch.hann_window(16)
    spectrum = torch.stft(x, 16, 4, window=window, return_complex=True)
    mask = self.b(self.a(torch.stack([spectrum.real, spectrum.imag], 1)).relu())
    return torch.istft(spectrum * torch.complex(mask[:, 0], mask[:, 1]), 16, 4, window=window, length=x.shape[-1])


def conv(inputs: int, outputs: int, size: int = 1, **options: Any) -> nn.Module:
    return nn.Conv2d(inputs, outputs, size, **options)


MODELS: dict[str, tuple[tuple[int, ...], Callable[[], nn.Module], dict[str, int]]] = {
    "Fourier neural operator": (
        IMAGE,
        lambda: Parts(operator, lift=conv(3, 8), spectral=Spectral(8), skip=conv(8, 8), out=conv(8, 4)),
        {"lift": 8},
    ),
    "shifted spectrum": (
        IMAGE,
        lambda: Parts(shifted, a=conv(3, 8), mask=nn.Parameter(torch.randn(8, 8)), b=conv(8, 4)),
        {"a": 8},
    ),
    "complex linear layers": (
        TOKENS,
        lambda: Parts(
            complex_linear,
            re=nn.Linear(6, 8),
            im=nn.Linear(6, 8),
            first=ComplexLinear(8, 10),
            second=ComplexLinear(10, 7),
            b=nn.Linear(7, 5),
        ),
        {"re": 8, "first.w": 10, "second.w": 7},
    ),
    "complex convolutions": (
        IMAGE,
        lambda: Parts(
            complex_conv, a=conv(3, 8, dtype=torch.cfloat), second=conv(8, 6, 3, dtype=torch.cfloat), b=conv(6, 4)
        ),
        {"a": 8, "second": 6},
    ),
    "masked sound": (
        SOUND,
        lambda: Parts(masked_sound, a=conv(2, 8, 3, padding=1), b=conv(8, 2, 3, padding=1)),
        {"a": 8},
    ),
}


@pytest.mark.parametrize("name", MODELS)
def test_channels_are_cut_and_proved(name: str) -> None:
    torch.manual_seed(0)
    shape, build, axes = MODELS[name]
    result = secateur.prune(build().eval(), torch.randn(shape), "channels=0.6", importance="random", verify=True)
    assert {axis.name: axis.size for axis in result.graph.axes} == axes
    assert result.verification.passed
    assert all(axis.kept_count < axes[axis_name] for axis_name, axis in result.plan.axes.items() if axis_name in axes)


def test_the_transformed_dimension_stays() -> None:
    net = Parts(lambda self, x: self.b(torch.fft.fft(self.a(x)).abs()), a=nn.Linear(6, 8), b=nn.Linear(8, 5))
    graph = secateur.trace(net, torch.randn(TOKENS))
    assert graph.axes == ()
    reasons = {(frozen.name, frozen.dim): frozen.reason for frozen in graph.frozen}
    assert "transformed by an FFT" in reasons["a.weight", 0]
    assert "frequencies of an FFT" in reasons["b.weight", 1]
