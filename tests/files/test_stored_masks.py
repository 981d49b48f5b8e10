"""Masks in files: round trips, old files, and files that are refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn

import laws
import secateur
from nets import NETS
from secateur.anatomy.calls import Call
from secateur.apply.ready import plans_of
from secateur.errors import FileError, InputError
from secateur.export.loader import loader_source
from secateur.files.model_file import load, read_plans, save
from secateur.files.stored_masks import packed, unpacked
from secateur.masks import mask, masks_of

CUT = [name for name, net in NETS.items() if net.axes and name != "weights_in_a_list"]  # these are refused


def same(model: nn.Module, other: nn.Module, name: str) -> bool:
    call = Call.of(NETS[name].example())
    return all(map(torch.equal, laws.outputs(model, call), laws.outputs(other, call)))


@pytest.mark.parametrize("name", CUT)
def test_a_fresh_original_becomes_the_masked_and_cut_model(name: str, tmp_path: Path) -> None:
    net, path = NETS[name], tmp_path / "m.safetensors"
    model = net.make()
    wanted = mask(model, 0.5, criterion="random").masks.keys()
    plan = secateur.plan(secateur.trace(model, net.example()), "channels=0.6", importance="random")
    small = secateur.cut(model, plan)
    save(small, path)
    again = load(net.make(seed=5), path)
    assert same(again, small, name)
    assert masks_of(again).masks.keys() == masks_of(small).masks.keys() == wanted
    assert all(
        torch.equal(a, b) for a, b in zip(masks_of(again).masks.values(), masks_of(small).masks.values(), strict=True)
    )
    assert plans_of(again) == read_plans(path)
    masks_of(again).remove()
    masks_of(small).remove()
    assert plans_of(again) == plans_of(small)
    assert same(again, small, name)


def build() -> Any:
    return nn.Sequential(nn.Linear(3, 6), nn.ReLU(), nn.Linear(6, 2))


def masked_file(path: Path) -> Any:
    model = build()
    mask(model, 0.5, scope="layer")
    save(model, path)
    return model


def test_a_bit_a_weight_is_stored_under_plain_names(tmp_path: Path) -> None:
    model = masked_file(tmp_path / "m.safetensors")
    content = load_file(tmp_path / "m.safetensors")
    assert content.keys() == {*build().state_dict(), "0.weight.secateur_mask", "2.weight.secateur_mask"}
    assert content["0.weight.secateur_mask"].numel() == 3
    assert torch.equal(content["0.weight"], model[0].parametrizations.weight.original)


def test_masked_in_between_two_cuts(tmp_path: Path) -> None:
    model, x = build(), torch.randn(4, 3)
    secateur.cut_(model, secateur.plan(secateur.trace(model, x), drop={"0": [1]}))
    mask(model, 0.5)
    secateur.cut_(model, secateur.plan(secateur.trace(model, x), drop={"0": [2]}))
    save(model, tmp_path / "m.safetensors")
    again = load(build(), tmp_path / "m.safetensors")
    assert torch.equal(again(x), model(x))
    assert masks_of(again).density == masks_of(model).density
    save(again, tmp_path / "m.safetensors")
    assert torch.equal(load(build(), tmp_path / "m.safetensors")(x), model(x))


def test_hardened_after_a_cut(tmp_path: Path) -> None:
    model, x = build(), torch.randn(4, 3)
    masks = mask(model, 0.5)
    secateur.cut_(model, secateur.plan(secateur.trace(model, x), drop={"0": [1]}))
    before = model(x)
    masks.harden()
    save(model, tmp_path / "m.safetensors")
    again = load(build(), tmp_path / "m.safetensors")
    assert torch.equal(again(x), before)
    assert type(again[0]) is nn.Linear


def test_tied_weights_stay_tied_and_masked(tmp_path: Path) -> None:
    def tied() -> Any:
        net = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4))
        net[2].weight = net[0].weight
        return net

    model, x = tied(), torch.randn(2, 4)
    mask(model, 0.5)
    save(model, tmp_path / "m.safetensors")
    again = load(tied(), tmp_path / "m.safetensors")
    assert torch.equal(again(x), model(x))
    first, second = (again[i].parametrizations.weight for i in (0, 2))
    assert first.original is second.original
    assert first[0] is second[0]


@pytest.mark.parametrize("n", [1, 8, 11])
def test_packing_is_the_identity_both_ways(n: int) -> None:
    kept = torch.rand(n, generator=torch.Generator().manual_seed(n)) > 0.5
    assert torch.equal(unpacked(packed(kept), (n,)), kept)


def test_a_model_that_wears_masks_is_not_loaded_into(tmp_path: Path) -> None:
    model = masked_file(tmp_path / "m.safetensors")
    with pytest.raises(InputError, match=r"the model has masks already.*masks_of\(model\)\.remove\(\)"):
        load(model, tmp_path / "m.safetensors")


def bits(n: int, value: int = 0) -> torch.Tensor:
    return torch.full((n,), value, dtype=torch.uint8)


DAMAGED: dict[str, tuple[str | None, dict[str, torch.Tensor], str]] = {
    "no JSON": ("[{", {}, "its metadata are damaged: secateur_masks: .*line 1"),
    "very deep": ("[" * 100_000 + "]" * 100_000, {}, "its metadata are damaged: secateur_masks"),
    "no object": ("[]", {}, "secateur_masks is a list, not an object"),
    "unknown pattern": ('{"0.weight": "3:7"}', {}, "the mask of 0.weight has the pattern '3:7'; this secateur knows"),
    "pattern no text": ('{"0.weight": 3}', {}, "the mask of 0.weight has the pattern 3"),
    "no bits": ('{"0.bias": "unstructured"}', {}, "secateur_masks names '0.bias', but the file has no mask for it"),
    "unknown weight": (
        '{"9.weight": "unstructured"}',
        {"9.weight.secateur_mask": bits(1)},
        "masks '9.weight', which is not a parameter of this Sequential",
    ),
    "wrong size": (
        None,
        {"0.weight.secateur_mask": bits(2)},
        r"does not fit it\n  mask    \(2,\) uint8\n  weight  \(6, 3\)",
    ),
    "wrong type": (None, {"0.weight.secateur_mask": torch.zeros(3)}, r"does not fit it\n  mask    \(3,\) float32"),
    "bits behind": (None, {"0.weight.secateur_mask": bits(3, 255)}, "with bits behind the last weight; it is damaged"),
    "bits of nothing": (None, {"1.weight.secateur_mask": bits(3)}, "unexpected +1  1.weight.secateur_mask"),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_hostile_masks_are_refused(name: str, tmp_path: Path) -> None:
    told, tensors, message = DAMAGED[name]
    path = tmp_path / "m.safetensors"
    masked_file(path)
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    kept = json.loads(told) if told and told.startswith('{"') else None
    content = {k: v for k, v in load_file(path).items() if kept is None or not k.endswith("_mask")}
    save_file({**content, **tensors}, path, {**metadata, **({"secateur_masks": told} if told else {})})
    model = build()
    before = {name: (id(p), p.clone()) for name, p in model.named_parameters()}
    with pytest.raises(FileError, match=message):
        load(model, path)
    assert all(id(p) == before[n][0] and torch.equal(p, before[n][1]) for n, p in model.named_parameters())


def test_a_loader_that_stands_alone_makes_the_zeros_permanent(tmp_path: Path) -> None:
    model, x = masked_file(tmp_path / "m.safetensors"), torch.randn(2, 3)
    loader: dict[str, Any] = {}
    exec(loader_source(tmp_path / "m.safetensors"), loader)
    again = loader["load_pruned"](build(), str(tmp_path / "m.safetensors"))
    assert torch.equal(again(x), model(x))
    assert type(again[0]) is nn.Linear
    assert int((again[0].weight == 0).sum()) == 9


def test_averaged_masks_are_refused_and_hardened_as_they_work(tmp_path: Path) -> None:
    net = nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 2))
    mask(net, 0.5)
    average = torch.optim.swa_utils.AveragedModel(net, use_buffers=True)
    average.update_parameters(net)
    masks_of(net).update(0.8)
    average.update_parameters(net)
    x = torch.randn(3, 4)
    before = average.module(x)
    with pytest.raises(InputError, match="holds more than 0 and 1"):
        secateur.save(average.module, tmp_path / "a.safetensors")
    masks_of(average.module).harden()
    torch.testing.assert_close(average.module(x), before)


@pytest.mark.parametrize("uniform", [False, True])
def test_hugging_face_models_are_pruned_with_masks_and_saved_without(uniform: bool, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers", reason="transformers is not installed (extra hf)")
    sizes = {"vocab_size": 48, "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 4}
    config = transformers.BertConfig(**sizes, intermediate_size=64)
    model, ids = transformers.BertModel(config), torch.randint(0, 48, (2, 8))
    mask(model, 0.5)
    pruned = secateur.prune(model, ids, "params=0.9", uniform=uniform)
    with pytest.raises(InputError, match=r"this BertModel has masks, and from_pretrained knows plain weights only"):
        pruned.save(tmp_path / "folder")
    masks_of(pruned.model).harden()
    pruned.save(tmp_path / "folder")
    again = transformers.BertModel.from_pretrained(tmp_path / "folder").eval()
    weight = again.encoder.layer[0].intermediate.dense.weight
    assert torch.equal(weight, pruned.model.encoder.layer[0].intermediate.dense.weight)
    assert (weight == 0).float().mean() > 0.2


def test_a_pattern_that_no_longer_divides_is_told() -> None:
    net = nn.Sequential(nn.Linear(16, 16), nn.Linear(16, 16))
    mask(net, pattern="2:4")
    small = secateur.prune(net, torch.zeros(1, 16), "channels=0.6").model
    with pytest.raises(InputError, match="cannot have the pattern 2:4 any more: its 9 inputs"):
        masks_of(small).update(0.5)
