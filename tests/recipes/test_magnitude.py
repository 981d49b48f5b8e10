from __future__ import annotations

from pathlib import Path

import pytest
import torch

from secateur.data import load_data
from secateur.errors import InputError
from secateur.masks import mask
from secateur.recipes import magnitude
from secateur.recipes.framework import Options, Result
from squares import SQUARES

ROUNDS = (0.5, 0.9, 0.999)


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(magnitude, "SPARSITIES", ROUNDS)
    (tmp_path / "squares.py").write_text(SQUARES)
    return f"{tmp_path}/squares.py:data"


def run(data: str, **flags: object) -> Result:
    said: list[str] = []
    flags = {"epochs": 3, "finetune_epochs": 1, "batch_size": 16, "net": "mlp", **flags}
    result = magnitude.run(Options(say=said.append), data=data, **flags)  # type: ignore[arg-type]
    assert len(said) == len(result.rows)
    return result


def test_rounds_go_on_until_accuracy_drops(data: str) -> None:
    rows = run(data, max_drop=0.1).rows
    texts = [row.method for row in rows]
    assert texts[0] == "mlp, dense"
    assert texts[-2:] == ["mlp, dead units cut", "mlp, same masks from scratch"]
    rounds = rows[1:-2]
    assert [round(row.more["sparsity"], 3) for row in rounds] == list(ROUNDS[: len(rounds)])
    dense = rows[0].metric["dense"]
    good = [row.metric["finetuned"] >= dense - 0.1 for row in rounds]
    assert [row.more["good"] for row in rounds] == good
    assert all(good[:-1])


def test_the_last_good_round_is_what_is_cut_and_trained_anew(data: str) -> None:
    rows = run(data, max_drop=1.0).rows
    good = [row for row in rows[1:-2] if row.more["good"]][-1]
    cut, scratch = rows[-2:]
    assert cut.metric["finetuned"] == good.metric["finetuned"]
    assert cut.params < good.params
    assert scratch.more["density"] == good.more["density"]
    assert set(scratch.metric) == {"scratch"}


def test_a_network_that_may_lose_nothing_stays_dense(data: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(magnitude, "SPARSITIES", (0.9995,))
    result = run(data, max_drop=0.0)
    assert not result.rows[1].more["good"]
    assert result.rows[-1].more["sparsity"] == 0


@pytest.mark.parametrize("scope", ["global", "output"])
def test_the_scope_is_the_users(data: str, scope: str) -> None:
    densities = run(data, scope=scope).rows[1].more["density"]
    assert (len({round(value, 2) for value in densities.values()}) > 1) == (scope == "global")


def test_the_networks_are_those_of_the_source() -> None:
    """Table 1: 267 K and 431 K parameters."""
    sizes = {name: sum(p.numel() for p in build().parameters()) for name, build in magnitude.NETS.items()}
    assert {name: round(n, -3) for name, n in sizes.items()} == {"mlp": 267_000, "cnn": 431_000}
    assert all(build()(torch.zeros(2, 1, 28, 28)).shape == (2, 10) for build in magnitude.NETS.values())


def test_an_unknown_network(data: str) -> None:
    with pytest.raises(InputError, match="--net cn: one of mlp, cnn, both; did you mean 'cnn'"):
        run(data, net="cn")


def test_masks_stay_on_through_fit(data: str) -> None:
    model = magnitude.LeNet5()
    masks = mask(model, 0.9)
    bench = magnitude.Bench(load_data(data, batch_size=4), 1, 1, Options())
    bench.trained(model, 1, 0.05)
    assert masks.sparsity == pytest.approx(0.9, abs=1e-4)
    assert (model.fc1.weight[~masks.masks["fc1.weight"]] == 0).all()
