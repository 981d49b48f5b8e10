"""The loop: stages of the original's size, in however many steps, with whatever is carried; and how it ends."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import secateur
from nets import NETS
from secateur import pruning
from secateur.errors import InputError, PruningError, TargetError
from secateur.train.iterate import Iteration, iterate
from secateur.train.schedules import SCHEDULES, cubic, hold, join, linear

X = torch.zeros(1, 4)


def mlp(*widths: int) -> nn.Module:
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for a, b in zip((4, *widths), (*widths, 2), strict=True):
        layers += [nn.Linear(a, b), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def chain(depth: int = 4) -> nn.Module:
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(8, 16), nn.Linear(16, 8)

        def forward(self, x: Tensor) -> Tensor:
            return x + self.b(self.a(x).relu())

    return nn.Sequential(nn.Linear(4, 8), *(Block() for _ in range(depth)), nn.Linear(8, 2))


def widths(model: nn.Module, inputs: Any) -> dict[str, tuple[int, ...]]:
    return {name: tuple(p.shape) for name, p in model.named_parameters()}


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("target", ["macs=0.4", "params=0.4", "memory=0.7", "channels=0.3"])
def test_each_stage_meets_its_share_of_the_original(schedule: str, target: str) -> None:
    kind, end = target.partition("=")[::2]
    net, way = mlp(32, 48), SCHEDULES[schedule](float(end), 4)
    before = secateur.trace(net, X)
    stages = list(iteration := iterate(net, X, target, schedule=schedule, steps=4))
    for stage in stages:
        if kind == "channels":
            assert stage.model[0].out_features <= 32 * way(stage.number)
        else:
            assert getattr(stage.plan.after, kind) <= way(stage.number) * getattr(before.totals, kind)
    assert [stage.number for stage in stages] in ([4] if schedule == "one_shot" else [1, 2, 3, 4], [1, 2, 3])
    assert stages[-1].target == (iteration._goals.texts(stages[-1].number))
    assert (iteration.stopped, iteration.model) == ("target", stages[-1].model)


@given(
    st.lists(st.integers(2, 40), min_size=1, max_size=3),
    st.integers(10, 99),
    st.integers(1, 6),
    st.sampled_from(sorted(SCHEDULES)),
    st.sampled_from([1, 2, 3]),
)
@settings(max_examples=25, deadline=None)
def test_channels_end_with_the_widths_of_one_cut(
    sizes: list[int], percent: int, steps: int, schedule: str, align: int
) -> None:
    net, target, select = mlp(*sizes), f"channels={percent / 100}", secateur.Select(align=align)
    once = secateur.prune(net, X, target, select=select)
    if once.plan.is_empty:
        return
    iteration = iterate(net, X, target, schedule=schedule, steps=steps, select=select)
    for _ in iteration:
        pass
    assert widths(iteration.model, X) == widths(once.model, X)


@pytest.mark.parametrize("name", ["residual", "grouped_queries", "gated", "windows", "channel_shuffle"])
def test_widths_of_one_cut_on_coupled_axes(name: str) -> None:
    net, inputs = NETS[name].make(), NETS[name].example()
    once = secateur.prune(net, inputs, "channels=0.4")
    iteration = iterate(net, inputs, "channels=0.4", steps=3)
    assert len(list(iteration)) >= 1
    assert widths(iteration.model, inputs) == widths(once.model, inputs)


@pytest.mark.parametrize("name", ["attention", "multihead"])
def test_axes_that_are_tied_otherwise_once_they_are_small(name: str) -> None:
    net, inputs = NETS[name].make(), NETS[name].example()
    for stage in iterate(net, inputs, "channels=0.4", steps=3):
        assert secateur.verify(stage.graph.model, stage.model, stage.plan, inputs).passed
    assert stage.plan.after.params < secateur.prune(net, inputs, "channels=0.6").plan.after.params


@pytest.mark.parametrize("start", [1, 2])
@pytest.mark.parametrize("target", ["macs=0.4", "channels=0.35", ["params=0.5", "channels=0.9"]])
def test_a_loop_goes_on_from_a_model_that_was_cut(target: Any, start: int) -> None:
    def stages(model: nn.Module, start: int = 0) -> dict[int, nn.Module]:
        return {s.number: s.model for s in iterate(model, X, target, steps=4, start=start)}

    whole = stages(mlp(33, 47))
    again = stages(whole[start], start)
    assert list(again) == [n for n in whole if n > start]
    for number, model in again.items():
        assert all(map(torch.equal, model.parameters(), whole[number].parameters()))


def test_floors_are_shares_of_the_original() -> None:
    iteration = iterate(mlp(40, 40), X, "macs=0.03", steps=5, select=secateur.Select(floor=0.1), schedule="exponential")
    for stage in iteration:
        assert all(axis.kept_count >= 4 for axis in stage.plan.axes.values())


def test_sizes_of_a_selection_follow_the_schedule() -> None:
    select = secateur.Select(rules=["0: keep=0.5", "2: ceiling=0.25"], widths={"4": 7}, protect="6.bias")
    found = [
        [stage.model[i].out_features for i in (0, 2, 4, 6)]
        for stage in iterate(mlp(40, 40, 40, 40), X, None, steps=4, select=select)
    ]
    assert found == [[35, 32, 31, 40], [30, 25, 23, 40], [25, 17, 15, 40], [20, 10, 7, 40]]


def test_what_goes_together_stays_together() -> None:
    select = ["0, 2: together", "0: floor=2"]
    for stage in iterate(mlp(32, 64), X, "macs=0.3", steps=3, select=select):
        assert abs(2 * stage.model[0].out_features - stage.model[2].out_features) <= stage.number


def test_a_rule_about_what_is_gone_is_no_error() -> None:
    """A width of one leaves no axis that a rule could mean."""
    iteration = iterate(mlp(4, 32), X, "macs=0.2", steps=3, select=["0: width=1", "only=yes"][:1])
    assert [stage.model[0].out_features for stage in iteration][-1] == 1


def test_only_holds_when_what_it_means_is_gone() -> None:
    net, select = mlp(3, 32), secateur.Select(only="0", widths={"0": 1})
    iteration = iterate(net, X, None, steps=3, select=select)
    assert [stage.model[2].out_features for stage in iteration][-1] == 32


def test_depth_counts_blocks_of_the_original() -> None:
    net = chain(5)
    stages = list(iterate(net, X, ["depth=0.2", "macs=0.1"], steps=4))
    removed = [len(stage.plan.removed) for stage in stages]
    assert sum(removed) == 4
    assert max(removed) == 1
    on = list(iterate(stages[1].model, X, ["depth=0.2", "macs=0.1"], steps=4, start=2))
    assert [len(stage.plan.removed) for stage in on] == removed[2:]


def test_a_count_is_reached_exactly_as_asked() -> None:
    stages = list(iterate(mlp(32, 32), X, "params=400", steps=3))
    assert stages[-1].target == ("params=400",)
    assert stages[-1].plan.after.params <= 400


def test_a_schedule_that_is_composed_for_the_end_asked_for() -> None:
    """What has no size of its own to reach needs no schedule there."""
    fast_then_slow = lambda end, steps: join([linear(0.6, 3), cubic(end, steps - 3, start=0.6)], [3])  # noqa: E731
    stages = list(iterate(mlp(32, 32), X, "macs=0.3", schedule=fast_then_slow, steps=6))
    assert [stage.target for stage in stages][2:4] == [("macs=0.6",), ("macs=0.3889",)]


def scripted(*values: float) -> Callable[[nn.Module], float]:
    told = iter(values)
    return lambda model: next(told)


def test_it_ends_with_the_last_good_stage() -> None:
    iteration = iterate(mlp(32), X, "macs=0.2", steps=4, metric=scripted(0.9, 0.895, 0.88, 0.87), max_drop=0.02)
    stages = list(iteration)
    assert [stage.number for stage in stages] == [1, 2, 3]
    assert iteration.stopped == "max_drop"
    assert iteration.model is stages[1].model
    assert iteration.plan is not None
    assert iteration.plan.after == stages[1].plan.after
    assert [record["good"] for record in iteration.history] == [True, True, True, False]


def test_it_ends_with_the_dense_model_where_nothing_was_good() -> None:
    net = mlp(32)
    iteration = iterate(net, X, "macs=0.2", steps=4, metric=scripted(0.9, 0.1), max_drop=0.02)
    assert len(list(iteration)) == 1
    assert iteration.model is net
    assert iteration.plan is None


def test_lower_may_be_better_and_the_last_stage_is_judged_too() -> None:
    metric = scripted(1.2, 1.6)  # a perplexity, say
    iteration = iterate(mlp(32), X, "macs=0.2", steps=2, metric=metric, max_drop=0.5, higher_is_better=False, dense=1.0)
    assert len(list(iteration)) == 2
    assert (iteration.stopped, iteration.history[-1]["drop"]) == ("max_drop", pytest.approx(0.6))


def test_the_metric_of_a_stage_is_asked_after_its_training() -> None:
    def metric(model: nn.Module) -> float:
        return float(model[0].bias.detach().mean())  # type: ignore[union-attr,operator]

    iteration = iterate(mlp(32), X, "macs=0.2", steps=2, metric=metric, max_drop=10.0, dense=0.0)
    for stage in iteration:
        nn.init.constant_(stage.model[0].bias, stage.number)
    assert [record["metric"] for record in iteration.history] == [0.0, 1.0, 2.0]


def test_a_metric_that_is_no_number_is_an_error_and_the_good_stage_stays() -> None:
    iteration = iterate(mlp(32), X, "macs=0.2", steps=3, metric=scripted(0.9, 0.9, float("nan")), max_drop=0.1)
    first = next(iteration)
    next(iteration)
    with pytest.raises(PruningError, match=r"the metric of stage 2 is not usable: nan is not finite"):
        next(iteration)
    assert iteration.model is first.model


def test_steps_that_end_before_the_schedule() -> None:
    iteration = iterate(mlp(32), X, "macs=0.2", schedule=lambda end, steps: hold(linear(end, 10), 1), steps=4)
    assert [stage.number for stage in iteration] == [2, 3, 4]
    assert iteration.stopped == "steps"
    assert str(iteration).endswith("ended after 4 steps, before the end of the schedule")


def test_a_loop_that_was_left_goes_on() -> None:
    iteration = iterate(mlp(32), X, "macs=0.2", steps=4)
    for stage in iteration:
        if stage.number == 2:
            break
    assert (iteration.stopped, iteration.model) == (None, stage.model)
    assert "after step 2 of 4" in str(iteration)
    assert [stage.number for stage in iteration] == [3, 4]
    assert list(iteration) == []
    assert iteration.stopped == "target"


def test_a_loop_that_was_left_unjudged_keeps_the_good_model() -> None:
    net = mlp(32)
    iteration = iterate(net, X, "macs=0.2", steps=4, metric=scripted(0.9, 0.9), max_drop=0.1)
    first = next(iteration)
    assert (iteration.model, iteration.plan) == (net, None)
    second = next(iteration)
    assert iteration.model is first.model
    assert second.model is not first.model


def test_history_is_json_and_the_plan_is_one() -> None:
    net = mlp(32, 24)
    iteration = iterate(net, X, ["macs=0.5", "channels=0.9"], steps=3, metric=scripted(*[0.5] * 4))
    last = list(iteration)[-1]
    assert json.loads(json.dumps(iteration.history)) == iteration.history
    assert iteration.history[-1]["target"] == ["macs=0.5", "channels=0.9"]
    assert iteration.plan is not None
    again = secateur.cut(net, iteration.plan)
    assert all(map(torch.equal, again.parameters(), last.model.parameters()))


def test_it_prints() -> None:
    iteration = iterate(mlp(32), X, "macs=0.5", steps=2, metric=scripted(0.9, 0.89, 0.5), max_drop=0.1)
    list(iteration)
    assert str(iteration).splitlines() == [
        "stage  target     params          MACs          metric  drop",
        "start                226           192             0.9",
        "1      macs=0.75     170  75.2 %   144  75.0 %    0.89  0.01",
        "2      macs=0.5      114  50.4 %    96  50.0 %     0.5   0.4  too much",
        "ended: the last stage dropped by more than 0.1; the model is that before it",
    ]


def test_models_before_stay_whole() -> None:
    net = mlp(32)
    before = {name: (id(p), p._version, p.shape) for name, p in net.named_parameters()}
    stages = list(iterate(net, X, "macs=0.2", steps=3))
    assert before == {name: (id(p), p._version, p.shape) for name, p in net.named_parameters()}
    assert len({id(p) for stage in stages for p in stage.model.parameters()}) == 3 * 4


@pytest.mark.parametrize("where", ["cut", "finished", "_follow"])
def test_a_failure_leaves_the_stage_before_and_the_loop_can_go_on(where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*args: object, **options: object) -> object:
        raise RuntimeError("out of memory")

    iteration = iterate(mlp(32), X, "macs=0.2", steps=3)
    first = next(iteration)
    shapes = widths(first.model, X)
    with monkeypatch.context() as patch:
        patch.setattr(Iteration if where == "_follow" else pruning, where, broken)
        with pytest.raises(RuntimeError, match="out of memory"):
            next(iteration)
    assert iteration.model is first.model
    assert widths(first.model, X) == shapes
    assert [stage.number for stage in iteration] == [2, 3]


def test_recovery_and_importance_read_the_data_of_each_stage() -> None:
    data = [(torch.randn(8, 4), torch.randint(0, 2, (8,))) for _ in range(4)]
    options: dict[str, Any] = {"importance": "taylor", "data": data, "loss": nn.functional.cross_entropy}
    stages = list(iterate(mlp(32), X, "macs=0.3", steps=2, recover="lsq", **options))
    assert [len(stage.plan.recovery) for stage in stages] == [1, 1]


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"steps": 0}, InputError, "steps=0; give a whole number from 1 up"),
        ({"start": 3}, InputError, "start=3; it is the number of stages that are done, 0 to 2"),
        ({"schedule": "cubix"}, InputError, "no schedule is named 'cubix'; did you mean 'cubic'?"),
        ({"target": "macs=half"}, TargetError, "target 'macs=half'"),
        ({"target": "macs=0.001"}, TargetError, "target macs=0.001 cannot be reached: the smallest possible is"),
        ({"target": "macs=1.0"}, TargetError, "the target is already met: macs=1\n  macs: the model has 192 (100 % of"),
        ({"target": "params=4000"}, TargetError, "the target is already met: params=4000"),
        ({"target": "channels=1"}, TargetError, "the target is already met: channels=1"),
        ({"target": None}, InputError, "nothing to do: give a target such as 'macs=0.5', or select= with sizes"),
        ({"target": None, "select": "0: keep=1"}, TargetError, "the target is already met: the sizes of select"),
        ({"max_drop": 0.1}, InputError, "max_drop=0.1 without a metric\ngive metric=, a function"),
        ({"metric": len, "max_drop": -1}, InputError, "max_drop=-1; it is by how much the metric may get worse"),
        ({"metric": len, "max_drop": "1"}, InputError, "max_drop='1': a str, '1', is not a number"),
        ({"calls": torch.zeros(1, 4)}, InputError, "calls is a Tensor; pass a list of further calls"),
        ({"metric": 0.5}, InputError, "metric=0.5 is not a function (model) -> number"),
        (
            {"importance": {"0": torch.ones(32)}},
            InputError,
            "importance= is a set of scores, which belong to the model",
        ),
        ({"data": iter([]), "recover": "norms"}, InputError, "data= is an iterator, which stage 1 of 2 uses up"),
    ],
)
def test_what_is_refused(options: dict[str, Any], error: type[Exception], message: str) -> None:
    target = options.pop("target", "macs=0.5")
    with pytest.raises(error, match=re.escape(message)):
        iterate(mlp(32), X, target, **{"steps": 2, **options})


def way(*shares: Any) -> Callable[[float, int], Callable[[int], Any]]:
    """A factory of what somebody might take for a schedule."""
    return lambda end, steps: lambda step: shares[step]


@pytest.mark.parametrize(
    ("schedule", "message"),
    [
        ([0.9, 0.5], "schedule is a list: [0.9, 0.5]\ngive one_shot, linear, cubic, exponential, or a function"),
        (linear(0.5, 2), "schedule(0.5, 2) failed: "),
        (lambda end, steps: 0.5, "schedule(0.5, 2) returns a float, 0.5, not a function of a step\n"),
        (
            way(1.0, None, 0.5),
            "at step 1 of 2 the schedule returns None; it is the share that remains: above 0, up to 1",
        ),
        (way(1.0, float("nan"), 0.5), "at step 1 of 2 the schedule returns nan; "),
        (way(100, 70, 50), "at step 0 of 2 the schedule returns 100; "),
        (way(1.0, 0.5, 0), "at step 2 of 2 the schedule returns 0; "),
        (
            way(1.0, 0.6, 0.7),
            "the schedule rises from 0.6 at step 1 to 0.7 at step 2; units that were removed do not come back",
        ),
    ],
)
def test_schedules_that_are_refused_before_anything_is_trained(schedule: Any, message: str) -> None:
    with pytest.raises(InputError, match=re.escape(message)):
        iterate(mlp(32), X, "macs=0.5", schedule=schedule, steps=2)


def test_a_stage_says_that_its_model_cannot_be_replaced() -> None:
    (stage,) = iterate(mlp(32), X, "macs=0.5")
    with pytest.raises(AttributeError, match="model"):
        stage.model = nn.Sequential(stage.model)  # type: ignore[misc]


def test_a_target_that_a_cut_model_has_met() -> None:
    half = secateur.prune(mlp(32), X, "macs=0.5").model
    with pytest.raises(TargetError, match=r"the model has 96 \(50.0 % of the original 192\)\n +the target allows 115"):
        iterate(half, X, "macs=0.6", steps=2)
    iteration = iterate(half, X, "macs=0.6", steps=2, start=1)
    assert list(iteration) == []
    assert (iteration.stopped, iteration.model) == ("target", half)


def test_macs_of_another_call_are_no_yardstick() -> None:
    half = secateur.prune(mlp(32), X, "macs=0.5").model
    with pytest.raises(TargetError, match=r"inputs of another size[^:]*\n  MACs on those inputs   96\n.*inputs   288"):
        iterate(half, torch.zeros(3, 4), "macs=0.2")
    assert len(list(iterate(half, torch.zeros(3, 4), "params=0.2"))) == 1


def trained(model: nn.Module, optimizer: torch.optim.Optimizer, seed: int, steps: int = 3) -> None:
    generator = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        optimizer.zero_grad()
        model(torch.randn(8, 4, generator=generator)).square().mean().backward()
        optimizer.step()


@pytest.mark.parametrize("recover", [(), "shift"])
def test_what_is_carried_follows_to_each_stage(recover: Any) -> None:
    net = mlp(32, 24)
    optimizer, data = torch.optim.AdamW(net.parameters(), lr=1e-3), [(torch.randn(8, 4), torch.zeros(8))] * 2
    ema = torch.optim.swa_utils.AveragedModel(net)
    trained(net, optimizer, 0)
    for stage in iterate(net, X, "macs=0.3", steps=3, carry=[optimizer, ema], recover=recover, data=data):
        held = [p for group in optimizer.param_groups for p in group["params"]]
        assert {id(p) for p in held} == {id(p) for p in stage.model.parameters()}
        assert all(optimizer.state[p]["exp_avg"].shape == p.shape for p in held)
        trained(stage.model, optimizer, stage.number)
        ema.update_parameters(stage.model)


def test_an_optimizer_of_a_stage_that_was_too_much_says_so() -> None:
    """The natural next line would train a model that was given up, and leave the good one as it is."""
    net = mlp(32)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1)
    metric = scripted(0.9, 0.9, 0.5)
    iteration = iterate(net, X, "macs=0.2", steps=3, metric=metric, max_drop=0.1, carry=[scheduler, optimizer])
    for stage in iteration:
        trained(stage.model, optimizer, stage.number)
    assert iteration.stopped == "max_drop"
    with pytest.warns(
        UserWarning, match=r"this SGD holds the parameters of stage 2, .* model of stage 1\nbuild"
    ) as told:
        trained(iteration.model, optimizer, 3)
    assert len(told) == 1
    assert "carried objects belong to the last stage" in str(iteration)


def test_an_optimizer_without_hooks_is_given_up_in_silence() -> None:
    class Plain(torch.optim.Optimizer):
        def __init__(self, parameters: Any) -> None:
            self.param_groups, self.state = [{"params": [*parameters]}], {}  # type: ignore[assignment]

    net = mlp(32)
    iteration = iterate(net, X, "macs=0.2", metric=scripted(0.9, 0.1), max_drop=0.1, carry=Plain(net.parameters()))
    list(iteration)
    assert (iteration.stopped, iteration.model) == ("max_drop", net)


def test_one_object_may_be_carried_alone() -> None:
    net = mlp(32)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    (stage,) = iterate(net, X, "macs=0.5", carry=optimizer)
    assert optimizer.param_groups[0]["params"][0] is stage.model[0].weight


def test_what_cannot_be_carried_leaves_the_rest_whole() -> None:
    net = mlp(32)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    trained(net, optimizer, 0)
    iteration = iterate(net, X, "macs=0.5", steps=2, carry=[optimizer, "no optimizer"])
    with pytest.raises(InputError, match="str cannot follow the cut"):
        next(iteration)
    assert iteration.model is net
    assert all(optimizer.state[p]["momentum_buffer"].shape == p.shape for p in net.parameters())


def test_the_same_stages_from_a_saved_one(tmp_path: Any) -> None:
    path, options = tmp_path / "stage.safetensors", {"steps": 3, "select": ["0: keep=0.5", "2: floor=0.2"]}
    stages = list(iterate(mlp(32, 24), X, "macs=0.2", **options))
    secateur.save(stages[0].model, path)
    again = list(iterate(secateur.load(mlp(32, 24), path), X, "macs=0.2", start=1, **options))
    assert len(again) == 2
    assert all(map(torch.equal, again[-1].model.parameters(), stages[-1].model.parameters()))


@pytest.mark.parametrize("recover", [(), "lsq"])
def test_a_loop_of_ones_own_goes_on_from_its_files(recover: Any, tmp_path: Any) -> None:
    """Model, state dict of the optimizer, number of the stage and what the dense model scored: no more is needed."""

    def metric(model: nn.Module) -> float:
        return -float(model(torch.ones(1, 4)).detach().square().mean())

    def loop(model: nn.Module, done: dict[str, Any], until: int = 4) -> tuple[list[dict[str, Any]], nn.Module]:
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
        if done:
            optimizer.load_state_dict(done["optimizer"])
        iteration = iterate(
            model,
            X,
            "macs=0.3",
            steps=4,
            start=done.get("stage", 0),
            dense=done.get("dense"),
            carry=[optimizer],
            recover=recover,
            data=[(torch.linspace(-1, 1, 32).view(8, 4), torch.zeros(8))],
            metric=metric,
            max_drop=100.0,
        )
        for stage in iteration:
            trained(stage.model, optimizer, stage.number)
            dense = iteration.history[0]["metric"]
            saved = {"stage": stage.number, "optimizer": optimizer.state_dict(), "dense": dense}
            secateur.save(stage.model, tmp_path / f"{stage.number}.safetensors")
            torch.save(saved, tmp_path / f"{stage.number}.pt")
            if stage.number == until:
                break
        return iteration.history, stage.model

    def build() -> nn.Module:
        net = mlp(32, 24)
        net[2].bias = None
        return net

    history, whole = loop(build(), {})
    loop(build(), {}, until=2)
    again, model = loop(
        secateur.load(build(), tmp_path / "2.safetensors"), torch.load(tmp_path / "2.pt", weights_only=True)
    )
    assert all(map(torch.equal, model.parameters(), whole.parameters()))
    assert [record["drop"] for record in again[1:]] == [record["drop"] for record in history[3:]]
