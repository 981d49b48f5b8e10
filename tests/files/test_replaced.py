"""Heads for other classes are saved and loaded after a cut; other layers that were replaced are refused, not lost."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

import secateur
from secateur.errors import FileError, InputError
from secateur.files.replaced import check_reloads, fits


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(8, 8), nn.Linear(8, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.b(self.a(x).relu())


def build(classes: int = 4) -> nn.Sequential:
    return nn.Sequential(nn.Linear(6, 8), Block(), Block(), nn.Linear(8, classes))


X = torch.randn(3, 6)


def small(**options: object) -> nn.Sequential:
    return secateur.prune(build(), X, **(options or {"target": "channels=0.5"})).model  # type: ignore[arg-type, return-value]


def test_a_head_for_other_classes_is_saved_loaded_and_cut_again(tmp_path: Path) -> None:
    model, path = small(), tmp_path / "small.safetensors"
    model[3] = nn.Linear(model[3].in_features, 7)
    for _ in range(2):
        secateur.save(model, path)
        again = secateur.load(build(7), path)
        assert torch.equal(again(X), model(X))
        assert again(X).shape == (3, 7)
        model = secateur.prune(again, X, "channels=0.5").model
    for classes in (4, 6):
        with pytest.raises(FileError, match=rf"3\.weight: file \(7, 2\) float32, model \({classes}, 2\)"):
            secateur.load(build(classes), path)


@pytest.mark.parametrize(
    ("head", "fault"),
    [
        (nn.Identity(), "3.weight is gone"),
        (nn.Sequential(nn.Dropout(), nn.Linear(4, 7)), "3.weight is gone"),
        (nn.Linear(8, 7), r"3.weight is \(7, 8\), the cut left \(4, 4\)"),
    ],
)
def test_what_load_could_not_make_again_is_refused_before_a_file_is_written(
    head: nn.Module, fault: str, tmp_path: Path
) -> None:
    model = small()
    model[3] = head
    with pytest.raises(InputError, match=rf"(?s)layers of this Sequential were .*{fault}\nfix: .*secateur\.cut"):
        secateur.save(model, tmp_path / "small.safetensors")
    assert not [*tmp_path.iterdir()]


def test_the_way_that_the_message_names_works(tmp_path: Path) -> None:
    found = secateur.prune(build(), X, "channels=0.5")
    found.model[3] = nn.Sequential(nn.Identity(), nn.Linear(4, 7))
    torch.save(found.model.state_dict(), tmp_path / "weights.pt")
    again = secateur.cut(build(), found.plan)
    again[3] = nn.Sequential(nn.Identity(), nn.Linear(4, 7))
    again.load_state_dict(torch.load(tmp_path / "weights.pt", weights_only=True))
    assert torch.equal(again(X), found.model(X))


def test_blocks_that_a_later_plan_removes_are_not_missed(tmp_path: Path) -> None:
    model = small()
    shorter = secateur.prune(model, X, drop={"1": "all"}).model
    secateur.save(shorter, tmp_path / "small.safetensors")
    assert torch.equal(secateur.load(build(), tmp_path / "small.safetensors")(X), shorter(X))


def test_only_dimensions_without_an_axis_may_differ() -> None:
    assert fits((5, 3), (2, 3), (2, "a"))
    assert not fits((2, 4), (2, 3), (2, "a"))
    assert not fits((2,), (2, 3), (2, "a"))
    check_reloads("Net", [], [])
