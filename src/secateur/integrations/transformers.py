"""Callbacks for the Trainer of Hugging Face transformers: one prunes its model, one trains a model pruned before.

trainer = Trainer(model, args, train_dataset=..., callbacks=[PruningCallback("macs=0.5", every=200, steps=5)])
trainer.train()
secateur.save(trainer.model, "small.safetensors")
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from secateur.anatomy.guard import allow_checkpoints
from secateur.apply.ready import plans_of
from secateur.errors import InputError
from secateur.files.model_file import save
from secateur.integrations.in_place import InPlaceCallback

try:
    from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
except ImportError as error:  # pragma: no cover
    raise InputError("transformers is not installed; install it with: pip install 'secateur[hf,train]'") from error

WEIGHTS = "model.safetensors"


class CheckpointCallback(TrainerCallback):
    """Lets the Trainer write checkpoints of a model that was pruned before the training.

    Without it, the first checkpoint of a model that its config does not describe raises `InputError`. Checkpoints are
    those of the Trainer, with the plans in `model.safetensors`: `secateur.load(build_model(),
    "checkpoint-500/model.safetensors")` returns the smaller model. `load_best_model_at_end` and
    `train(resume_from_checkpoint=...)` work.

    Example:
        >>> import tempfile
        >>> from transformers import BertConfig, BertForSequenceClassification, Trainer, TrainingArguments
        >>> model = BertForSequenceClassification(BertConfig(hidden_size=16, num_attention_heads=4))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     arguments = TrainingArguments(folder, use_cpu=True, report_to=[])
        ...     trainer = Trainer(model, arguments, callbacks=[CheckpointCallback()])
    """

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        allow_checkpoints(kwargs["model"], True)

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Write the weights of the checkpoint again, with the plans in the file."""
        if state.is_world_process_zero and plans_of(kwargs["model"]):
            folder = Path(str(args.output_dir)) / f"checkpoint-{state.global_step}"
            save(kwargs["model"], folder / (WEIGHTS if (folder / WEIGHTS).exists() else "secateur.safetensors"))

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        allow_checkpoints(kwargs["model"], False)


class PruningCallback(InPlaceCallback, CheckpointCallback):
    """Prunes the Trainer's model while it trains; optimizer and scheduler follow.

    Checkpoints are those of the Trainer, with the plans in `model.safetensors`:
    `secateur.load(build_model(), "checkpoint-500/model.safetensors")` returns the smaller model, and a Trainer of that
    model continues with `train(resume_from_checkpoint="checkpoint-500")`. With `uniform=True` all layers keep equal
    sizes, and `from_pretrained("checkpoint-500")` reads it too.

    Args:
        target: What remains at the end, as `secateur.plan` takes it.
        example_inputs: The inputs that the model is called with. Default: None, the first training example without its
            labels.
        options: See `InPlaceCallback`.

    Raises:
        InputError: Before training starts: there are several processes or devices, DeepSpeed, FSDP or
            `load_best_model_at_end` (the best model may have another shape) is used, or the training ends before the
            last stage.
    """

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        _check_arguments(args)
        model = kwargs["model"]
        pace = self.pruning.pace
        pace.check_reaches("steps", state.max_steps)
        pace.check_reaches("epochs", int(state.num_train_epochs))
        done = state.global_step if pace.unit == "steps" else round(state.epoch or 0)
        self.pruning.begin(model, lambda: _first_example(kwargs.get("train_dataloader")), done)
        super().on_train_begin(args, state, control, **kwargs)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        self._after("steps", state.global_step, control, kwargs)

    def on_epoch_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self._after("epochs", round(state.epoch or 0), control, kwargs)

    def _after(self, unit: str, count: int, control: TrainerControl, held: dict[str, Any]) -> None:
        if self._enough(held["model"], unit, count, [held["optimizer"], held["lr_scheduler"]]):
            control.should_training_stop = True

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self.pruning.end(kwargs["model"])
        super().on_train_end(args, state, control, **kwargs)


def _check_arguments(args: TrainingArguments) -> None:
    mode = args.parallel_mode.value
    if mode != "not_parallel":
        raise InputError(
            f"the Trainer runs on several devices or processes ({mode}), whose copies of the model a cut does not "
            "reach\nprune on one: CUDA_VISIBLE_DEVICES=0 python train.py, then fine-tune the smaller model on all"
        )
    for name in ("deepspeed", "fsdp"):
        if getattr(args, name, None):
            raise InputError(f"args.{name} is set: {name} holds the parameters itself, and a cut does not reach them")
    if args.load_best_model_at_end:
        raise InputError(
            "args.load_best_model_at_end is set, but the best checkpoint may be of a larger model than the last\n"
            "leave it out, and load the checkpoint you choose: secateur.load(build_model(), 'checkpoint-.../"
            f"{WEIGHTS}')"
        )


def _first_example(loader: Any) -> dict[str, Any] | None:
    """Return the first training example as the model is called with it, without labels."""
    try:
        batch = loader.collate_fn([loader.dataset[0]])
        return {name: value for name, value in batch.items() if not name.startswith("label")}
    except (AttributeError, TypeError, KeyError, IndexError, NotImplementedError) as error:
        raise InputError(
            f"no example inputs can be read from the training data: {type(error).__name__}: {error}\n"
            "pass them: PruningCallback(target, example_inputs)"
        ) from error


__all__ = ["CheckpointCallback", "PruningCallback"]
