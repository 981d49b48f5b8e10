"""A copy that is cut is of itself alone: it neither reads nor writes the original, whatever keeps state where."""

from __future__ import annotations

import copy
import functools
import types
import weakref
from collections import OrderedDict, deque, namedtuple
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Optional

import pytest
import torch
from torch import Tensor, nn

import secateur

X = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
Pair = namedtuple("Pair", "first second")


class Net(nn.Module):
    """Two layers whose results are read from wherever `keep` puts them."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 16, 3, padding=1), nn.Conv2d(16, 24, 3, padding=1)
        self.heads = nn.ModuleList([nn.Conv2d(16, 8, 1), nn.Conv2d(24, 8, 1)])
        self.feats: Any = {}

    def joined(self, feats: Any) -> Tensor:
        return self.heads[0](feats[0]) + self.heads[1](feats[1])

    def forward(self, x: Tensor) -> Tensor:
        self.b(self.a(x).relu())
        return self.joined(self.feats)


@dataclass
class Stash:
    held: dict[int, Tensor] = field(default_factory=dict)


class Slotted:
    __slots__ = ("feats",)

    def __init__(self) -> None:
        self.feats: Any = None


class Hooks:
    """As timm has it: bound methods in partials, results in an ordered dict of its own."""

    def __init__(self, modules: list[nn.Module]):
        self.found: OrderedDict[int, Tensor] = OrderedDict()
        for i, module in enumerate(modules):
            module.register_forward_hook(functools.partial(self.collect, i))

    def collect(self, i: int, module: nn.Module, args: Any, out: Tensor) -> None:
        self.found[i] = out


def closing_over_self(net: Net) -> None:
    for i, layer in enumerate((net.a, net.b)):
        layer.register_forward_hook(lambda m, a, o, i=i: net.feats.__setitem__(i, o))


def by_default_argument(net: Net) -> None:
    for i, layer in enumerate((net.a, net.b)):
        layer.register_forward_hook(lambda m, a, o, i=i, feats=net.feats: feats.update({i: o}))


def by_keyword_default(net: Net) -> None:
    def hook(m: nn.Module, a: Any, k: Any, o: Tensor, *, owner: Net = net) -> None:
        owner.feats[0 if m is owner.a else 1] = o

    for layer in (net.a, net.b):
        layer.register_forward_hook(hook, with_kwargs=True)


def by_factory(net: Net) -> None:
    def make(i: int) -> Callable[..., None]:
        def hook(m: nn.Module, args: Any, out: Tensor) -> None:
            net.feats[i] = out

        return hook

    net.a.register_forward_hook(make(0))
    net.b.register_forward_hook(make(1))


def by_partial(net: Net) -> None:
    def hook(owner: Net, i: int, m: nn.Module, args: Any, out: Tensor) -> None:
        owner.feats[i] = out

    net.a.register_forward_hook(functools.partial(hook, net, 0))
    net.b.register_forward_hook(functools.partial(hook, net, 1))


def by_partial_of_closure(net: Net) -> None:
    def hook(i: int, m: nn.Module, args: Any, out: Tensor) -> None:
        net.feats[i] = out

    net.a.register_forward_hook(functools.partial(hook, 0))
    net.b.register_forward_hook(functools.partial(hook, 1))


def by_pre_hook(net: Net) -> None:
    def before(m: nn.Module, args: Any, kwargs: Any) -> None:
        net.feats[0] = args[0]

    net.b.register_forward_pre_hook(before, with_kwargs=True)
    net.b.register_forward_hook(lambda m, a, o: net.feats.__setitem__(1, o))


def by_bound_method(net: Net) -> None:
    net.hooks = Hooks([net.a, net.b])
    net.feats = net.hooks.found


def by_list_of_modules(net: Net) -> None:
    layers = [net.a, net.b]
    for layer in layers:
        layer.register_forward_hook(lambda m, a, o: net.feats.__setitem__(layers.index(m), o))


def by_weak_reference(net: Net) -> None:
    owner = weakref.ref(net)
    for i, layer in enumerate((net.a, net.b)):
        layer.register_forward_hook(lambda m, a, o, i=i: owner().feats.__setitem__(i, o))  # type: ignore[union-attr]


def by_wrapped_function(net: Net) -> None:
    def logged(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def inner(*args: Any) -> Any:
            return function(*args)

        return inner

    for i, layer in enumerate((net.a, net.b)):
        layer.register_forward_hook(logged(lambda m, a, o, i=i: net.feats.__setitem__(i, o)))


def by_builtin(net: Net) -> None:
    for i, layer in enumerate((net.a, net.b)):
        setter = net.feats.__setitem__
        layer.register_forward_hook(lambda m, a, o, i=i, put=setter: put(i, o))


def by_shared_container(net: Net) -> None:
    """What the hooks write to is on no module: only their closures and that of `forward` hold it."""
    feats: dict[int, Tensor] = {}
    for i, layer in enumerate((net.a, net.b)):
        layer.register_forward_hook(lambda m, a, o, i=i: feats.__setitem__(i, o))

    def forward(x: Tensor) -> Tensor:
        net.b(net.a(x).relu())
        return net.joined(feats)

    net.forward = forward  # type: ignore[method-assign]


def by_container_given_on(net: Net) -> None:
    """The same container in closures that share no variable."""

    def keeper(store: dict[int, Tensor], i: int) -> Callable[..., None]:
        return lambda m, a, o: store.__setitem__(i, o)

    def reader(store: dict[int, Tensor], owner: Net) -> Callable[..., Tensor]:
        def forward(x: Tensor) -> Tensor:
            owner.b(owner.a(x).relu())
            return owner.joined(store)

        return forward

    feats: dict[int, Tensor] = {}
    net.a.register_forward_hook(keeper(feats, 0))
    net.b.register_forward_hook(keeper(feats, 1))
    net.forward = reader(feats, net)  # type: ignore[method-assign]


def by_lambda_forward(net: Net) -> None:
    net.forward = lambda x: net.joined([y := net.a(x), net.b(y.relu())])  # type: ignore[method-assign]


def by_method_type(net: Net) -> None:
    def forward(self: Net, x: Tensor) -> Tensor:
        y = self.a(x)
        return self.joined([y, self.b(y.relu())])

    net.forward = types.MethodType(forward, net)  # type: ignore[method-assign]


def by_method_of_closure(net: Net) -> None:
    first = net.a

    def forward(self: Net, x: Tensor) -> Tensor:
        y = first(x)
        return self.joined([y, self.b(y.relu())])

    net.forward = types.MethodType(forward, net)  # type: ignore[method-assign]


def by_recursion(net: Net) -> None:
    def step(x: Tensor, layers: list[nn.Module], found: list[Tensor]) -> Tensor:
        found = [*found, layers[0](x)]
        return step(found[-1].relu(), layers[1:], found) if len(layers) > 1 else net.joined(found)

    net.forward = lambda x: step(x, [net.a, net.b], [])  # type: ignore[method-assign]


def by_counter(net: Net) -> None:
    """One variable that two functions share, of which one leads to the model."""
    step = 0

    def count(m: nn.Module, args: Any) -> None:
        nonlocal step
        step = 0

    def keep(m: nn.Module, args: Any, out: Tensor) -> None:
        nonlocal step
        net.feats[step] = out
        step += 1

    net.a.register_forward_pre_hook(count)
    net.a.register_forward_hook(keep)
    net.b.register_forward_hook(keep)


def in_object(net: Net) -> None:
    stash = Stash()
    net.stash, net.feats = stash, stash.held
    for i, layer in enumerate((net.a, net.b)):
        layer.register_forward_hook(lambda m, a, o, i=i: stash.held.__setitem__(i, o))


LEADING = [value for name, value in list(globals().items()) if name.startswith(("by_", "closing_", "in_object"))]


KEEPING: dict[str, Callable[[Any, Tensor], None]] = {
    "attribute": lambda net, h: setattr(net, "kept", h),
    "dict": lambda net, h: setattr(net, "kept", {"h": h}),
    "list": lambda net, h: setattr(net, "kept", [h]),
    "nested": lambda net, h: setattr(net, "kept", {"one": [({"two": h},)]}),
    "tuple": lambda net, h: setattr(net, "kept", (h, 1)),
    "named tuple": lambda net, h: setattr(net, "kept", Pair(h, [h])),
    "deque": lambda net, h: setattr(net, "kept", deque([h], maxlen=3)),
    "dataclass": lambda net, h: setattr(net, "kept", Stash({0: h})),
    "slots": lambda net, h: (setattr(net, "kept", Slotted()), setattr(net.kept, "feats", h))[0],
    "private": lambda net, h: setattr(net, "_kept", types.SimpleNamespace(h=OrderedDict(h=[h]))),
    "grown": lambda net, h: net.grown.append(h),
    "grown within": lambda net, h: net.tree["leaf"].append(h),
    "grown object": lambda net, h: net.stash.held.__setitem__(0, h),
}


class Keeping(nn.Module):
    def __init__(self, keep: Callable[[Any, Tensor], None]):
        super().__init__()
        self.a, self.b = nn.Linear(6, 16), nn.Linear(16, 3)
        self.grown, self.tree, self.stash, self._keep = [], {"leaf": deque()}, Stash(), [keep]

    def forward(self, x: Tensor) -> Tensor:
        h = self.a(x).relu()
        self._keep[0](self, h)
        return self.b(h)


def tensors_held(model: nn.Module) -> list[Tensor]:
    """All tensors that a deep copy meets, by its memo."""
    memo: dict[int, Any] = {}
    copy.deepcopy([m.__dict__ for m in model.modules()], memo)
    return [value for value in memo.values() if isinstance(value, Tensor) and not isinstance(value, nn.Parameter)]


CALLED = ["never", "no_grad", "with grad"]


def called(model: nn.Module, how: str, *inputs: Tensor) -> nn.Module:
    if how != "never":
        with torch.set_grad_enabled(how == "with grad"):
            model(*inputs)
    return model


@pytest.mark.parametrize("how", CALLED)
@pytest.mark.parametrize("lead", LEADING, ids=lambda lead: lead.__name__)
def test_a_copy_runs_its_own_modules(lead: Callable[[Net], None], how: str) -> None:
    def built() -> Net:
        torch.manual_seed(0)
        net = Net().eval()
        lead(net)
        return called(net, how, X)  # type: ignore[return-value]

    net, other = built(), built()
    before = net(X).detach()
    pruned = secateur.prune(net, X, "channels=0.6")
    wanted = secateur.cut_(other, pruned.plan)(X)
    assert torch.equal(pruned.model(X), wanted)
    assert torch.equal(net(X), before)
    for parameter in net.parameters():
        parameter.data.zero_()
    assert torch.equal(pruned.model(X), wanted)  # nothing of it is the original's
    assert not torch.equal(before, torch.zeros_like(before))


@pytest.mark.parametrize("how", CALLED)
@pytest.mark.parametrize("kind", KEEPING)
def test_what_forward_keeps_is_no_obstacle(kind: str, how: str) -> None:
    x = torch.randn(4, 6)
    model = called(Keeping(KEEPING[kind]).eval(), how, x)
    pruned = secateur.prune(model, x, "macs=0.5")
    assert pruned.model.a.out_features == 8
    assert pruned.model(x).shape == (4, 3)
    assert all(t.grad_fn is None for t in tensors_held(secateur.cut(model, pruned.plan)))
    secateur.cut_(model, pruned.plan)
    assert model(x).shape == (4, 3)


@pytest.mark.parametrize("kind", KEEPING)
def test_a_trace_leaves_what_forward_keeps(kind: str) -> None:
    x = torch.randn(4, 6)
    model = called(Keeping(KEEPING[kind]).eval(), "no_grad", x)
    before = [(t.shape, t.device, id(t)) for t in tensors_in_order(model)]
    secateur.trace(model, x)
    secateur.count(model, x)
    assert [(t.shape, t.device, id(t)) for t in tensors_in_order(model)] == before


def tensors_in_order(value: Any) -> list[Tensor]:
    """All that a model holds beside its parameters, depth first."""
    if isinstance(value, Tensor):
        return [] if isinstance(value, nn.Parameter) else [value]
    if isinstance(value, dict):
        return [t for item in value.values() for t in tensors_in_order(item)]
    if isinstance(value, (list, tuple, deque)):
        return [t for item in value for t in tensors_in_order(item)]
    if isinstance(value, Slotted):
        return tensors_in_order(value.feats)
    return tensors_in_order(vars(value)) if isinstance(value, (nn.Module, Stash, types.SimpleNamespace)) else []


FEATS: dict[int, Tensor] = {}


def refused(net: nn.Module, says: str) -> None:
    plan = secateur.plan(secateur.trace(net, X), "channels=0.6")
    with pytest.raises(secateur.InputError, match=says + r".*\nuse secateur\.cut_\(model, plan\)"):
        secateur.cut(net, plan)
    assert secateur.cut_(net, plan)(X).shape == (2, 8, 8, 8)


def test_a_hook_that_writes_to_a_global_variable_is_refused() -> None:
    FEATS.clear()
    net = Net().eval()
    net.feats = FEATS
    net.a.register_forward_hook(lambda m, a, o: FEATS.__setitem__(0, o))
    net.b.register_forward_hook(lambda m, a, o: FEATS.__setitem__(1, o))
    refused(net, r"a function in a\._forward_hooks reads the global variable 'FEATS', which is part of the original")


def test_a_class_made_around_a_module_is_refused() -> None:
    first = nn.Conv2d(3, 16, 3, padding=1)

    class Around(Net):
        def forward(self, x: Tensor) -> Tensor:
            y = first(x)
            return self.joined([y, self.b(y.relu())])

    net = Around().eval()
    net.a = first
    refused(net, r"a function in Around\.forward closes over the original's modules")


def test_a_cached_function_is_refused() -> None:
    net = Net().eval()

    @functools.lru_cache
    def layers() -> tuple[nn.Module, nn.Module]:
        return net.a, net.b

    net.layers = layers
    net.forward = lambda x: net.joined([y := layers()[0](x), layers()[1](y.relu())])  # type: ignore[method-assign]
    refused(net, r"a function in .* is a cached function of the original's modules")


def test_functions_that_lead_elsewhere_stay_the_same_objects() -> None:
    log: list[str] = []
    net = nn.Sequential(nn.Linear(6, 16), nn.Linear(16, 3))

    def hook(m: nn.Module, args: Any, out: Tensor) -> None:
        log.append(type(m).__name__)

    net[0].register_forward_hook(hook)
    pruned = secateur.prune(net, torch.randn(2, 6), "channels=0.5")
    assert next(iter(pruned.model[0]._forward_hooks.values())) is hook
    log.clear()
    pruned.model(torch.randn(2, 6))
    assert log == ["Linear"]


NORM = functools.partial(nn.LayerNorm, eps=1e-6)
ACT = functools.partial(nn.functional.gelu)


class Normed(nn.Module):
    """As torchvision's VisionTransformer: what `__init__` has for a default is kept, and copied with the model."""

    def __init__(self, norm: Callable[..., nn.Module] = NORM) -> None:
        super().__init__()
        self.norm_layer = norm
        self.inp, self.out = nn.Linear(6, 16), nn.Linear(16, 2)
        self.norm = norm(16)

    def forward(self, x: Tensor, act: Callable[..., Any] = ACT) -> Tensor:
        self.act = act
        return self.out(act(self.norm(self.inp(x))))


def test_defaults_that_a_model_keeps_do_not_lead_to_it() -> None:
    model, x = Normed(), torch.randn(3, 6)
    model(x)
    assert secateur.prune(model, x, "channels=0.5").proved


OPTIONAL = {"bias": Optional[Tensor]}  # noqa: UP045 - an annotation that `deepcopy` copies


def described(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a wrapper that, as in torch_geometric, keeps annotations in its closure."""
    annotations = dict(OPTIONAL)

    @functools.wraps(function)
    def wrapper(*args: Any) -> Any:
        assert len(args) <= 1 + len(annotations)
        return function(*args)

    return wrapper


class Described(nn.Module):
    """Keeps the same annotations, which are copied with it."""

    def __init__(self) -> None:
        super().__init__()
        self.inp, self.out = nn.Linear(6, 16), nn.Linear(16, 2)
        self.types = dict(OPTIONAL)

    @described
    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.inp(x).relu())


def test_annotations_that_a_class_and_a_model_share_do_not_lead_to_it() -> None:
    assert secateur.prune(Described(), torch.randn(3, 6), "channels=0.5").proved
