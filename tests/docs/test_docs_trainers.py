"""What docs/trainers.md says runs, section by section, and what it says of trainers without its two lines happens."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import secateur

PAGE = (Path(__file__).parents[2] / "docs" / "trainers.md").read_text(encoding="utf-8")
SECTIONS = {
    section.splitlines()[0]: re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    for section in PAGE.split("\n## ")[1:]
}
NEEDS = {
    "timm": ("timm",),
    "torchvision's reference scripts": ("torchvision",),
    "Trainer of transformers": ("transformers", "accelerate"),
    "Lightning": ("lightning.pytorch",),
    "mmengine": ("mmengine",),
    "Models of the hub": ("segmentation_models_pytorch",),
    "peft": ("peft",),
}
FIRST = "A state dict"
MISMATCH = "size mismatch for"


def run(section: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Run the programs of the first section and of another one in an empty folder; return their names."""
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(str(folder))
    names: dict[str, Any] = {"__name__": "__page__"}
    for title in dict.fromkeys((FIRST, section)):
        for program in SECTIONS[title]:
            exec(program, names)
    return names


@pytest.mark.parametrize("section", SECTIONS)
def test_its_programs_run(section: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for package in NEEDS.get(section, ()):
        pytest.importorskip(package, reason=f"{package} is not installed", exc_type=ImportError)
    assert SECTIONS[section]
    assert run(section, tmp_path, monkeypatch)["r"].proved


def test_links_lead_to_sections() -> None:
    titles = {re.sub(r"[^a-z0-9 -]", "", title.lower()).replace(" ", "-") for title in SECTIONS}
    assert set(re.findall(r"\]\(#([^)]*)\)", PAGE)) <= titles


def build() -> nn.Sequential:
    return nn.Sequential(nn.Linear(6, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 2))


def small() -> nn.Module:
    return secateur.prune(build(), torch.randn(4, 6), "channels=0.5").model


def test_an_unchanged_script_trains_a_registered_name_of_timm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("timm", reason="timm is not installed")
    run("timm", tmp_path, monkeypatch)
    script = """
import sys, timm, timm.utils, torch
model = timm.create_model(sys.argv[1], pretrained=False, in_chans=3, num_classes=2, drop_rate=0.1, checkpoint_path="")
ema = timm.utils.ModelEmaV3(model, decay=0.5)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
saver = timm.utils.CheckpointSaver(model, optimizer, model_ema=ema, checkpoint_dir=".", recovery_dir=".")
model(torch.randn(2, 3, 64, 64)).sum().backward()
optimizer.step(), ema.update(model), saver.save_checkpoint(0, 1.0)
again = timm.create_model(sys.argv[1], num_classes=2)
timm.models.resume_checkpoint(again, "last.pth.tar", torch.optim.SGD(again.parameters(), lr=0.1))
timm.models.load_checkpoint(timm.create_model(sys.argv[1], num_classes=2), "last.pth.tar", use_ema=True)
print(model.conv1.out_channels, ema.module.conv1.out_channels, bool((again.conv1.weight == model.conv1.weight).all()))
timm.create_model("resnet18", num_classes=2, checkpoint_path="last.pth.tar")
"""
    Path("train.py").write_text(script)
    start = 'import small, runpy; runpy.run_path("train.py", run_name="__main__")'
    done = subprocess.run([sys.executable, "-c", start, "small_resnet18"], capture_output=True, text=True, check=False)
    width, average, equal = done.stdout.split()
    assert int(width) == int(average) < 64
    assert equal == "True"
    assert MISMATCH in done.stderr


def of_lightning(folder: Path) -> None:
    pl = pytest.importorskip("lightning.pytorch", reason="lightning is not installed", exc_type=ImportError)

    class Module(pl.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.net = build()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.net(x)

    model = secateur.prune(Module(), torch.randn(4, 6), "channels=0.5").model
    trainer = pl.Trainer(accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False)
    trainer.strategy.connect(model)
    trainer.save_checkpoint(folder / "lit.ckpt")
    Module.load_from_checkpoint(folder / "lit.ckpt", strict=False, weights_only=True)


def of_accelerate(folder: Path) -> None:
    accelerate = pytest.importorskip("accelerate", reason="accelerate is not installed")
    accelerate.Accelerator(cpu=True).save_model(small(), folder)
    accelerate.load_checkpoint_in_model(build(), folder)


def of_torch(folder: Path) -> None:
    torch.save(small().state_dict(), folder / "best.pt")
    build().load_state_dict(torch.load(folder / "best.pt", weights_only=True), strict=False)


def of_peft(folder: Path) -> None:
    peft = pytest.importorskip("peft", reason="peft is not installed")
    peft.get_peft_model(small(), peft.LoraConfig(target_modules=["3"], r=2)).save_pretrained(folder)
    peft.PeftModel.from_pretrained(build(), folder)


@pytest.mark.parametrize("trainer", [of_lightning, of_accelerate, of_torch, of_peft])
def test_loading_into_the_original_stops(trainer: Callable[[Path], None], tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match=MISMATCH):
        trainer(tmp_path)


def test_an_adapter_of_a_layer_that_was_not_cut_loads_on_the_wrong_base(tmp_path: Path) -> None:
    peft = pytest.importorskip("peft", reason="peft is not installed")

    def deep() -> nn.Sequential:
        return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 2))

    cut = secateur.prune(deep(), torch.randn(4, 6), drop={"0": [1]}).model
    peft.get_peft_model(cut, peft.LoraConfig(target_modules=["4"], r=2)).save_pretrained(tmp_path)
    assert peft.PeftModel.from_pretrained(deep(), tmp_path).base_model.model[0].out_features == 8


def test_mmengine_skips_weights_of_other_sizes(tmp_path: Path) -> None:
    checkpoint = pytest.importorskip("mmengine.runner.checkpoint", reason="mmengine is not installed")
    torch.save(small().state_dict(), tmp_path / "best.pth")
    whole = build()
    before = whole[0].weight.clone()
    checkpoint.load_checkpoint(whole, str(tmp_path / "best.pth"), map_location="cpu")
    assert torch.equal(whole[0].weight, before)


def test_the_folder_of_smp_is_refused(tmp_path: Path) -> None:
    smp = pytest.importorskip("segmentation_models_pytorch", reason="segmentation_models_pytorch is not installed")
    net = smp.create_model("unet", "resnet18", encoder_weights=None).eval()
    with pytest.raises(secateur.InputError, match="save_pretrained of Unet writes the arguments of its constructor"):
        secateur.prune(net, torch.zeros(1, 3, 64, 64), "macs=0.5").model.save_pretrained(tmp_path / "folder")
    assert not (tmp_path / "folder").exists()


def test_a_learner_of_fastai_trains_what_it_is_given(tmp_path: Path) -> None:
    fastai = pytest.importorskip("fastai.basics", reason="fastai is not installed", exc_type=ImportError)
    data = torch.utils.data.TensorDataset(torch.randn(4, 6), torch.randint(0, 2, (4,)))
    loaders = fastai.DataLoaders.from_dsets(data, data, bs=2, device="cpu")
    learner = fastai.Learner(loaders, small(), loss_func=nn.CrossEntropyLoss(), path=tmp_path)
    learner.save("best")
    secateur.save(learner.model, tmp_path / "small.safetensors")
    again = secateur.load(build(), tmp_path / "small.safetensors")
    fastai.Learner(loaders, again, loss_func=nn.CrossEntropyLoss(), path=tmp_path).load("best")
    assert torch.equal(again[0].weight, learner.model[0].weight)


def test_distributed_training_keeps_the_cut(tmp_path: Path) -> None:
    group = torch.distributed
    group.init_process_group("gloo", init_method=(tmp_path / "store").as_uri(), rank=0, world_size=1)
    try:
        wrapped = nn.parallel.DistributedDataParallel(small())
        wrapped(torch.randn(4, 6)).sum().backward()
        synced = nn.SyncBatchNorm.convert_sync_batchnorm(wrapped.module)
        secateur.save(synced, tmp_path / "small.safetensors")
    finally:
        group.destroy_process_group()
    assert secateur.load(build(), tmp_path / "small.safetensors")[0].out_features == 8
