"""The callback in a real Trainer of Lightning, on a tiny module and random images."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from secateur import FileError, InputError
from secateur.apply.ready import plans_of

L = pytest.importorskip("lightning.pytorch", reason="needs secateur[lightning]")

from lightning.pytorch.callbacks import ModelCheckpoint, StochasticWeightAveraging, WeightAveraging  # noqa: E402

from secateur.integrations.lightning import PruningCallback, restore  # noqa: E402

EXAMPLE = torch.zeros(1, 3, 8, 8)


class Net(L.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.features = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 12, 3))
        self.head = nn.Linear(12, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x).relu().mean((2, 3)))

    def training_step(self, batch: Any, index: int) -> Tensor:
        return F.cross_entropy(self(batch[0]), batch[1])

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.Adam(self.parameters(), lr=0.01)
        return [optimizer], [{"scheduler": torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5), "interval": "step"}]


def loader() -> Any:
    generator = torch.Generator().manual_seed(1)
    x, y = torch.randn(32, 3, 8, 8, generator=generator), torch.randint(4, (32,), generator=generator)
    return torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x, y), batch_size=8)


def fit(folder: Path, module: nn.Module, *callbacks: Any, ckpt_path: str | None = None, **options: Any) -> Any:
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "logger": False, "accelerator": "cpu"}
    given = {"max_epochs": 2, "enable_checkpointing": False, "devices": 1} | options
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of few workers, and the like
        trainer = L.Trainer(default_root_dir=folder, callbacks=list(callbacks), **quiet, **given)
        trainer.fit(module, loader(), ckpt_path=ckpt_path)
    return trainer


def size(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize("part", ["", "features"])
def test_it_prunes_while_the_trainer_trains(part: str, tmp_path: Path) -> None:
    module, whole = Net(), size(Net())
    example = torch.zeros(1, 3, 8, 8)
    callback = PruningCallback("params=0.6", example, every=2, steps=2, part=part)
    trainer = fit(tmp_path, module, callback)
    assert size(module) < 0.7 * whole
    assert callback.pruning.stopped == "target"
    assert len(plans_of(module.get_submodule(part))) == 2
    [optimizer] = trainer.optimizers
    assert [id(p) for p in optimizer.param_groups[0]["params"]] == [id(p) for p in module.parameters()]
    for parameter in module.parameters():
        assert optimizer.state[parameter]["exp_avg"].shape == parameter.shape
        assert optimizer.state[parameter]["step"] == 8
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.01 / 2**8)


@pytest.mark.parametrize("averaging", [WeightAveraging, lambda: StochasticWeightAveraging(0.01, swa_epoch_start=1)])
def test_averages_of_lightning_follow(averaging: Callable[[], Any], tmp_path: Path) -> None:
    module = Net()
    fit(tmp_path, module, averaging(), PruningCallback("params=0.6", EXAMPLE, every=1, unit="epochs"), max_epochs=3)
    assert size(module) <= 0.6 * size(Net())
    assert all(bool(p.isfinite().all()) for p in module.parameters())


def test_a_checkpoint_is_restored_and_a_run_goes_on_from_it(tmp_path: Path) -> None:
    def run(module: nn.Module, ckpt_path: str | None = None) -> nn.Module:
        keep = ModelCheckpoint(tmp_path, "{step}", every_n_train_steps=4, save_top_k=-1)
        pruning = PruningCallback("params=0.5", EXAMPLE, every=3, steps=2)
        fit(tmp_path, module, pruning, keep, enable_checkpointing=True, ckpt_path=ckpt_path)
        return module

    whole, path = (
        run(Net()),
        str(tmp_path / "step=4.ckpt"),
    )  # at the end of an epoch: Lightning does not say where in one it was
    half = restore(Net(), torch.load(path, weights_only=True))
    assert len(plans_of(half)) == 1
    run(half, path)
    for a, b in zip(whole.parameters(), half.parameters(), strict=True):
        assert torch.equal(a, b)


def test_the_example_of_the_module_is_the_default(tmp_path: Path) -> None:
    module = Net()
    module.example_input_array = EXAMPLE
    fit(tmp_path, module, PruningCallback("params=0.6", every=2))
    assert size(module) <= 0.6 * size(Net())
    for part, name in (("", "Net"), ("features", "features")):
        with pytest.raises(
            InputError, match=f"there are no example inputs for {name}\npass the inputs that it is called with: Pr"
        ):
            fit(tmp_path, Net(), PruningCallback("params=0.6", every=2, part=part))


def test_it_stops_where_the_metric_drops_too_far(tmp_path: Path) -> None:
    module, whole = Net(), size(Net())
    callback = PruningCallback("params=0.4", EXAMPLE, every=2, steps=3, metric=size, max_drop=0.5 * whole)
    trainer = fit(tmp_path, module, callback, max_epochs=4)
    assert (callback.pruning.stopped, trainer.global_step) == ("max_drop", 16)
    assert callback.pruning.model is not module
    assert size(callback.pruning.model) >= 0.5 * whole > size(module)  # type: ignore[arg-type]


def test_what_cannot_work_is_refused_before_training(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="ends after 2 epochs, before the last stage\n  stages 3, one every 1 epochs"):
        fit(tmp_path, Net(), PruningCallback("params=0.6", EXAMPLE, every=1, unit="epochs", steps=3))
    with pytest.raises(InputError, match="ends after 8 steps, before the last stage\n  stages 3, one every 3 steps"):
        fit(tmp_path, Net(), PruningCallback("params=0.6", EXAMPLE, every=3, steps=3))
    with pytest.raises(InputError, match=r"part='body': .* has no attribute"):
        fit(tmp_path, Net(), PruningCallback("params=0.6", EXAMPLE, every=2, part="body"))
    for wrong, right in {"metrics": "metric", "evry": "every"}.items():
        with pytest.raises(InputError, match=f"no option {wrong!r}; did you mean {right!r}"):
            PruningCallback("params=0.6", EXAMPLE, **{wrong: size})
    several = SimpleNamespace(strategy=type("DDPStrategy", (), {})())
    with pytest.raises(InputError, match="runs on DDPStrategy, whose copies of the model a cut does not reach"):
        PruningCallback("params=0.6", EXAMPLE).on_train_start(several, Net())


def test_a_checkpoint_without_plans() -> None:
    with pytest.raises(FileError, match="the checkpoint has no 'secateur_plans'"):
        restore(Net(), {"state_dict": {}})


class ByHand(Net):
    """Two optimizers, whose steps `global_step` counts alike."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False

    def training_step(self, batch: Any, index: int) -> None:
        for optimizer in self.optimizers():
            optimizer.zero_grad()
            self.manual_backward(F.cross_entropy(self(batch[0]), batch[1]))
            optimizer.step()

    def configure_optimizers(self) -> Any:
        return [torch.optim.SGD(part.parameters(), lr=0.01) for part in (self.features, self.head)]


def test_the_steps_of_every_optimizer_are_counted_by_hand(tmp_path: Path) -> None:
    """8 batches, 16 steps: a last stage after 12 of them is reached."""
    module, whole = ByHand(), size(Net())
    callback = PruningCallback("params=0.6", EXAMPLE, every=6, steps=2)
    trainer = fit(tmp_path, module, callback)
    assert trainer.global_step == 16
    assert (callback.pruning.stopped, size(module) < 0.7 * whole) == ("target", True)
