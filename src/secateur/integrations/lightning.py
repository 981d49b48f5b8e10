"""A callback that prunes a model inside the Trainer of Lightning.

trainer = Trainer(max_epochs=10, callbacks=[PruningCallback("macs=0.5", images[:1], every=200, steps=5)])
trainer.fit(module, loader)
secateur.save(module, "small.safetensors")
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from torch import nn
from torch.optim.swa_utils import AveragedModel

from secateur.apply.surgery import cut_
from secateur.errors import FileError, InputError
from secateur.integrations.in_place import InPlaceCallback
from secateur.plan.plan import Plan

try:
    from lightning.pytorch import Callback, LightningModule, Trainer
    from lightning.pytorch.strategies import SingleDeviceStrategy
except ImportError as error:  # pragma: no cover
    raise InputError("lightning is not installed; install it with: pip install 'secateur[lightning]'") from error

PLANS = "secateur_plans"


class PruningCallback(InPlaceCallback, Callback):
    """Prunes a LightningModule, or a part of it, while it trains; optimizers and schedulers follow.

    The averaged models of Lightning's own callbacks follow too. Checkpoints hold the plans as JSON under
    "secateur_plans": `restore(module, checkpoint)` cuts a freshly built module to the size of a checkpoint, after which
    its state dict loads, and `trainer.fit(module, ckpt_path=...)` continues.

    Args:
        target: What remains at the end, as `secateur.plan` takes it.
        example_inputs: The inputs that the pruned module is called with. Default: None, the `example_input_array` of
            the LightningModule.
        part: The dotted name of the module that is pruned. Default: "", the whole module.
        options: See `InPlaceCallback`.

    Raises:
        InputError: Before training starts: there are several devices or processes, or the training ends before the last
            stage.
    """

    def __init__(self, target: str | Sequence[str], example_inputs: Any = None, *, part: str = "", **options: Any):
        super().__init__(target, example_inputs, **options)
        self._part = part

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not isinstance(trainer.strategy, SingleDeviceStrategy):
            raise InputError(
                f"the Trainer runs on {type(trainer.strategy).__name__}, whose copies of the model a cut does not reach"
                "\nprune on one device: Trainer(devices=1), then fine-tune the smaller model on all"
            )
        pace = self.pruning.pace
        pace.check_reaches("steps", _last_step(trainer, pl_module))
        pace.check_reaches("epochs", trainer.max_epochs or 0)
        done = trainer.global_step if pace.unit == "steps" else trainer.current_epoch
        self.pruning.begin(self._model(pl_module), lambda: self._example(pl_module), done)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self._after("steps", trainer.global_step, trainer, pl_module)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._after("epochs", trainer.current_epoch + 1, trainer, pl_module)

    def _after(self, unit: str, count: int, trainer: Trainer, module: LightningModule) -> None:
        if self._enough(self._model(module), unit, count, [*trainer.optimizers, *self._averages(trainer)]):
            trainer.should_stop = True

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.pruning.end(self._model(pl_module))

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        checkpoint[PLANS] = {"part": self._part, "plans": self.pruning.plans(self._model(pl_module))}

    def _model(self, module: nn.Module) -> nn.Module:
        try:
            return module.get_submodule(self._part)
        except AttributeError as error:
            raise InputError(f"part={self._part!r}: {error}") from error

    def _example(self, module: LightningModule) -> Any:
        if self._part or module.example_input_array is None:
            raise InputError(
                f"there are no example inputs for {self._part or type(module).__name__}\n"
                "pass the inputs that it is called with: PruningCallback(target, images[:1])"
            )
        return module.example_input_array

    def _averages(self, trainer: Trainer) -> Iterator[nn.Module]:
        """Yield the pruned module in each averaged model that callbacks of Lightning keep."""
        for callback in trainer.callbacks:  # type: ignore[attr-defined]
            held = getattr(callback, "_average_model", None)
            if isinstance(held, nn.Module):
                yield self._model(held.module if isinstance(held, AveragedModel) else held)


def restore(module: nn.Module, checkpoint: Mapping[str, Any]) -> nn.Module:
    """Cut a freshly built module to the size that it had in a checkpoint of Lightning.

    The weights are not loaded: `load_state_dict` or `trainer.fit(module, ckpt_path=path)` does that.

    Args:
        module: The module, as its constructor builds it.
        checkpoint: What `torch.load(path, weights_only=True)` returns.

    Returns:
        The same object, cut.

    Raises:
        FileError: The checkpoint contains no plans.
    """
    found = checkpoint.get(PLANS)
    if not isinstance(found, Mapping):
        raise FileError(f"the checkpoint has no {PLANS!r}: it was written without a PruningCallback")
    part = module.get_submodule(found["part"])
    for plan in json.loads(found["plans"]):
        cut_(part, Plan.from_json(json.dumps(plan)))
    return module


def _last_step(trainer: Trainer, module: LightningModule) -> int:
    """Return `trainer.global_step` at the end of training; 0 if it is not known.

    With manual optimization it counts the steps of every optimizer, which only the module decides.
    """
    if not module.automatic_optimization:
        return max(0, trainer.max_steps)
    total = trainer.estimated_stepping_batches
    return int(total) if math.isfinite(total) else 0


__all__ = ["PruningCallback", "restore"]
