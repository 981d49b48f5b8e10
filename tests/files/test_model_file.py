from __future__ import annotations

import json
import os
import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import nn

import secateur
from nets import NETS
from secateur.apply.ready import plans_of
from secateur.base.nested import tensors_in
from secateur.base.writing import save_json
from secateur.errors import FileError, InputError
from secateur.files.model_file import load, read_plans, save


def cut(name: str, target: str = "channels=0.6", seed: int = 0) -> nn.Module:
    """A network of the table, cut."""
    net = NETS[name]
    model = net.make(seed)
    graph = secateur.trace(model, net.example())
    return secateur.cut_(model, secateur.plan(graph, target, importance="random"))


def same(name: str, model: nn.Module, other: nn.Module) -> bool:
    """Whether two models compute the same, bit by bit."""
    with torch.no_grad():
        outputs = [tensors_in(m.eval()(*NETS[name].example())) for m in (model, other)]
    return all(map(torch.equal, *outputs))


def state(model: nn.Module) -> list[Any]:
    """Everything of a model that a failed load could have touched, by identity and by value."""
    return [
        (path, key, id(value) if isinstance(value, (torch.Tensor, nn.Module)) else repr(value))
        for path, module in model.named_modules()
        for table in (module._parameters, module._buffers, module.__dict__)
        for key, value in table.items()
    ] + [tensor.clone().tolist() for tensor in model.state_dict().values()]


@pytest.mark.parametrize("name", [name for name, net in NETS.items() if net.axes])
def test_a_fresh_original_becomes_the_saved_model(name: str, tmp_path: Path) -> None:
    model, fresh = cut(name), NETS[name].make(seed=5)
    save(model, tmp_path / "m.safetensors")
    assert load(fresh, tmp_path / "m.safetensors") is fresh
    assert plans_of(fresh) == plans_of(model) == read_plans(tmp_path / "m.safetensors")
    assert same(name, fresh, model)


def test_several_plans_are_followed_in_order(tmp_path: Path) -> None:
    model = cut("residual")
    graph = secateur.trace(model, NETS["residual"].example())
    secateur.cut_(model, secateur.plan(graph, "channels=0.7", importance="random", seed=1))
    save(model, tmp_path / "m.safetensors")
    again = load(NETS["residual"].make(seed=5), tmp_path / "m.safetensors")
    assert len(plans_of(again)) == 2
    assert same("residual", again, model)


def test_plans_that_a_model_went_through_are_not_followed_twice(tmp_path: Path) -> None:
    model, twin = cut("residual"), cut("residual")
    save(model, tmp_path / "m.safetensors")
    nn.init.zeros_(twin.fc.weight)  # type: ignore[union-attr, arg-type]
    load(twin, tmp_path / "m.safetensors")
    assert same("residual", twin, model)


def test_a_model_that_was_never_cut(tmp_path: Path) -> None:
    model, fresh = NETS["plain_cnn"].make(), NETS["plain_cnn"].make(seed=5)
    save(model, str(tmp_path / "m.safetensors"))
    load(fresh, str(tmp_path / "m.safetensors"))
    assert read_plans(tmp_path / "m.safetensors") == plans_of(fresh) == ()
    assert load_file(tmp_path / "m.safetensors").keys() == model.state_dict().keys()
    assert same("plain_cnn", fresh, model)


def test_a_pruned_model_is_saved_again_from_its_own_file(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    model = cut("plain_cnn")
    save(model, path)
    save(load(NETS["plain_cnn"].make(seed=5), path), path)
    again = load(NETS["plain_cnn"].make(seed=6), path)
    assert same("plain_cnn", again, model)


def test_values_keep_the_dtype_of_the_file(tmp_path: Path) -> None:
    save(cut("plain_cnn").half(), tmp_path / "m.safetensors")
    again = load(NETS["plain_cnn"].make(), tmp_path / "m.safetensors")
    assert {p.dtype for p in again.parameters()} == {torch.float16}
    assert again.bn.num_batches_tracked.dtype == torch.int64  # type: ignore[union-attr]


def test_shared_tensors_are_stored_once_and_stay_shared(tmp_path: Path) -> None:
    save(cut("shared"), tmp_path / "m.safetensors")
    with safe_open(tmp_path / "m.safetensors", "pt") as file:
        names, aliases = set(file.keys()), json.loads(file.metadata()["secateur_aliases"])
    again: Any = load(NETS["shared"].make(seed=5), tmp_path / "m.safetensors")
    assert aliases == {"up.bias": "bias", "again.weight": "up.weight", "again.bias": "bias"}
    assert not names & aliases.keys()
    assert again.bias is again.up.bias is again.again.bias


def test_sharing_follows_the_file_not_the_model(tmp_path: Path) -> None:
    def build(tied: bool) -> Any:
        net = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
        if tied:
            net[1].weight = net[0].weight
        return net

    save(build(tied=True), tmp_path / "tied.safetensors")
    save(build(tied=False), tmp_path / "apart.safetensors")
    tied = load(build(tied=False), tmp_path / "tied.safetensors")
    apart = load(build(tied=True), tmp_path / "apart.safetensors")
    assert tied[0].weight is tied[1].weight  # type: ignore[index]
    assert apart[0].weight is not apart[1].weight  # type: ignore[index]


def test_views_of_one_memory_are_stored_apart(tmp_path: Path) -> None:
    model = nn.Module()
    model.register_buffer("whole", torch.arange(6.0))
    model.register_buffer("part", model.whole[:2])  # type: ignore[index]
    save(model, tmp_path / "m.safetensors")
    assert load_file(tmp_path / "m.safetensors")["part"].tolist() == [0, 1]


def test_attributes_that_were_cut_are_stored(tmp_path: Path) -> None:
    save(cut("followers"), tmp_path / "cut.safetensors")
    save(NETS["followers"].make(), tmp_path / "whole.safetensors")
    assert "gain" in load_file(tmp_path / "cut.safetensors")
    assert "gain" not in load_file(tmp_path / "whole.safetensors")


class Offset(nn.Module):
    """A layer with a buffer of its width that is no part of the state dict."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(3, 6), nn.Linear(6, 2)
        self.register_buffer("offset", torch.randn(6), persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.b(self.a(x) - self.offset)


def test_buffers_outside_the_state_dict(tmp_path: Path) -> None:
    model = Offset()
    plan = secateur.plan(secateur.trace(model, torch.zeros(1, 3)), drop={"a": [0, 4]})
    save(secateur.cut_(model, plan), tmp_path / "m.safetensors")
    again = load(Offset(), tmp_path / "m.safetensors")
    x = torch.randn(2, 3)
    assert torch.equal(again(x), model(x))
    assert "offset" not in again.state_dict()


def test_a_model_on_the_meta_device_is_loaded_to_the_cpu(tmp_path: Path) -> None:
    model = cut("residual")
    save(model, tmp_path / "m.safetensors")
    with torch.device("meta"):
        fresh = NETS["residual"].build()
    load(fresh, tmp_path / "m.safetensors")
    assert same("residual", fresh, model)


def test_what_has_no_values_anywhere_is_refused(tmp_path: Path) -> None:
    save(Offset(), tmp_path / "m.safetensors")
    with torch.device("meta"):
        fresh = Offset()
    before = [id(p) for p in fresh.parameters()]
    with pytest.raises(InputError, match=r"offset is on the meta device, and not in the file.*\nbuild the model on a"):
        load(fresh, tmp_path / "m.safetensors")
    assert [id(p) for p in fresh.parameters()] == before


def test_device_moves_what_the_file_lacks_too(tmp_path: Path) -> None:
    save(Offset(), tmp_path / "m.safetensors")
    again = load(Offset(), tmp_path / "m.safetensors", device="meta")
    assert {t.device.type for t in [*again.parameters(), *again.buffers()]} == {"meta"}


def test_an_unknown_device(tmp_path: Path) -> None:
    save(Offset(), tmp_path / "m.safetensors")
    with pytest.raises(InputError, match=r"device='tpu9000': .*tpu9000"):
        load(Offset(), tmp_path / "m.safetensors", device="tpu9000")


def test_modes_gradients_hooks_and_memory_format_are_those_of_the_model(tmp_path: Path) -> None:
    save(cut("plain_cnn"), tmp_path / "m.safetensors")
    fresh: Any = NETS["plain_cnn"].make().train().to(memory_format=torch.channels_last)
    fresh.conv1.weight.requires_grad_(False)
    called: list[int] = []
    fresh.fc.register_forward_hook(lambda *_: called.append(1))
    load(fresh, tmp_path / "m.safetensors")
    assert fresh.training
    assert not fresh.conv1.weight.requires_grad
    assert fresh.conv2.weight.requires_grad
    assert fresh.conv2.weight.is_contiguous(memory_format=torch.channels_last)
    fresh.eval()(*NETS["plain_cnn"].example())
    assert called == [1]


def test_a_model_cut_by_other_plans(tmp_path: Path) -> None:
    save(cut("residual"), tmp_path / "m.safetensors")
    with pytest.raises(
        InputError, match="the model was already cut, by other plans than those of the file; load into a"
    ):
        load(cut("residual", "channels=0.8"), tmp_path / "m.safetensors")


def refused(path: Path, model: nn.Module, message: str) -> None:
    """The file is refused with that message, and the model is as it was."""
    before = state(model)
    with pytest.raises(FileError, match=message):
        load(model, path)
    assert state(model) == before


class Hostile:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.mark),)


def test_a_missing_file_names_its_neighbours(tmp_path: Path) -> None:
    save(Offset(), tmp_path / "small.safetensors")
    refused(
        tmp_path / "smal.safetensors", Offset(), r"no file .*smal\.safetensors; did you mean 'small\.safetensors'\?"
    )


BYTES: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "truncated": (lambda whole: whole[:-10], r"\([\d,]+ bytes\) cannot be read: Safetensor.*\ncause: it is truncated"),
    "no header": (lambda whole: whole[:5], r"\(5 bytes\) cannot be read"),
    "empty": (lambda whole: b"", r"\(0 bytes\) cannot be read"),
    "header too large": (lambda whole: b"\xff" * 8 + whole[8:], "cannot be read: .*[Hh]eader"),
    "header no JSON": (lambda whole: whole[:8] + b"?" + whole[9:], "cannot be read"),
    "text": (lambda whole: b"hello, I am a model" * 9, "cannot be read"),
}


@pytest.mark.parametrize("name", BYTES)
def test_damaged_bytes(name: str, tmp_path: Path) -> None:
    change, message = BYTES[name]
    path = tmp_path / "m.safetensors"
    save(Offset(), path)
    path.write_bytes(change(path.read_bytes()))
    refused(path, Offset(), message)


@pytest.mark.parametrize("writer", ["pickle", "torch"])
def test_a_pickle_never_runs(writer: str, tmp_path: Path) -> None:
    path, mark = tmp_path / "m.safetensors", tmp_path / "mark"
    if writer == "pickle":
        path.write_bytes(pickle.dumps(Hostile(mark)))
    else:
        torch.save(Hostile(mark), path)
    refused(path, Offset(), "cause: it is a pickle, as torch.save writes it, and could run code; only safetensors")
    assert not mark.exists()


def rewritten(path: Path, **metadata: str | None) -> None:
    """The file with other metadata; None leaves an entry out."""
    with safe_open(path, "pt") as file:
        old = file.metadata()
    new = {key: value for key, value in {**old, **metadata}.items() if value is not None}
    save_file(load_file(path), path, new)


METADATA: dict[str, tuple[dict[str, str | None], str]] = {
    "not ours": (
        {"secateur_format": None},
        "was not written by secateur.save: .*\nload plain weights with model.load_state_dict",
    ),
    "newer": ({"secateur_format": "2"}, "is of format 2; this secateur reads format 1: update secateur"),
    "no plans": ({"secateur_plans": None}, "its metadata have no 'secateur_plans'"),
    "plans no JSON": ({"secateur_plans": "[{"}, "its metadata are damaged: .*line 1"),
    "plans no list": ({"secateur_plans": "{}"}, "secateur_plans is a dict, not a list"),
    "plan no plan": ({"secateur_plans": '["x"]'}, "this is not a secateur plan"),
    "newer plan": (
        {"secateur_plans": '[{"format": 99}]'},
        "the plan has format 99; this secateur reads format 1\nupdate",
    ),
    "very deep": ({"secateur_plans": "[" * 100_000 + "]" * 100_000}, "its metadata are damaged"),
    "aliases no object": ({"secateur_aliases": "[]"}, "secateur_aliases is a list, not an object"),
    "alias of nothing": ({"secateur_aliases": '{"c": "d"}'}, "secateur_aliases calls 'c' another name of 'd'"),
    "alias of itself": ({"secateur_aliases": '{"a.bias": "b.bias"}'}, "calls 'a.bias' another name of 'b.bias'"),
    "alias unknown": ({"secateur_aliases": '{"c.bias": "b.bias"}'}, "unexpected +1  c.bias"),
}


@pytest.mark.parametrize("name", METADATA)
def test_damaged_metadata(name: str, tmp_path: Path) -> None:
    metadata, message = METADATA[name]
    save(Offset(), tmp_path / "m.safetensors")
    rewritten(tmp_path / "m.safetensors", **metadata)
    refused(tmp_path / "m.safetensors", Offset(), message)


def set_at(*path: Any, to: Any) -> Callable[[Any], None]:
    """A change of nested data."""

    def change(data: Any) -> None:
        for key in path[:-1]:
            data = data[key]
        data[path[-1]] = to

    return change


def attribute(*row: Any) -> Callable[[Any], None]:
    return lambda plan: plan["attributes"].insert(0, list(row))


HOSTILE: dict[str, tuple[Callable[[Any], None], str]] = {
    "out of range": (set_at("axes", "conv1", "kept", to=[0, 99]), "keeps unit 99 of axis 'conv1', which has 8: 0 to 7"),
    "negative": (set_at("axes", "conv1", "kept", to=[-1, 3]), "keeps unit -1 of axis 'conv1'"),
    "twice": (set_at("axes", "conv1", "kept", to=[3, 3]), "keeps units 3 and 3 of axis 'conv1' twice"),
    "unsorted": (set_at("axes", "conv1", "kept", to=[3, 1]), "keeps units 3 and 1 of axis 'conv1' in the wrong order"),
    "none kept": (set_at("axes", "conv1", "kept", to=[]), "keeps no unit of axis 'conv1'"),
    "kept no list": (set_at("axes", "conv1", "kept", to=7), "this is not a secateur plan"),
    "size": (set_at("axes", "conv1", "size", to=-8), "has an axis 'conv1' of size -8"),
    "huge size": (set_at("axes", "conv1", "size", to=10**15), r"conv1\.weight\n  file   \(10{15}, 3, 3, 3\)"),
    "unknown axis": (
        set_at("sites", "conv1.weight", 0, to="conv9"),
        "site 'conv1.weight' by 'conv9', which is not an axis",
    ),
    "unknown term": (set_at("sites", "conv1.weight", 0, to={"sum": [8]}), r"site 'conv1.weight' by .*sum"),
    "size zero": (set_at("sites", "conv1.weight", 1, to=0), "site 'conv1.weight' by '0', which is not an axis"),
    "unknown site": (
        set_at("sites", "conv9.weight", to=["conv1"]),
        "cuts 'conv9.weight', which this Parts does not have",
    ),
    "other shape": (
        set_at("sites", "conv1.weight", to=["conv1", 3, 3]),
        r"conv1\.weight\n  file   \(8, 3, 3\) before the cut",
    ),
    "dunder": (attribute("conv1", "__class__", None, 8, 4), "sets an attribute '__class__' of 'conv1'"),
    "private": (attribute("conv1", "_parameters", None, 8, 4), "sets an attribute '_parameters' of 'conv1'"),
    "dotted": (attribute("", "conv1.groups", None, 1, 4), r"sets conv1.groups, which is not an integer .*\(missing\)"),
    "no integer": (
        attribute("conv1", "padding_mode", None, 8, 4),
        r"sets conv1.padding_mode, which is not an integer .*\(str",
    ),
    "a bool": (
        attribute("conv1", "training", None, 0, 1),
        "sets conv1.training, which is not an integer in this Parts",
    ),
    "a method": (
        attribute("conv1", "forward", None, 8, 4),
        r"sets conv1.forward, which is not an integer .*\(missing\)",
    ),
    "no module": (attribute("conv9", "groups", None, 8, 4), "sets conv9.groups: this Parts has no module 'conv9'"),
    "no place": (attribute("conv1", "stride", 7, 1, 2), r"sets conv1.stride\[7\], which is not an integer"),
    "negative place": (attribute("conv1", "stride", -1, 1, 2), r"sets conv1.stride\[-1\] from 1 to 2"),
    "other value": (attribute("conv1", "groups", None, 3, 2), r"conv1.groups\n  file   3\n  model  1\n"),
    "new no integer": (attribute("conv1", "groups", None, 1, "x"), "sets conv1.groups.* from 1 to 'x'"),
    "scale": (
        set_at("scales", to=[["conv1.weight", 0, [[0, 99]], 2.0]]),
        r"rows 0 to 99 of conv1.weight\[0\], which has 8",
    ),
    "scaled by": (set_at("scales", to=[["conv1.weight", 0, [[0, 8]], float("nan")]]), "scales conv1.weight by nan"),
    "scaled what": (
        set_at("scales", to=[["fc.bias", 0, [[0, 8]], 2.0]]),
        r"scales fc.bias\[0\], which is not one of its sites",
    ),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_plans(name: str, tmp_path: Path) -> None:
    change, message = HOSTILE[name]
    path = tmp_path / "m.safetensors"
    save(cut("plain_cnn"), path)
    plan = json.loads(read_plans(path)[0].to_json())
    change(plan)
    rewritten(path, secateur_plans=json.dumps([plan]))
    refused(path, NETS["plain_cnn"].make(), message)


EACH: dict[str, tuple[Any, str]] = {
    "too few": ([[0, 1]], r"keeps 1 lists of units of axis '{0}', which has 3 outer units"),
    "not nested": ([0, 1], r"keeps 0 lists of units of axis '{0}', which has 3 outer units"),
    "unequal": ([[0, 1], [1], [1, 2]], r"keeps unequal numbers of units of axis '{0}' for its outer units"),
    "out of range": ([[0, 1], [1, 9], [1, 2]], r"keeps unit 9 of axis '{0}', which has 4: 0 to 3"),
}


@pytest.mark.parametrize("name", EACH)
def test_hostile_choices_per_outer_unit(name: str, tmp_path: Path) -> None:
    kept, message = EACH[name]
    path, axis = tmp_path / "m.safetensors", "attn.in_proj_weight[0]"
    save(cut("multihead"), path)
    plan = json.loads(read_plans(path)[0].to_json())
    plan["axes"][axis]["kept"] = kept
    rewritten(path, secateur_plans=json.dumps([plan]))
    refused(path, NETS["multihead"].make(), message.format(re.escape(axis)))


def test_another_architecture_says_which_parameter_and_both_shapes(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    save(secateur.cut(wide := nn.Sequential(nn.Linear(4, 9), nn.Linear(9, 2)), by_hand(wide, "0")), path)
    other = nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 2))
    fact = (
        r"m.safetensors does not fit this Sequential: 0.weight\n  file   \(9, 4\) before the cut\n  model  \(8, 4\)\n"
    )
    refused(path, other, fact + "cause: the file is of another architecture")


def by_hand(model: nn.Module, axis: str) -> secateur.Plan:
    return secateur.plan(secateur.trace(model, torch.zeros(1, 4)), drop={axis: [1]})


def test_names_and_shapes_outside_the_plan_are_checked_too(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    save(nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 2)), path)
    refused(
        path, nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3)), r"missing +2  2.weight, 2.bias\n  unexpected"
    )
    shapes = r"1.weight: file \(2, 8\) float32, model \(3, 8\) float32, 1.bias: file \(2,\) float32, model \(3,\)"
    refused(path, nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 3)), f"different +2  {shapes}")


def test_integers_are_no_weights(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    save_file({"weight": torch.ones(2, 2).to(torch.int8), "bias": torch.ones(2)}, path)
    save_file(load_file(path), path, {"secateur_format": "1", "secateur_plans": "[]", "secateur_aliases": "{}"})
    refused(path, nn.Linear(2, 2), r"weight: file \(2, 2\) int8, model \(2, 2\) float32")


def test_two_names_of_one_module_cannot_differ(tmp_path: Path) -> None:
    layer = nn.Linear(2, 2)
    save(nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2)), tmp_path / "m.safetensors")
    refused(
        tmp_path / "m.safetensors",
        nn.Sequential(layer, layer),
        "holds 0.weight and 1.weight as two tensors, which are one in",
    )


def test_sharing_of_different_shapes(tmp_path: Path) -> None:
    net = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    net[1].weight = net[0].weight
    save(net, tmp_path / "m.safetensors")
    refused(
        tmp_path / "m.safetensors", nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 3)), r"1.weight  \(3, 2\)\n  0.weight"
    )


def nothing_left(folder: Path, *names: str) -> None:
    assert sorted(path.name for path in folder.iterdir()) == sorted(names)


def test_a_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r"cannot write .*: there is no folder .*/out\nmake it first \(mkdir -p .*/out\)"
    ):
        save(Offset(), tmp_path / "out" / "m.safetensors")
    nothing_left(tmp_path)


def test_a_folder_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("")
    with pytest.raises(InputError, match=r"cannot write .*: .*/out is a file, not a folder\nwrite to a folder"):
        save(Offset(), tmp_path / "out" / "m.safetensors")
    nothing_left(tmp_path, "out")


def test_a_file_that_is_a_folder(tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r"cannot write .*: it is a folder\nname a file in it, such as .*/model.safetens"
    ):
        save(Offset(), tmp_path)
    nothing_left(tmp_path)


def failing(error: Exception) -> Callable[..., None]:
    def fail(*args: Any, **kwargs: Any) -> None:
        raise error

    return fail


# The tests may run as root, for whom every folder is writable: the system's refusals are put in its mouth.
FAILURES: dict[str, tuple[str, Exception, str]] = {
    "no rights": (
        "pathlib.Path.touch",
        PermissionError(13, "Permission denied"),
        r"cannot write {0}/m.safetensors: the folder {0} is not writable\nchange its rights \(chmod u\+w {0}\)",
    ),
    "disk full": (
        "safetensors.torch.save_file",
        SafetensorError("I/O error: No space left on device (os error 28)"),
        r"cannot write .*: I/O error: No space left on device \(os error 28\)\nmake room in {0}, or write to another",
    ),
    "not replaced": ("pathlib.Path.replace", OSError(5, "Input/output error"), "cannot write .*: Input/output error"),
    "not flushed": ("os.fsync", OSError(5, "Input/output error"), "cannot write .*: Input/output error"),
}


@pytest.mark.parametrize("name", FAILURES)
def test_a_failed_write_leaves_the_old_file_and_nothing_else(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    where, error, message = FAILURES[name]
    (tmp_path / "m.safetensors").write_text("old")
    monkeypatch.setattr(where, failing(error))
    with pytest.raises(InputError, match=message.format(re.escape(str(tmp_path)))):
        save(Offset(), tmp_path / "m.safetensors")
    assert (tmp_path / "m.safetensors").read_text() == "old"
    nothing_left(tmp_path, "m.safetensors")


def test_an_interrupted_write_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("safetensors.torch.save_file", failing(KeyboardInterrupt()))  # type: ignore[arg-type]
    with pytest.raises(KeyboardInterrupt):
        save(Offset(), tmp_path / "m.safetensors")
    nothing_left(tmp_path)


def test_a_file_has_the_rights_that_the_user_gives_to_files(tmp_path: Path) -> None:
    (tmp_path / "usual").touch()
    save(Offset(), tmp_path / "m.safetensors")
    assert (tmp_path / "m.safetensors").stat().st_mode == (tmp_path / "usual").stat().st_mode


def test_text_is_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_json(tmp_path / "a.json", '{"ä": 1}')
    monkeypatch.setattr("pathlib.Path.replace", failing(OSError(5, "Input/output error")))
    with pytest.raises(InputError, match=r"cannot write .*/a.json: Input/output error"):
        save_json(tmp_path / "a.json", "{}")
    assert json.loads((tmp_path / "a.json").read_text(encoding="utf-8")) == {"ä": 1}
    nothing_left(tmp_path, "a.json")


class Extra(nn.Linear):
    def get_extra_state(self) -> Any:
        return {"step": 3}


def with_buffer(tensor: torch.Tensor) -> nn.Module:
    model = nn.Linear(2, 2)
    model.register_buffer("odd", tensor)
    return model


def part_cut() -> nn.Module:
    return nn.ModuleDict({"net": cut("plain_cnn")})


UNSAVED: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "meta": (lambda: nn.Linear(2, 2, device="meta"), "weight is on the meta device and has no values; load weights"),
    "sparse": (
        lambda: with_buffer(torch.eye(2).to_sparse()),
        r"odd is sparse \(torch.sparse_coo\); make it dense with",
    ),
    "dtype": (
        lambda: with_buffer(torch.zeros(2, dtype=torch.complex128)),
        "cannot be stored as safetensors: .*complex128",
    ),
    "extra state": (
        lambda: Extra(2, 2),
        "the model, a Extra, has get_extra_state, but no set_extra_state",
    ),
    "a part was cut": (
        part_cut,
        r"it is net that was cut, not the model around it\nsave that part: secateur.save\(model.net",
    ),
    "wrapped": (lambda: nn.DataParallel(nn.Linear(2, 2)), "the model is wrapped in DataParallel"),
}


@pytest.mark.parametrize("name", UNSAVED)
def test_models_that_cannot_be_saved(name: str, tmp_path: Path) -> None:
    build, message = UNSAVED[name]
    with pytest.raises(InputError, match=message):
        save(build(), tmp_path / "m.safetensors")
    nothing_left(tmp_path)
