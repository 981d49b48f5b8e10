"""Recovery through `prune` and `search`."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import secateur
from secateur import InputError
from secateur.apply.ready import plans_of


def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 24), nn.ReLU(), nn.Linear(24, 24), nn.ReLU(), nn.Linear(24, 3)).eval()


DATA = [(torch.randn(32, 6, generator=torch.Generator().manual_seed(i)), torch.arange(32) % 3) for i in range(3)]


def error(model: nn.Module, dense: nn.Module) -> float:
    with torch.no_grad():
        return float(sum((model(x) - dense(x)).norm() for x, _ in DATA))


@pytest.mark.parametrize("importance", ["l2", "taylor", "obs"])
def test_prune_recovers_what_it_cut(importance: str) -> None:
    dense = net()
    options: dict[str, Any] = {"importance": importance, "data": DATA, "loss": F.cross_entropy, "verify": True}
    plain = secateur.prune(dense, DATA[0][0][:1], "macs=0.5", **options)
    found = secateur.prune(dense, DATA[0][0][:1], "macs=0.5", recover=["shift", "lsq"], **options)
    assert found.plan.axes == plain.plan.axes
    assert error(found.model, dense) < 0.9 * error(plain.model, dense)
    assert [step.step for step in found.plan.recovery] == ["shift", "lsq"]
    assert plans_of(found.model) == (found.plan,)
    assert found.plan.after == plain.plan.after
    assert secateur.verify(dense, found.model, found.plan, DATA[0][0][:1]).passed


def test_search_judges_what_is_recovered() -> None:
    dense = net()

    def search(recover: Any) -> Any:
        return secateur.search(
            dense, DATA[0][0][:1], "macs", metric=lambda model: error(model, dense), max_drop=1.0,
            higher_is_better=False, tolerance=0.05, importance="obs", data=DATA, recover=recover,
        )  # fmt: skip

    plain, found = search(()), search("lsq")
    assert found.plan.after.macs < plain.plan.after.macs
    assert error(found.model, dense) == pytest.approx(found.value)
    assert found.plan.recovery[0].step == "lsq"
    assert plans_of(found.model) == (found.plan,)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"recover": "lsq"}, r"recover='lsq' reads data; give data="),
        ({"recover": "shift"}, r"recover='shift' reads data; give data="),
        ({"recover": "lsqq", "data": DATA}, r"unknown recovery step 'lsqq'; did you mean 'lsq'"),
        ({"importance": "obs"}, r"importance='obs' is read from data; give data="),
    ],
)
def test_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        secateur.prune(net(), DATA[0][0][:1], "macs=0.5", **options)


def test_search_takes_one_way_to_recover() -> None:
    with pytest.raises(InputError, match="finish= and recover= both change the cut model"):
        secateur.search(
            net(), DATA[0][0][:1], "macs", metric=lambda model: 0.0, max_drop=1.0, data=DATA, recover="lsq",
            finish=lambda model, plan: None,
        )  # fmt: skip
