"""What a user gives that cannot be used is refused at once: the fact, the value, and what would do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import secateur
from secateur import InputError

X = torch.randn(1, 4)
HALF = "channels=0.5"


def net() -> nn.Sequential:
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))


class Named(nn.Module):
    """Gives a dict."""

    def __init__(self) -> None:
        super().__init__()
        self.net = net()

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {"logits": self.net(x)}


class Tokens(nn.Module):
    """Fifty of them."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.out = nn.Embedding(50, 8), nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.out(self.embedding(x))
        return out


def runs_and_gives_nothing(model: nn.Module) -> None:
    model(X)


OTHER = net()
PRUNED: dict[str, tuple[Callable[[], Any], str]] = {
    "outputs that give nothing": (
        lambda: secateur.prune(net(), X, HALF, outputs=lambda output: None),
        r"^outputs= gives no tensor, but None\nlet it give the tensors",
    ),
    "call gives nothing": (
        lambda: secateur.prune(net(), call=runs_and_gives_nothing, target=HALF),
        r"^call= gives no tensor, but None\n.*call=lambda model: model\(x\)",
    ),
    "call runs another model": (
        lambda: secateur.prune(net(), call=lambda model: OTHER(X), target=HALF),
        r"^call= does not use the model that it is given(.|\n)*call=lambda model: model\(x\)",
    ),
    "call runs the model by its name": (
        lambda: secateur.prune(OTHER, call=lambda model: OTHER(X), target=HALF),
        r"^call= does not use the model that it is given",
    ),
    "outputs of another kind": (
        lambda: secateur.prune(net(), X, HALF, outputs=lambda output: output.logits),
        r"^outputs= fails on what the model gives, a Tensor: AttributeError: .*\n.*leave outputs= out",
    ),
    "outputs by a wrong key": (
        lambda: secateur.prune(Named(), X, HALF, outputs=lambda output: output["logit"]),
        r"^outputs= fails on what the model gives, a dict with 'logits': KeyError: 'logit'",
    ),
    "a model without values": (
        lambda: secateur.prune(net().to("meta"), X, HALF),
        r"^the model is on the meta device, so its weights have no values(.|\n)*load_state_dict",
    ),
    "data of another shape": (
        lambda: secateur.prune(net(), X, HALF, importance="wanda", data=[torch.zeros(2, 3)]),
        r"^the model does not run on a batch of the calibration data: \(2, 3\) float32\nit says: (.|\n)*give data=",
    ),
    "numbers out of range": (
        lambda: secateur.prune(Tokens(), torch.full((1, 4), 99), HALF),
        r"^the model does not run on these example inputs: \(1, 4\) int64\nit says: IndexError: index out of range",
    ),
    "arguments in the wrong order": (
        lambda: secateur.prune(X, net(), HALF),  # type: ignore[arg-type]
        r"^example_inputs is a Sequential\nthat is a model: it comes first",
    ),
    "an array": (
        lambda: secateur.prune(net(), np.zeros((1, 4)), HALF),
        r"^example_inputs is an ndarray\n.*torch.from_numpy\(array\)$",
    ),
    "an array among arguments": (
        lambda: secateur.prune(net(), (np.zeros((1, 4)),), HALF),
        r"^example_inputs hold no tensor: \(array(.|\n)*torch.from_numpy\(array\)$",
    ),
    "a class": (
        lambda: secateur.prune(Named, X, HALF),  # type: ignore[arg-type]
        r"^model is the class Named, not a torch.nn.Module; call it first: Named\(\)$",
    ),
    "a function": (
        lambda: secateur.prune(net, X, HALF),  # type: ignore[arg-type]
        r"^model is a function, not a torch.nn.Module; call it first, as in net\(\)$",
    ),
    "weights alone": (
        lambda: secateur.prune(net().state_dict(), X, HALF),  # type: ignore[arg-type]
        r"^model is an OrderedDict, not a torch.nn.Module; a state dict holds weights alone",
    ),
    "a tensor for a model": (
        lambda: secateur.prune(X, X, HALF),  # type: ignore[arg-type]
        r"^model is a Tensor, not a torch.nn.Module; the model comes first",
    ),
}


@pytest.mark.parametrize("case", PRUNED)
def test_what_prune_refuses(case: str) -> None:
    run, message = PRUNED[case]
    with pytest.raises(InputError, match=message):
        run()


def test_a_cut_that_need_not_be_proved_runs_no_real_inputs() -> None:
    result = secateur.prune(Tokens(), torch.full((1, 4), 99), HALF, verify=False)
    assert not result.proved
