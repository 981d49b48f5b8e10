"""The recipe at small size: everything that it does, on a few images of 64 x 64."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import secateur
from secateur.errors import InputError
from secateur.models.modnet import IBNorm, MODNet
from secateur.recipes import matting, modnet
from secateur.recipes.framework import Options, Result

TINY = matting.MattingSizes(side=64, batch=2, dense=2, tuning=2, calibration=1, test=1, calls=5)


@pytest.fixture(scope="module", autouse=True)
def _small() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(modnet, "QUICK", TINY)
        patch.setattr(modnet, "COMPARED", modnet.COMPARED[:1])
        patch.setattr(matting, "SIDE", 64)
        yield


def ran(out: Path | None = None, **flags: Any) -> Result:
    try:
        return modnet.run(Options(quick=True, out=out, say=lambda line: None), **flags)
    except InputError as error:
        if "not on this machine" in str(error) or "not here" in str(error):
            pytest.skip(str(error))
        raise


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("modnet")


@pytest.fixture(scope="module")
def result(folder: Path) -> Result:
    return ran(folder, target=["params=0.4", "macs=0.7"], steps=2)


def test_rows(result: Result) -> None:
    dense, *cut, steps, _ = result.rows
    assert dense.params == 6_487_075
    assert len({row.method for row in result.rows}) == len(result.rows) == 5
    for row in (*cut, steps):
        assert row.params <= 0.4 * dense.params
        assert row.macs <= 0.7 * dense.macs
    assert set(steps.metric) == {"after_cut", "finetuned", "after_cut_mad", "finetuned_mad"}
    assert all(0 < value < 1 for row in result.rows for value in row.metric.values())
    assert [stage["params"] for stage in steps.more["stages"]] == sorted(
        (stage["params"] for stage in steps.more["stages"]), reverse=True
    )


def test_the_cut_is_proved_and_timed(result: Result) -> None:
    assert result.more["verification"]["passed"]
    assert result.more["latency"]["speedup"] > 0


def test_the_table_names_every_row(result: Result) -> None:
    assert all(row.method in str(result) for row in result.rows)


def test_files(result: Result, folder: Path) -> None:
    image = pytest.importorskip("PIL.Image", reason="Pillow is not installed")
    assert image.open(folder / modnet.PICTURE).width == 5 * (64 + 4) + 4
    small = secateur.load(MODNet(), folder / modnet.WEIGHTS)
    assert sum(parameter.numel() for parameter in small.parameters()) == result.rows[-2].params


class EnoughError(Exception):
    """Where a test has seen what it wants to see."""


def test_branch_by_branch(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []

    def enough(*given: Any) -> None:
        raise EnoughError

    monkeypatch.setattr(modnet, "COMPARED", ())
    monkeypatch.setattr(modnet, "in_steps", enough)
    monkeypatch.setattr(modnet, "tuned", lambda shop, model: seen.append(model) or shop.errors(model))
    with pytest.raises(EnoughError):
        ran(lr_branch=0.5, hr_branch=0.75, importance="l2", recover="none")
    dense, small = seen
    for name, norm in small.named_modules():
        if isinstance(norm, IBNorm):
            share = {"lr_branch": 0.5, "hr_branch": 0.75, "f_branch": 1}[name.partition(".")[0]]
            before = dense.get_submodule(name)
            assert norm.bnorm_channels == norm.bnorm.num_features == share * before.bnorm.num_features, name
            assert norm.inorm.num_features == share * before.inorm.num_features, name


def test_a_branch_ratio_alone_sets_no_other_target() -> None:
    assert modnet.Cut((), ["lr_branch.*: keep=0.5"], "l2", "none").words([])["target"] is None
