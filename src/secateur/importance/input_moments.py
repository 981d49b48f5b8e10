"""Input statistics of one reading weight, channel by channel."""

from __future__ import annotations

import torch
from torch import Tensor

from secateur.graph.consumers import Consumer
from secateur.statistics.sums import Statistics


class InputMoments:
    """Moments of the channels x_j that a weight reads, over all examples and positions; shape (channels,) each."""

    def __init__(self, reader: Consumer, weight: Tensor, statistics: Statistics):
        self._reader, self._weight, self._statistics = reader, weight, statistics

    @property
    def channels(self) -> int:
        return self._reader.channels.n

    @property
    def count(self) -> Tensor:
        """The number of recorded values of each channel, a single number."""
        return self._of("count")

    @property
    def mean(self) -> Tensor:
        """E[x]"""
        return self._of("sum") / self.count

    @property
    def absolute(self) -> Tensor:
        """E|x|"""
        return self._of("absolute") / self.count

    @property
    def rms(self) -> Tensor:
        """sqrt(E[x²])"""
        return (self._of("square") / self.count).sqrt()

    @property
    def variance(self) -> Tensor:
        """E[x²] - E[x]²"""
        return (self._of("square") / self.count - self.mean.square()).clamp(min=0)

    @property
    def zeros(self) -> Tensor:
        """The share of x that is zero."""
        return self._of("zeros") / self.count

    def weights(self, p: float) -> Tensor:
        """Return the sum of |w|^p over all weights that multiply each channel, shape (channels,)."""
        whole = self._weight.detach().to("cpu", torch.float64).abs() ** p
        channels_first = whole.movedim(self._reader.dim, 0)
        if len(channels_first) == self.channels:
            return channels_first.reshape(self.channels, -1).sum(1)
        by_group = channels_first.unflatten(1, (self._reader.groups, -1)).transpose(0, 1)
        return by_group.reshape(self.channels, -1).sum(1)

    def _of(self, quantity: str) -> Tensor:
        found = self._statistics.get(self._reader.weight, quantity)
        assert found is not None, "AxisSlices yields only readers with recorded inputs"
        return found


__all__ = ["InputMoments"]
