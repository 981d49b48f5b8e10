"""Models that are cut rightly, whatever they divide by, draw, write or are made of: `verify` must say so."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import secateur
from nets import Parts
from secateur.anatomy.calls import Call
from secateur.anatomy.structure import distance
from secateur.proof import ondemand
from secateur.proof.replay import ReplayJob
from secateur.trace.registry import ATEN


def _linear(net: Callable[[Any, Tensor], Tensor], **parts: Any) -> nn.Module:
    return Parts(net, inp=nn.Linear(6, 16), out=nn.Linear(16, 2), **parts)


def _conv(net: Callable[[Any, Tensor], Tensor], **parts: Any) -> nn.Module:
    return Parts(net, inp=nn.Conv2d(3, 16, 3, padding=1), out=nn.Conv2d(16, 4, 1), **parts)


class Held(nn.Module):
    """A linear network that holds something that is neither a module nor a parameter."""

    def __init__(self, forward: Callable[[Any, Tensor], Tensor], **held: Any):
        super().__init__()
        self.inp, self.out = nn.Linear(6, 16), nn.Linear(16, 2)
        self.run = forward
        for name, value in held.items():
            if isinstance(value, Tensor) and not isinstance(value, nn.Parameter) and name.startswith("b_"):
                self.register_buffer(name, value)
            else:
                setattr(self, name, value)

    def forward(self, x: Tensor) -> Tensor:
        return self.run(self, x)


X = torch.randn(5, 6, generator=torch.Generator().manual_seed(0))
IMAGE = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
BOX = torch.ones(3, 3) / 9


def _blurred(kernel: Tensor, x: Tensor) -> Tensor:
    return F.conv2d(x, kernel.expand(x.shape[1], 1, 3, 3), padding=1, groups=x.shape[1])


def _drop_in_place(m: Any, x: Tensor) -> Tensor:
    with torch.no_grad():
        m.inp.weight.div_(m.inp.weight.norm(dim=1, keepdim=True) + 1)
    return m.out(m.inp(x))


def _by_data(m: Any, x: Tensor) -> Tensor:
    m.inp.weight.data.clamp_(-0.3, 0.3)
    return m.out(m.inp(x))


def _of_limited_norm(weight: Tensor) -> Tensor:
    return torch.renorm(weight, p=2, dim=0, maxnorm=0.3)


def _assigned(m: Any, x: Tensor) -> Tensor:
    m.inp.weight.data = _of_limited_norm(m.inp.weight.data)
    return m.out(m.inp(x))


def _assigned_then_written(m: Any, x: Tensor) -> Tensor:
    before = m.inp.weight.data
    m.inp.weight.data = before.clone()
    before.zero_()
    m.inp.weight.data.mul_(0.5)
    return m.out(m.inp(x))


def _buffer_assigned(m: Any, x: Tensor) -> Tensor:
    m.b_scale.data = m.b_scale.data * 0.5
    return m.out(m.inp(x) * m.b_scale)


def _assigned_in_a_list(m: Any, x: Tensor) -> Tensor:
    m.scales[0].data = m.scales[0].data * 0.5
    return m.out(m.inp(x) * m.scales[0])


def _assigned_in_an_object(m: Any, x: Tensor) -> Tensor:
    m.state.scale.data = m.state.scale.data * 0.5
    m.state.calls.add_(1)
    return m.out(m.inp(x) * m.state.scale * m.state.calls)


def _set(m: Any, x: Tensor) -> Tensor:
    m.b_scale.set_(m.b_scale * 0.5)
    return m.out(m.inp(x) * m.b_scale)


def _swapped_for_another(m: Any, x: Tensor) -> Tensor:
    torch.utils.swap_tensors(m.b_scale, m.b_scale * 0.5)
    return m.out(m.inp(x) * m.b_scale)


def _copied_through_data(m: Any, x: Tensor) -> Tensor:
    m.inp.weight.data.copy_(_of_limited_norm(m.inp.weight.data))
    return m.out(m.inp(x))


def _part_written_through_the_whole(m: Any, x: Tensor) -> Tensor:
    m.b_whole.mul_(0.5)
    return m.out(m.inp(x) * m.b_part)


def _written_as_out(m: Any, x: Tensor) -> Tensor:
    torch.mul(m.b_scale, 0.5, out=m.b_scale)
    return m.out(m.inp(x) * m.b_scale)


def _statistics_by_function(m: Any, x: Tensor) -> Tensor:
    y = F.batch_norm(m.inp(x), m.b_mean, m.b_var, training=True)
    return m.out(y + m.b_mean)


def _returned_and_written(m: Any, x: Tensor) -> Any:
    m.b_calls += 1
    return m.out(m.inp(x)), m.b_calls


def _running(m: Any, x: Tensor) -> Tensor:
    y = m.inp(x)
    m.b_mean.mul_(0.8).add_(y.detach().mean(0), alpha=0.2)
    return m.out(y - m.b_mean)


def _counting(m: Any, x: Tensor) -> Tensor:
    m.b_calls += 1
    m.seen.append(float(m.b_calls))
    return m.out(m.inp(x) * (1 + m.b_calls / 10))


def _in_a_list(m: Any, x: Tensor) -> Tensor:
    y = m.inp(x)
    m.state[0].add_(y.detach().mean())
    return m.out(y * (1 + m.state[0]))


def _weight_norm(m: Any, x: Tensor) -> Tensor:
    return m.out(F.linear(x, m.g[:, None] * m.v / m.v.norm(dim=1, keepdim=True)).relu())


def _own_norm(m: Any, x: Tensor) -> Tensor:
    y = m.inp(x)
    return m.out((y - y.mean((2, 3), keepdim=True)) / y.std((2, 3), keepdim=True))


def _splines(m: Any, x: Tensor) -> Tensor:
    k, y = m.b_knots, m.inp(x)
    t = (y[..., None] - k[:, :1]) / (k[:, 1:2] - k[:, :1])
    return torch.einsum("big,oig->bo", torch.exp(-((t - torch.arange(k.shape[1])) ** 2)), m.w)


def _vae(m: Any, x: Tensor) -> Tensor:
    mu = m.inp(x)
    return m.out(mu + torch.randn_like(mu) * torch.exp(0.1 * mu))


def _gumbel(m: Any, x: Tensor) -> Tensor:
    y = m.inp(x)
    return m.out(y - torch.empty_like(y).exponential_().log())


def _parts_of_one() -> nn.Module:
    """Two buffers in one memory, of which the one shows a part of the other."""
    whole = torch.rand(64) + 0.5
    return Held(_part_written_through_the_whole, b_whole=whole, b_part=whole[16:17])


RIGHT: dict[str, tuple[Callable[[], nn.Module], Any]] = {
    "complex input": (
        lambda: _conv(lambda m, k: m.out(m.inp(torch.view_as_real(k).permute(0, 3, 1, 2)[:, [0, 1, 0]]).relu())),
        torch.randn(2, 8, 8, dtype=torch.cfloat),
    ),
    "complex weight": (
        lambda: Held(
            lambda m, x: m.last(torch.abs(m.inp(x).relu().to(torch.cfloat) @ m.w)),
            w=nn.Parameter(torch.randn(16, 12, dtype=torch.cfloat)),
            last=nn.Linear(12, 3),
        ),
        X,
    ),
    "plain kernel": (lambda: _conv(lambda m, x: m.out(_blurred(m.kernel, m.inp(x).relu())), kernel=BOX), IMAGE),
    "kernel in a list": (lambda: _conv(lambda m, x: m.out(_blurred(m.kernels[0], m.inp(x))), kernels=[BOX]), IMAGE),
    "kernel of a closure": (lambda: _conv(lambda m, x: m.out(_blurred(BOX, m.inp(x)))), IMAGE),
    "kernel in half": (lambda: _conv(lambda m, x: m.out(_blurred(m.k, m.inp(x).half()).float()), k=BOX.half()), IMAGE),
    "weight norm by hand": (
        lambda: Held(_weight_norm, v=nn.Parameter(torch.randn(16, 6)), g=nn.Parameter(torch.rand(16) + 0.5)),
        X,
    ),
    "divided by a step": (lambda: Held(lambda m, x: m.out(m.inp(x) / m.s), s=nn.Parameter(torch.rand(16) + 0.5)), X),
    "log of a scale": (
        lambda: Held(lambda m, x: m.out(m.inp(x) + m.s.log()), s=nn.Parameter(torch.rand(16) + 0.5)),
        X,
    ),
    "rsqrt of a buffer": (lambda: Held(lambda m, x: m.out(m.inp(x) * m.b_v.rsqrt()), b_v=torch.rand(16) + 0.5), X),
    "norm without eps": (lambda: _conv(_own_norm), IMAGE),
    "splines": (
        lambda: Held(_splines, b_knots=torch.linspace(-1, 1, 5).repeat(16, 1), w=nn.Parameter(torch.randn(3, 16, 5))),
        X,
    ),
    "weight shrunk in place": (lambda: _linear(_drop_in_place), X),
    "weight clipped through data": (lambda: _linear(_by_data), X),
    "weight assigned": (lambda: _linear(_assigned), X),
    "weight assigned, then written": (lambda: _linear(_assigned_then_written), X),
    "buffer assigned": (lambda: Held(_buffer_assigned, b_scale=torch.rand(16) + 0.5), X),
    "parameter in a list assigned": (lambda: Held(_assigned_in_a_list, scales=[nn.Parameter(torch.rand(()) + 0.5)]), X),
    "tensors of an object assigned": (
        lambda: Held(
            _assigned_in_an_object, state=SimpleNamespace(scale=torch.rand(()) + 0.5, calls=torch.zeros(()).long())
        ),
        X,
    ),
    "buffer set": (lambda: Held(_set, b_scale=torch.rand(()) + 0.5), X),
    "buffer swapped": (lambda: Held(_swapped_for_another, b_scale=torch.rand(()) + 0.5), X),
    "weight copied through data": (lambda: _linear(_copied_through_data), X),
    "part written through the whole": (lambda: _parts_of_one(), X),
    "buffer written as out": (lambda: Held(_written_as_out, b_scale=torch.rand(16) + 0.5), X),
    "statistics by function": (lambda: Held(_statistics_by_function, b_mean=torch.zeros(16), b_var=torch.ones(16)), X),
    "returned and written": (lambda: Held(_returned_and_written, b_calls=torch.zeros(())), X),
    "running mean": (lambda: Held(_running, b_mean=torch.zeros(16)), X),
    "calls counted": (lambda: Held(_counting, b_calls=torch.zeros(()), seen=[]), X),
    "state in a list": (lambda: Held(_in_a_list, state=[torch.zeros(())]), X),
    "words of limited norm": (
        lambda: Parts(lambda m, x: m.out(m.table(x)), table=nn.Embedding(9, 16, max_norm=1.0), out=nn.Linear(16, 2)),
        torch.arange(9)[None],
    ),
    "noise of the latent": (lambda: _linear(_vae), X),
    "noise by size": (lambda: _linear(lambda m, x: m.out(m.inp(x) + torch.randn(5, m.inp.out_features))), X),
    "gumbel noise": (lambda: _linear(_gumbel), X),
    "coins": (lambda: _linear(lambda m, x: m.out(m.inp(x) * torch.bernoulli(m.inp(x).sigmoid()))), X),
    "noise of a mean": (lambda: _linear(lambda m, x: m.out(torch.normal(m.inp(x), m.inp(x).abs()))), X),
    "coins in place": (lambda: _linear(lambda m, x: m.out(m.inp(x).clone().bernoulli_(m.inp(x).sigmoid()))), X),
    "noise in place": (lambda: _linear(lambda m, x: m.out(m.inp(x) + torch.empty_like(m.inp(x)).normal_(0, 2))), X),
    "dropout that always drops": (lambda: _linear(lambda m, x: m.out(F.dropout(m.inp(x), 0.4, training=True))), X),
    "copied": (lambda: _linear(lambda m, x: m.out(copy.copy(m.inp(x)).relu())), X),
    "copied deeply": (lambda: _linear(lambda m, x: m.out(m.inp(x) + copy.deepcopy(m.inp(x).detach()).relu())), X),
}


# Noise for a latent of sixteen units, in every spelling.
NOISE: dict[str, Callable[[Tensor], Tensor]] = {
    "normal of a shape": lambda mu: torch.normal(0.0, 1.0, mu.shape),
    "normal of a size by name": lambda mu: torch.normal(mean=0.0, std=1.0, size=mu.size()),
    "normal of sizes": lambda mu: torch.normal(0.0, 2.0, (5, mu.shape[1])),
    "normal with means": lambda mu: torch.normal(mu),
    "normal with means and a deviation": lambda mu: torch.normal(mu, 0.5),
    "normal with deviations": lambda mu: torch.normal(0.5, mu.abs()),
    "normal with both": lambda mu: torch.normal(torch.zeros_like(mu), torch.ones_like(mu)),
    "normal of means for each unit": lambda mu: torch.normal(mu.mean(0, keepdim=True), mu.abs()),
    "randn": lambda mu: torch.randn(mu.shape),
    "randn by numbers": lambda mu: torch.randn(mu.shape[0], mu.shape[1], dtype=mu.dtype),
    "randn of a generator": lambda mu: torch.randn(mu.shape, generator=torch.Generator().manual_seed(1)),
    "rand": lambda mu: torch.rand(size=mu.size()),
    "rand of a generator": lambda mu: torch.rand(*mu.shape, generator=torch.Generator().manual_seed(1)),
    "randint": lambda mu: torch.randint(0, 9, mu.shape),
    "randint below": lambda mu: torch.randint(9, mu.size()) / 9,
    "randint by name": lambda mu: torch.randint(low=1, high=9, size=mu.size(), dtype=mu.dtype),
    "rand_like": torch.rand_like,
    "randn_like": lambda mu: torch.randn_like(mu, dtype=mu.dtype),
    "randint_like": lambda mu: torch.randint_like(mu, 1, 9),
    "normal_": lambda mu: mu.new_empty(mu.shape).normal_(),
    "normal_ by name": lambda mu: torch.empty_like(mu).normal_(mean=1.0, std=0.5),
    "normal_ of a generator": lambda mu: torch.zeros_like(mu).normal_(generator=torch.Generator().manual_seed(1)),
    "uniform_": lambda mu: torch.empty(mu.shape).uniform_(-1, 1),
    "init": lambda mu: nn.init.normal_(torch.empty(mu.shape)),
    "log_normal_": lambda mu: torch.empty_like(mu).log_normal_(std=0.2),
    "bernoulli_": lambda mu: torch.empty_like(mu).bernoulli_(),
    "bernoulli_ by name": lambda mu: torch.empty_like(mu).bernoulli_(p=0.3),
    "bernoulli of a number": lambda mu: torch.bernoulli(mu, 0.3),
    "coins of chances": lambda mu: torch.bernoulli(mu.sigmoid()),
}


@pytest.mark.parametrize("run", ["meta", "real"])
@pytest.mark.parametrize("name", NOISE)
def test_noise_of_a_latent_is_proved_in_every_spelling(name: str, run: str) -> None:
    def forward(m: Any, x: Tensor) -> Tensor:
        mu = m.inp(x)
        return m.out(mu + NOISE[name](mu))

    torch.manual_seed(0)
    model = _linear(forward).eval()
    graph = secateur.trace(model, (X,), run=run)
    plan = secateur.plan(graph, "channels=0.5")
    verification = secateur.verify(model, secateur.cut(model, plan), plan, (X,))
    assert verification.passed, str(verification)
    assert secateur.cut(model, plan)(X).shape == (5, 2)


def test_noise_of_a_written_size_keeps_the_latent() -> None:
    model = _linear(lambda m, x: m.out(m.inp(x) + torch.normal(0.0, 1.0, (5, 16))))
    (reason,) = {f.reason for f in secateur.trace(model, (X,)).frozen if f.name == "inp.weight" and f.dim == 0}
    assert "created with a literal size" in reason


def test_noise_that_is_written_to_a_buffer() -> None:
    def forward(m: Any, x: Tensor) -> Tensor:
        torch.randn(m.b_noise.shape, out=m.b_noise)
        return m.out(m.inp(x) + m.b_noise)

    model = Held(forward, b_noise=torch.zeros(5, 16))
    assert secateur.trace(model, (X,))
    ReplayJob([Call((X,))], lift=False).run(model)
    assert not bool(model.b_noise.any())


@pytest.mark.parametrize("large", [ondemand.LARGE, 1])
@pytest.mark.parametrize("name", RIGHT)
def test_a_right_cut_is_proved(name: str, large: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ondemand, "LARGE", large)
    build, example = RIGHT[name]
    torch.manual_seed(0)
    model = build().eval()
    result = secateur.prune(model, (example,), "channels=0.5")
    assert result.verification is not None
    assert result.proved, str(result)
    assert secateur.verify(model, result.model, result.plan, (example,)).passed


@pytest.mark.parametrize("name", RIGHT)
def test_a_wrong_cut_of_the_same_model_is_not(name: str) -> None:
    """Other units of the same number in the tensor that loses most."""
    build, example = RIGHT[name]
    torch.manual_seed(0)
    model = build().eval()
    graph = secateur.trace(model, (example,))
    plan = secateur.plan(graph, "channels=0.5")
    axis = max(plan.dropped(), key=lambda item: item[1].size)[0]
    kept = plan.axes[axis].kept
    assert kept is not None
    wrong = secateur.plan(graph, drop={axis: list(kept)})
    assert not secateur.verify(model, secateur.cut(model, wrong), plan, (example,)).passed


@pytest.mark.parametrize("name", RIGHT)
def test_a_proof_leaves_the_model_as_it_was(name: str) -> None:
    build, example = RIGHT[name]
    torch.manual_seed(0)
    model = build().eval()
    before = {key: (id(t), t.clone(), t._version) for key, t in model.state_dict(keep_vars=True).items()}
    held = {key: repr(value) for key, value in vars(model).items() if not key.startswith("_")}
    secateur.prune(model, (example,), "channels=0.5", verify=True)
    after = model.state_dict(keep_vars=True)
    assert all(id(after[key]) == i and torch.equal(after[key], t) for key, (i, t, _) in before.items())
    assert all(after[key]._version == version for key, (*_, version) in before.items())
    assert held == {key: repr(value) for key, value in vars(model).items() if not key.startswith("_")}


def _graph_kept(m: Any, x: Tensor) -> Tensor:
    y = m.inp(x)
    y *= m.scale  # reads the scale, and writes to what is none of the model's
    with torch.no_grad():
        m.b_mean.mul_(0.5)
        m.out.weight.mul_(0.5)
    return m.out(y * m.b_mean)


@pytest.mark.parametrize("run", ["meta", "real"])
def test_a_graph_that_waits_for_its_backward_survives(run: str) -> None:
    """What it saved is what it finds, though the proof has run the model in between."""
    model = Held(lambda m, x: m.out(m.inp(x) * m.scale * m.b_mean), scale=nn.Parameter(torch.rand(16)), b_mean=X[0, :1])
    loss, again = model(X).sum(), model(X).sum()
    again.backward()
    wanted = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    model.run = _graph_kept
    graph = secateur.trace(model, (X,), run=run)
    plan = secateur.plan(graph, "channels=0.5")
    assert secateur.verify(model, secateur.cut(model, plan), plan, (X,)).passed
    assert secateur.prune(model, (X,), "channels=0.5").proved
    loss.backward()
    assert all(p.grad is not None and torch.equal(p.grad, wanted[name]) for name, p in model.named_parameters())


@pytest.mark.parametrize("run", ["meta", "real"])
@pytest.mark.parametrize("assign", ["set", "swapped"])
def test_a_weight_that_is_set_or_swapped_is_left_as_it_was(run: str, assign: str) -> None:
    def forward(m: Any, x: Tensor) -> Tensor:
        halved = m.inp.weight.detach() * 0.5
        if assign == "set":
            with torch.no_grad():
                m.inp.weight.set_(halved)
        else:
            torch.utils.swap_tensors(m.inp.weight, nn.Parameter(halved))
        return m.out(m.inp(x))

    model = _linear(forward)
    weight, values, version = model.inp.weight, model.inp.weight.detach().clone(), model.inp.weight._version
    with suppress(secateur.PruningError):  # a graph may have no axis left
        secateur.trace(model, (X,), run=run)
        secateur.prune(model, (X,), "channels=0.5", verify=True)
    ReplayJob([Call((X,))], lift=False).run(model)
    ReplayJob([Call((X,))]).run(model)
    assert model.inp.weight is weight
    assert weight._version == version
    assert torch.equal(weight, values)


class Image(Tensor):
    """A subclass that ops keep, with a word of its own."""

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return super().__torch_function__(func, types, args, kwargs)


@pytest.mark.parametrize("kind", [Image, nn.Parameter])
def test_inputs_of_a_subclass_are_taken_for_plain_tensors(kind: Any) -> None:
    x = IMAGE.as_subclass(Image) if kind is Image else nn.Parameter(IMAGE)
    model = _conv(lambda m, x: m.out(m.inp(x).relu())).eval()
    assert secateur.prune(model, (x,), "channels=0.5").proved


def test_noise_in_training_mode_is_the_same_in_both_models() -> None:
    model = _linear(lambda m, x: m.out(F.dropout(m.inp(x), 0.5, m.training))).eval()
    result = secateur.prune(model, (X,), "channels=0.5", calls=[Call((X,), training=True)], verify=True)
    assert result.proved


def test_attention_without_weights_is_proved_with_its_dropout() -> None:
    def forward(m: Any, x: Tensor) -> Tensor:
        q, k, v = m.qkv(x).view(2, 5, 3, 4, -1).permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(q, k, v, dropout_p=0.3 if m.training else 0.0)
        return m.out(y.transpose(1, 2).reshape(2, 5, -1))

    model = Parts(forward, qkv=nn.Linear(6, 96), out=nn.Linear(32, 3)).eval()
    x = torch.randn(2, 5, 6)
    assert secateur.prune(model, (x,), "channels=0.5", calls=[Call((x,), training=True)], verify=True).proved


def test_noise_that_depends_on_values_is_not_tested() -> None:
    model = _linear(lambda m, x: m.out(F.rrelu(m.inp(x), training=True))).eval()
    result = secateur.prune(model, (X,), "channels=0.5")
    assert not result.proved
    assert "not proved: aten::rrelu_with_noise draws random numbers that depend on values" in str(result)
    with pytest.raises(secateur.PruningError, match="not proved: aten::rrelu_with_noise draws"):
        secateur.prune(model, (X,), "channels=0.5", verify=True)


def test_what_divides_by_a_unit_elsewhere_is_not_tested() -> None:
    """A kept unit that is divided by a dropped one is no unit of its own: nothing can be said."""
    model = Held(lambda m, x: m.out(m.inp(x) / m.inp(x).detach().prod(1, keepdim=True))).eval()
    graph = secateur.trace(model, (X,))
    assert not [axis for axis in graph.axes if axis.inexact is None]


@torch.library.custom_op("secateur_tests::twice_in_float32", mutates_args=())
def twice(x: Tensor) -> Tensor:
    if x.dtype != torch.float32:
        raise NotImplementedError(f"no kernel for {x.dtype}")
    return x * 2


@contextmanager
def _taught() -> Iterator[None]:
    secateur.rule("secateur_tests::twice_in_float32", "* -> *")
    try:
        yield
    finally:
        del ATEN["secateur_tests::twice_in_float32"]


def test_what_has_no_form_in_float64_is_proved_in_its_own_precision() -> None:
    model = _linear(lambda m, x: m.out(twice(m.inp(x)))).eval()
    with _taught():
        result = secateur.prune(model, (X,), "channels=0.5", verify=True)
        assert result.verification is not None
        assert result.verification.precision.name == "float32"
        assert result.verification.precision.tolerance == pytest.approx(math.sqrt(torch.finfo(torch.float32).eps))
        assert "in float32, because float64 does not run" in str(result)
        other = secateur.plan(result.graph, drop={"inp": list(result.plan.axes["inp"].kept or ())})
        small = secateur.cut(model, other)
        assert not secateur.verify(model, small, result.plan, (X,)).passed


def test_the_report_says_that_a_cut_was_proved() -> None:
    result = secateur.prune(_linear(lambda m, x: m.out(m.inp(x))), (X,), "channels=0.5")
    assert "\n\nproved: pruned equals silenced to " in str(result)
    assert result.report["proof"] == {"proved": True, "because": None}
    assert result.report["verification"]["passed"] is True


def test_a_proof_that_would_take_long_is_left_out_and_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("secateur.pruning.PROOF_WORK", 100)
    model = _linear(lambda m, x: m.out(m.inp(x)))
    result = secateur.prune(model, (X,), "channels=0.5")
    because = "it would take more than a few seconds (640 MACs, 146 parameters); verify=True proves it"
    assert result.report["proof"] == {"proved": False, "because": because}
    assert f"not proved: {because}" in str(result)
    assert secateur.prune(model, (X,), "channels=0.5", verify=True).proved


def test_a_proof_can_be_left_out() -> None:
    result = secateur.prune(_linear(lambda m, x: m.out(m.inp(x))), (X,), "channels=0.5", verify=False)
    assert result.verification is None
    assert "not proved: it was asked not to be" in str(result)


def test_a_cut_of_nothing_says_so() -> None:
    result = secateur.prune(_linear(lambda m, x: m.out(m.inp(x))), (X,), "channels=1.0")
    assert "not proved: nothing was removed, so there is nothing to prove" in str(result)
    assert result.report["proof"]["because"] == "nothing was removed, so there is nothing to prove"


def test_outputs_that_do_not_show_the_units_are_not_proved() -> None:
    model = _linear(lambda m, x: m.out(m.inp(x)))
    nn.init.zeros_(model.out.weight)
    result = secateur.prune(model, (X,), "channels=0.5")
    assert "not proved: silencing the dropped units changes the outputs by only 0.0e+00" in str(result)
    with pytest.raises(secateur.PruningError, match=r"^not proved: silencing .* give trained weights"):
        secateur.prune(model, (X,), "channels=0.5", verify=True)


def test_outputs_that_are_not_finite_are_not_proved() -> None:
    model = _linear(lambda m, x: m.out(m.inp(x)) / 0)
    because = "output 0 of the original model is not finite, so nothing can be compared with it"
    assert secateur.prune(model, (X,), "channels=0.5").unproved == because
    with pytest.raises(secateur.PruningError, match="output 0 of the original model is not finite"):
        secateur.prune(model, (X,), "channels=0.5", verify=True)


def test_a_wrong_cut_raises_unasked(monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(model: nn.Module, plan: Any) -> nn.Module:
        small = secateur.cut(model, plan)
        next(small.parameters()).data.mul_(1.01)
        return small

    monkeypatch.setattr("secateur.pruning.cut", wrong)
    with pytest.raises(secateur.PruningError, match="please report this model\nFAILED: pruned equals silenced to"):
        secateur.prune(_linear(lambda m, x: m.out(m.inp(x))), (X,), "channels=0.5")
    assert secateur.prune(_linear(lambda m, x: m.out(m.inp(x))), (X,), "channels=0.5", verify=False)


def _padded(m: Any, x: Tensor) -> Tensor:
    out = torch.full((5, 4), float("-inf"))
    out[:, :2] = m.out(m.inp(x).relu())
    return out


def test_infinities_that_pad_an_output_are_equal() -> None:
    assert secateur.prune(_linear(_padded), (X,), "channels=0.5", verify=True).proved


def test_infinities_in_another_place_are_a_difference() -> None:
    ones = torch.ones(2)
    inf = torch.tensor([1.0, float("inf")])
    assert distance([inf], [inf.clone()]) == 0
    assert distance([inf], [-inf]) == distance([inf], [ones]) == distance([ones * torch.nan], [ones]) == float("inf")
    assert distance([inf], [torch.tensor([1.5, float("inf")])]) == pytest.approx(1 / 3)


def test_a_plan_of_another_model_is_refused() -> None:
    model, other = _linear(lambda m, x: m.out(m.inp(x))), nn.Sequential(nn.Linear(6, 8), nn.Linear(8, 2))
    result = secateur.prune(other, (X,), "channels=0.5")
    with pytest.raises(secateur.InputError, match=r"the plan cuts '0\.weight', which this model does not have"):
        secateur.verify(model, other, result.plan, (X,))


RUNS: list[torch.Size] = []  # a global, which is not restored after a run


def test_a_call_that_passes_the_outputs_on_to_another_model_is_proved_in_the_precision_of_both() -> None:
    behind, x = nn.Conv2d(2, 2, 1), torch.rand(4, 3, 5, 5)

    def forward(net: Any, x: Tensor) -> Tensor:
        RUNS.append(x.shape)
        y = net.a(x.abs() if len(RUNS) > 3 else x)  # after three traces, one more op: the calls are traced again
        return net.b(y - y.mean(1, keepdim=True))

    model = Parts(forward, a=nn.Conv2d(3, 8, 1), b=nn.Conv2d(8, 2, 1))
    plan = secateur.plan(secateur.trace(model, x), "channels=0.5")
    found = secateur.verify(model, secateur.cut(model, plan), plan, call=lambda net: behind(net(x)))
    assert found.passed
    assert found.precision.name == "float32"
