"""A model gets its own copies of the objects that change, or keeps what it has."""

from __future__ import annotations

import threading
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from secateur.anatomy.own_objects import own_objects


class Net(nn.Module):
    """Holds one config under several names, once inside another object."""

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.config = SimpleNamespace(inner=config)
        self.layer = nn.Linear(2, 2)
        self.layer.config, self.layer._alias = config, [config]  # type: ignore[assignment]


def test_all_modules_share_one_copy_and_nothing_else_is_copied() -> None:
    config = SimpleNamespace(width=2)
    net = Net(config)
    net.config.model, outer = net, net.config
    own = own_objects(net, [config, net])
    assert net.config is outer
    own.put()
    inner = own.of(config)
    assert inner is not config
    assert net.config.inner is net.layer.config is net.layer._alias[0] is inner  # type: ignore[union-attr, index]
    assert net.config is not outer
    assert net.config.model is net
    assert own.of(net) is net
    assert outer.inner is config


def hooked(net: Net, config: Any) -> None:
    def hook(module: nn.Module, args: Any, out: torch.Tensor) -> torch.Tensor:
        return out[:, : config.width]

    net.layer.register_forward_hook(hook)


@pytest.mark.parametrize("of", [lambda net, config: setattr(config, "lock", threading.Lock()), hooked])
def test_what_cannot_be_copied_or_is_seen_otherwise_is_left(of: Any) -> None:
    config = SimpleNamespace(width=2)
    net = Net(config)
    of(net, config)
    own = own_objects(net, [config])
    own.put()
    assert own.of(config) is config is net.config.inner
