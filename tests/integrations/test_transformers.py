"""The callback in a real Trainer of Hugging Face, on tiny models and random tokens."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

import secateur
from secateur import InputError, TargetError
from secateur.apply.ready import plans_of

transformers = pytest.importorskip("transformers", exc_type=ImportError)
pytest.importorskip("accelerate", reason="needs secateur[train]")

from secateur.integrations.transformers import CheckpointCallback, PruningCallback  # noqa: E402


def bert() -> nn.Module:
    config = transformers.BertConfig(
        vocab_size=40,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=32,
        max_position_embeddings=16,
        num_labels=3,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    torch.manual_seed(0)
    return transformers.BertForSequenceClassification(config)


def llama() -> nn.Module:
    config = transformers.LlamaConfig(
        vocab_size=40,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        intermediate_size=32,
        max_position_embeddings=16,
        use_cache=False,
        tie_word_embeddings=True,
    )
    torch.manual_seed(0)
    return transformers.LlamaForCausalLM(config)


MODELS: dict[str, Callable[[], nn.Module]] = {"bert": bert, "llama": llama}


def examples(name: str, count: int = 64) -> list[dict[str, Any]]:
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(1, 40, (count, 8), generator=generator)
    labels = ids if name == "llama" else ids[:, 0] % 3
    return [
        {"input_ids": i, "attention_mask": torch.ones_like(i), "labels": label}
        for i, label in zip(ids, labels, strict=True)
    ]


class Watch(transformers.TrainerCallback):
    """The loss and the number of parameters after each step."""

    def __init__(self) -> None:
        self.sizes: list[int] = []
        self.losses: list[float] = []

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.sizes.append(sum(p.numel() for p in kwargs["model"].parameters()))

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        self.losses += [logs["loss"]] if "loss" in logs else []


def trainer(folder: Path, model: nn.Module, *callbacks: Any, name: str = "bert", **options: Any) -> Any:
    given = {"max_steps": 8, "save_strategy": "no", "logging_steps": 1, "learning_rate": 1e-3} | options
    args = transformers.TrainingArguments(
        str(folder), use_cpu=True, per_device_train_batch_size=8, report_to=[], disable_tqdm=True, seed=0, **given
    )
    data = {"train_dataset": examples(name), "eval_dataset": examples(name, 8)}
    return transformers.Trainer(model, args, callbacks=list(callbacks), **data)


@pytest.mark.parametrize("name", MODELS)
def test_it_prunes_while_the_trainer_trains(name: str, tmp_path: Path) -> None:
    watch, model = Watch(), MODELS[name]()
    pruning = PruningCallback("params=0.6", every=2, steps=2)
    run = trainer(tmp_path, model, pruning, watch, name=name)
    run.train()
    whole, small = sum(p.numel() for p in MODELS[name]().parameters()), sum(p.numel() for p in model.parameters())
    assert small <= 0.6 * whole
    assert watch.sizes[0] == whole > watch.sizes[1] == watch.sizes[2] > watch.sizes[3] == watch.sizes[7] == small
    assert all(loss < 10 for loss in watch.losses)
    assert pruning.pruning.stopped == "target"
    assert [entry["stage"] for entry in pruning.pruning.history] == [0, 1, 2]
    assert run.model is model
    assert len(plans_of(model)) == 2


def test_the_optimizer_goes_on_with_what_is_kept(tmp_path: Path) -> None:
    model, moments = bert(), []

    class Look(Watch):
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            name, optimizer = "bert.encoder.layer.0.intermediate.dense.weight", kwargs["optimizer"]
            own = optimizer.state[kwargs["model"].get_parameter(name)]
            moments.append((own["exp_avg"].clone(), float(own["step"]), optimizer.param_groups[0]["lr"]))

    run = trainer(tmp_path, model, Look(), PruningCallback("params=0.7", every=2), Look(), max_steps=4)
    run.train()
    (before, *_), (after, step, _) = moments[2:4]  # of one step: the callbacks on either side of the cut
    [plan] = plans_of(model)
    kept = [slice(None) if k is None else k for k in plan.positions("bert.encoder.layer.0.intermediate.dense.weight")]
    assert torch.equal(after, before[kept[0]][:, kept[1]])
    assert step == 2
    assert moments[-1][1] == 4
    assert [lr for _, _, lr in moments[1::2]] == pytest.approx([0.75e-3, 0.5e-3, 0.25e-3, 0.0])
    assert {id(p) for g in run.optimizer.param_groups for p in g["params"]} == {id(p) for p in model.parameters()}


def test_an_average_is_carried_and_epochs_are_counted(tmp_path: Path) -> None:
    model = bert()
    ema = AveragedModel(model)
    callback = PruningCallback("params=0.7", every=1, unit="epochs", carry=[ema])
    trainer(tmp_path, model, callback, max_steps=-1, num_train_epochs=2).train()
    ema.update_parameters(model)
    assert callback.pruning.stopped == "target"


def test_a_checkpoint_is_loaded_and_a_run_goes_on_from_it(tmp_path: Path) -> None:
    options = {"save_strategy": "steps", "save_steps": 3}
    whole = bert()
    trainer(tmp_path, whole, PruningCallback("params=0.6", every=2, steps=2), **options).train()
    with pytest.raises(InputError, match="the config of this BertForSequenceClassification does not describe it"):
        whole.save_pretrained(tmp_path / "small")
    folder = tmp_path / "checkpoint-3"
    half = secateur.load(bert(), folder / "model.safetensors")
    assert len(plans_of(half)) == 1
    run = trainer(tmp_path, half, PruningCallback("params=0.6", every=2, steps=2), **options)
    run.train(resume_from_checkpoint=str(folder))
    assert len(plans_of(half)) == 2
    for (name, a), (other, b) in zip(whole.named_parameters(), half.named_parameters(), strict=True):
        assert name == other
        assert torch.equal(a, b)


def test_checkpoints_of_a_uniform_model_go_to_from_pretrained(tmp_path: Path) -> None:
    model = bert()
    callback = PruningCallback("params=0.6", every=2, steps=2, uniform=True)
    trainer(tmp_path, model, callback, max_steps=4, save_strategy="steps", save_steps=4).train()
    again = transformers.BertForSequenceClassification.from_pretrained(tmp_path / "checkpoint-4")
    assert again.config.hidden_size < 16
    inputs = {"input_ids": torch.ones(1, 8, dtype=torch.long)}
    assert all(torch.equal(a, b) for a, b in zip(again.parameters(), model.parameters(), strict=True))
    # Tensors of a file lie where its header ends, and some kernels round by that: compare in memory of its own.
    again = copy.deepcopy(again)
    assert torch.equal(again.eval()(**inputs).logits, model.eval()(**inputs).logits)


@pytest.mark.parametrize("options", [{"target": "params=0.7"}, {"drop": {"bert.encoder.layer.1": "all"}}], ids=str)
def test_a_model_pruned_before_is_trained_saved_and_loaded(options: dict[str, Any], tmp_path: Path) -> None:
    small = secateur.prune(bert(), {"input_ids": torch.ones(1, 8, dtype=torch.long)}, **options).model
    pace: dict[str, Any] = {"max_steps": 4, "save_strategy": "steps", "save_steps": 2}
    with pytest.raises(InputError, match="config"):
        trainer(tmp_path / "refused", copy.deepcopy(small), **pace).train()
    best = {"load_best_model_at_end": True, "eval_strategy": "steps", "eval_steps": 2}
    running = trainer(tmp_path, small, CheckpointCallback(), **pace, **best)
    running.train()
    again = secateur.load(bert(), Path(running.state.best_model_checkpoint) / "model.safetensors")
    assert all(map(torch.equal, again.parameters(), small.parameters()))
    assert plans_of(again) == plans_of(small)
    with pytest.raises(InputError):
        running.save_model(str(tmp_path / "folder"))
    further = trainer(tmp_path, again, CheckpointCallback(), **pace | {"max_steps": 6})
    further.train(resume_from_checkpoint=str(tmp_path / "checkpoint-4"))
    assert further.state.global_step == 6


def test_it_stops_where_the_metric_drops_too_far(tmp_path: Path) -> None:
    model = bert()
    sizes = lambda m: float(sum(p.numel() for p in m.parameters()))  # noqa: E731
    whole = sizes(model)
    callback = PruningCallback("params=0.5", every=2, steps=4, metric=sizes, max_drop=0.3 * whole)
    run = trainer(tmp_path, model, callback, max_steps=20)
    run.train()
    assert (callback.pruning.stopped, run.state.global_step) == ("max_drop", 8)
    assert callback.pruning.model is not model
    assert sizes(callback.pruning.model) >= 0.7 * whole > sizes(model)
    assert [entry["good"] for entry in callback.pruning.history] == [True, True, True, False]


def several(value: str) -> Callable[..., Any]:
    """Arguments as they are where several processes run; none run here."""

    def check(tmp_path: Path) -> Any:
        callback = PruningCallback("params=0.5", every=1)
        args = SimpleNamespace(parallel_mode=SimpleNamespace(value=value))
        callback.on_train_begin(args, SimpleNamespace(), None, model=bert())  # type: ignore[arg-type]

    return check


def training(callback: Callable[[], Any], **options: Any) -> Callable[[Path], Any]:
    return lambda tmp_path: trainer(tmp_path, bert(), callback(), **options).train()


REFUSED: dict[str, tuple[Callable[[Path], Any], type[Exception], str]] = {
    "several processes": (several("distributed"), InputError, r"several devices or processes \(distributed\)"),
    "several devices": (several("not_distributed"), InputError, r"CUDA_VISIBLE_DEVICES=0 python train\.py"),
    "too short": (
        training(lambda: PruningCallback("params=0.5", every=5, steps=2)),
        InputError,
        "ends after 8 steps, before the last stage\n  stages 2, one every 5 steps: the last comes after 10\ntrain",
    ),
    "too few epochs": (
        training(lambda: PruningCallback("params=0.5", every=3, unit="epochs"), max_steps=-1, num_train_epochs=2),
        InputError,
        "ends after 2 epochs, before the last stage",
    ),
    "a target that is met": (training(lambda: PruningCallback("params=1.0", every=2)), TargetError, "already met"),
    "no target": (training(lambda: PruningCallback("speed=2", every=2)), TargetError, "speed"),
    "an unknown option": (
        lambda tmp_path: PruningCallback("params=0.5", importanse="l1"),
        InputError,
        "no option 'importanse'; did you mean 'importance'.*\nknown: every, unit, steps, carry, schedule, importance",
    ),
    "an option of its own": (lambda tmp_path: PruningCallback("params=0.5", start=3), InputError, "no option 'start'"),
    "an unknown unit": (lambda tmp_path: PruningCallback("params=0.5", unit="days"), InputError, "unit='days'"),
    "no steps": (lambda tmp_path: PruningCallback("params=0.5", every=0), InputError, "every=0; give a whole number"),
    "max_drop alone": (lambda tmp_path: PruningCallback("params=0.5", max_drop=1.0), InputError, "without a metric"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_work_is_refused_before_training(case: str, tmp_path: Path) -> None:
    act, kind, message = REFUSED[case]
    with pytest.raises(kind, match=message):
        act(tmp_path)


def test_data_without_examples(tmp_path: Path) -> None:
    class Stream(torch.utils.data.IterableDataset):  # type: ignore[type-arg]
        def __iter__(self) -> Any:
            return iter(examples("bert"))

    run = trainer(tmp_path, bert(), PruningCallback("params=0.6", every=2))
    run.train_dataset = Stream()
    with pytest.raises(InputError, match=r"no example inputs can be read .*\npass them: PruningCallback\(target, exam"):
        run.train()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("deepspeed", "deepspeed holds the parameters itself"),
        ("fsdp", "fsdp holds the parameters itself"),
        (
            "load_best_model_at_end",
            "the best checkpoint may be of a larger model .*\nleave it out, and load the checkpoint",
        ),
    ],
)
def test_arguments_that_do_not_go_with_a_cut(name: str, message: str) -> None:
    args = SimpleNamespace(**{"load_best_model_at_end": False, name: True})
    args.parallel_mode = SimpleNamespace(value="not_parallel")
    with pytest.raises(InputError, match=rf"args\.{name} is set.* {message}"):
        PruningCallback("params=0.5").on_train_begin(args, None, None)  # type: ignore[arg-type]
