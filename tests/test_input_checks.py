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


class Residual(nn.Module):
    """Adds to what it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.net(x).relu()


class Deep(nn.Sequential):
    """Two blocks."""

    def __init__(self) -> None:
        super().__init__(nn.Linear(4, 4), Residual(), Residual(), nn.Linear(4, 2))


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
        r"^outputs= returns no tensor, but None\nreturn the output tensors",
    ),
    "call gives nothing": (
        lambda: secateur.prune(net(), call=runs_and_gives_nothing, target=HALF),
        r"^call= returns no tensor, but None\n.*call=lambda model: model\(x\)",
    ),
    "call runs another model": (
        lambda: secateur.prune(net(), call=lambda model: OTHER(X), target=HALF),
        r"^call= does not use the model that it is passed(.|\n)*call=lambda model: model\(x\)",
    ),
    "call runs the model by its name": (
        lambda: secateur.prune(OTHER, call=lambda model: OTHER(X), target=HALF),
        r"^call= does not use the model that it is passed",
    ),
    "outputs of another kind": (
        lambda: secateur.prune(net(), X, HALF, outputs=lambda output: output.logits),
        r"^outputs= fails on what the model returns, a Tensor: AttributeError: .*\n.*leave outputs= out",
    ),
    "outputs by a wrong key": (
        lambda: secateur.prune(Named(), X, HALF, outputs=lambda output: output["logit"]),
        r"^outputs= fails on what the model returns, a dict with 'logits': KeyError: 'logit'",
    ),
    "a model without values": (
        lambda: secateur.prune(net().to("meta"), X, HALF),
        r"^the model is on the meta device, so its weights have no values(.|\n)*load_state_dict",
    ),
    "data of another shape": (
        lambda: secateur.prune(net(), X, HALF, importance="wanda", data=[torch.zeros(2, 3)]),
        r"^the model does not run on a batch of the calibration data: \(2, 3\) float32\nit says: (.|\n)*pass data=",
    ),
    "numbers out of range": (
        lambda: secateur.prune(Tokens(), torch.full((1, 4), 99), HALF),
        r"^the model does not run on these example inputs: \(1, 4\) int64\nit says: IndexError: index out of range",
    ),
    "a word that Select lacks": (
        lambda: secateur.Select(flor=0.9),  # type: ignore[call-arg]
        r"^Select has no option 'flor'; did you mean 'floor'\?\nknown: align, ceiling, floor",
    ),
    "a floor above all units": (
        lambda: secateur.prune(net(), X, HALF, select=["0: floor=100"]),
        r"^rule '0: floor=100' cannot be met: floor=100 is more than the 8 units of 0\ngive a smaller floor",
    ),
    "an alignment above all units": (
        lambda: secateur.prune(net(), X, HALF, select=["0: align=100"]),
        r"^rule '0: align=100' cannot be met: align=100 is more than the 8 units of 0\ngive a smaller align",
    ),
    "more blocks than there are": (
        lambda: secateur.prune(Deep(), X, "depth=20"),
        r"^target depth=20: the model has only 2 blocks\ngive a share of up to 1",
    ),
    "a word for verify": (
        lambda: secateur.prune(net(), X, HALF, verify="no"),  # type: ignore[arg-type]
        r"^verify='no': True proves the cut, False does not",
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


@pytest.mark.parametrize("rule", ["*: floor=6", "*: align=8"])
def test_a_rule_for_many_axes_may_be_above_some(rule: str) -> None:
    model = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 5), nn.ReLU(), nn.Linear(5, 2))
    assert secateur.prune(model, X, HALF, select=[rule]).plan.axes["0"].kept_count == 8


def test_as_many_blocks_as_there_are() -> None:
    assert secateur.prune(Deep(), X, "depth=2").plan.is_empty


def test_nothing_removed_is_nothing_to_prove() -> None:
    nothing = "not proved: nothing was removed, so there is nothing to prove"
    model = net()
    result = secateur.prune(model, X, "macs=1")
    assert str(result).endswith(nothing)
    assert str(secateur.verify(model, result.model, result.plan, X)) == nothing
    with pytest.raises(secateur.PruningError, match=f"^{nothing}\nverify=True asks for a proof; leave it out"):
        secateur.prune(net(), X, "macs=1", verify=True)


def test_report_and_verification_use_one_wording() -> None:
    model = net()
    result = secateur.prune(model, X, HALF)
    proof = secateur.verify(model, result.model, result.plan, X)
    assert str(proof).startswith("proved: pruned equals silenced")
    assert str(proof) in str(result)
    nn.init.zeros_(model[2].weight)
    result = secateur.prune(model, X, HALF)
    proof = secateur.verify(model, result.model, result.plan, X)
    assert "by only 0.0e+00, where more than 1e-06 is needed to see them; give trained weights: the last" in str(proof)
    assert str(proof) in str(result)
