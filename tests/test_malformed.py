"""Malformed selections, configurations, plans and checkpoints: a clear error each, nothing written, nothing changed.

Every row says what is wrong, and what the error must tell: the value, and where there is one the mend.
"""

from __future__ import annotations

import copy
import json
import pickle
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn

import secateur
from secateur import FileError, InputError, Plan, Select, TargetError
from secateur.models import load_weights

IMAGE = torch.zeros(1, 3, 8, 8)


@dataclass(frozen=True)
class Work:
    """What is done with a model in a folder, and what is put there before."""

    run: Callable[[nn.Module, Path], Any]
    before: Callable[[Path], Any] = lambda folder: None


Row = tuple[type[Exception], Work, Sequence[str]]


def model() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 16, 3), nn.ReLU(), nn.Conv2d(16, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 1))


def prune(target: Any = "macs=0.5", **options: Any) -> Work:
    return Work(lambda net, folder: secateur.prune(net, IMAGE, target, **options).save(folder / "out.safetensors"))


def rule(text: Any) -> Work:
    return prune(select=text)


def config(name: str, text: str) -> Work:
    """A selection in a file."""

    def work(net: nn.Module, folder: Path) -> None:
        secateur.prune(net, IMAGE, "macs=0.5", select=Select.read(folder / name)).save(folder / "out.safetensors")

    return Work(work, lambda folder: (folder / name).write_text(text))


def plan(*path: Any, to: Any) -> Work:
    """A plan with one entry of its JSON set to something else (or left out, where that is `...`)."""

    def work(net: nn.Module, folder: Path) -> None:
        secateur.save(secateur.cut_(net, Plan.from_json(changed(PLAN, path, to))), folder / "out.safetensors")

    return Work(work)


def changed(text: str, path: Sequence[Any], to: Any) -> str:
    data = inner = copy.deepcopy(json.loads(text))
    for key in path[:-1]:
        inner = inner[key]
    if to is ...:
        del inner[path[-1]]
    else:
        inner[path[-1]] = to
    return json.dumps(data)


def checkpoint(write: Callable[[Path], Any], build: Callable[[], nn.Module] | None = None) -> Work:
    """A file in the place of a pruned model's. `build`: another model than the one that was pruned."""

    def work(net: nn.Module, folder: Path) -> None:
        secateur.load(build() if build else net, folder / "in.safetensors")

    return Work(work, lambda folder: write(folder / "in.safetensors"))


def weights(write: Callable[[Path], Any]) -> Work:
    """A file of plain weights."""
    return Work(lambda net, folder: load_weights(net, folder / "in.pt"), lambda folder: write(folder / "in.pt"))


def small(path: Path) -> None:
    secateur.save(secateur.cut(model(), Plan.from_json(PLAN)), path)


def damaged(change: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        small(path)
        path.write_bytes(change(path.read_bytes()))

    return write


def rewritten(change: Callable[[dict[str, torch.Tensor], dict[str, str]], Any]) -> Callable[[Path], None]:
    """The file with other tensors or metadata."""

    def write(path: Path) -> None:
        small(path)
        with safe_open(path, "pt") as file:
            metadata = dict(file.metadata())
        tensors = load_file(path)
        change(tensors, metadata)
        save_file(tensors, path, metadata)

    return write


def metadata(name: str, text: str) -> Callable[[Path], None]:
    return rewritten(lambda tensors, found: found.update({name: text}))


PLAN = secateur.plan(secateur.trace(model(), IMAGE), "macs=0.5").to_json()
OTHER = nn.Sequential(nn.Linear(3, 3))

SELECTIONS: dict[str, Row] = {
    "unknown name": (InputError, rule("1.conv: keep=0.5"), ["'1.conv', which matches no parameter"]),
    "unknown glob": (InputError, rule("layer4.*: keep=0.5"), ["'layer4.*', which matches no parameter"]),
    "unknown type": (InputError, rule("type=Conv2D: floor=2"), ["'type=Conv2D'", "did you mean 'Conv2d'"]),
    "unknown axis": (InputError, rule("axis=1: floor=2"), ["no prunable axis is named '1'"]),
    "unknown kind": (InputError, rule("kind=hed: keep=0.5"), ["'hed'", "did you mean 'head'"]),
    "no such kind here": (InputError, rule("*: prune=heads"), ["no head that can be cut", "0 (channel), 2 (channel)"]),
    "frozen": (
        InputError,
        rule("4: keep=0.5"),
        ["'4', where nothing can be cut", "4.weight[0] is frozen: model output"],
    ),
    "unknown setting": (InputError, rule("0: kep=0.5"), ["'kep'; did you mean 'keep'?"]),
    "unknown form": (InputError, rule("tpye=Conv2d: keep=0.5"), ["'tpye=Conv2d'; did you mean 'type'?"]),
    "no colon": (InputError, rule("0 keep=0.5"), ["'0 keep=0.5' has no colon", "'layer4.*: keep=0.5'"]),
    "no settings": (InputError, rule("0:"), ["'0:' has no settings", "keep, width"]),
    "share above one": (InputError, rule("0: keep=2"), ["keep='2'", "above 0, up to 1, as in keep=0.5"]),
    "share NaN": (InputError, rule({"match": "0", "keep": float("nan")}), ["keep=nan", "above 0, up to 1"]),
    "negative width": (InputError, rule("0: width=-4"), ["width='-4'", "a whole number from 1 up, as in width=48"]),
    "negative widths": (InputError, prune(None, select=Select(widths={"0": -4})), ["'0' to -4", "has 16 units"]),
    "width of NaN": (
        InputError,
        prune(None, select=Select(widths={"0": float("nan")})),
        ["'0' to nan", "has 16 units"],
    ),
    "too wide": (InputError, rule("0: width=17"), ["'0' to 17", "has 16 units and keeps 1 or more"]),
    "width below floor": (InputError, rule(["0: floor=8", "0: width=4"]), ["'0' to 4 of 16", "floor=8"]),
    "floor above ceiling": (InputError, rule("0: floor=8 ceiling=4"), ["'0', 16 units", "at most 4", "at least 8"]),
    "protected width": (InputError, rule(["0: protect", "0: width=4"]), ["'0' to 4", "'0: protect' keeps it as it is"]),
    "nothing together": (InputError, rule("0: together"), ["'0: together'", "only one group"]),
    "both sizes": (InputError, rule("0: keep=0.5 width=4"), ["keep=0.5 and width=4\nkeep one"]),
    "no selection": (InputError, rule(0.5), ["select=0.5", "'layer4.*: keep=0.5'"]),
    "no rule": (InputError, rule([7]), ["7 is not a rule", "write 'layer4.*: keep=0.5'"]),
    "widths by number": (InputError, Work(lambda net, folder: Select(widths={3: 4})), ["names 3", "{'conv1': 48}"]),
    "floor of text": (InputError, Work(lambda net, folder: Select(floor="half")), ["floor='half'", "as in floor=16"]),
    "drop by mask": (InputError, prune(drop={"0": torch.ones(16) > 0}), ["'0'", "True", "drop={'0': [2, 6, 9]}"]),
    "drop half a unit": (InputError, prune(drop={"0": [1.5]}), ["'0': [1.5]", "the numbers of the units"]),
    "drop a list": (InputError, prune(drop=[1, 2]), ["drop=[1, 2]", "drop={'conv1': [2, 6, 9]}"]),
    "drop too far": (InputError, prune(drop={"2": [8]}), ["unit 8 of '2'", "0 to 7"]),
    "importance": (InputError, prune(importance=None), ["importance=None", "l1, l2"]),
    "seed": (InputError, prune(seed="one"), ["seed='one' is not a whole number"]),
}
TARGETS: dict[str, Row] = {
    "NaN": (TargetError, prune("macs=nan"), ["'macs=nan'", "'macs=0.5'"]),
    "infinite": (TargetError, prune("params=inf"), ["'params=inf'", "'params=0.5'"]),
    "negative": (TargetError, prune("macs=-1"), ["'macs=-1'", "more than 0"]),
    "a number": (TargetError, prune(0.5), ["target 0.5 is a float", "'macs=0.5'"]),
    "a mapping": (TargetError, prune({"macs": 0.5}), ["target {'macs': 0.5} is a dict", "'macs=0.5'"]),
    "typo": (TargetError, prune("parms=0.5"), ["'parms=0.5'", "did you mean 'params'?"]),
    "out of reach": (TargetError, rule(["*: keep=1"]), ["macs=0.5 cannot be reached", "macs=1", "fix less"]),
}
CONFIGS: dict[str, Row] = {
    "empty": (FileError, config("c.yaml", ""), ["c.yaml holds nothing", "a list of rules"]),
    "a word": (FileError, config("c.yaml", "keep"), ["c.yaml holds 'keep'", "a list of rules"]),
    "unknown word": (InputError, config("c.yaml", "flor: 0.1"), ["c.yaml", "'flor'; did you mean 'floor'?"]),
    "unknown setting": (InputError, config("c.yaml", "- {match: '0', widht: 4}"), ["'widht'; did you mean 'width'?"]),
    "said twice": (FileError, config("c.yaml", "floor: 0.1\nfloor: 0.2"), ["c.yaml", "'floor' is set twice"]),
    "bare glob": (FileError, config("c.yaml", "- match: *.attn"), ["c.yaml", "quote any string that begins with a *"]),
    "code": (FileError, config("c.yaml", "!!python/name:os.system"), ["c.yaml", "python/name:os.system"]),
    "no list of rules": (InputError, config("c.yaml", "select: 5"), ["c.yaml", "rules=5"]),
    "value of a list": (InputError, config("c.yaml", "- {match: '0', floor: [1]}"), ["c.yaml", "floor=[1]"]),
    "truncated": (FileError, config("c.json", '[{"match": "0",'), ["c.json cannot be read", "line 1"]),
    "of another kind": (FileError, config("c.toml", "floor = 1"), ["c.toml", "one of .yaml, .yml, .json"]),
    "missing": (FileError, Work(lambda net, folder: Select.read(folder / "c.yml")), ["no file", "c.yml"]),
    "a folder": (FileError, Work(lambda net, folder: Select.read(folder)), ["is not a selection file"]),
}
KEPT = ("axes", "0", "kept")
PLANS: dict[str, Row] = {
    "unit out of range": (FileError, plan(*KEPT, to=[0, 99]), ["unit 99 of axis '0'", "0 to 15"]),
    "negative unit": (FileError, plan(*KEPT, to=[-1, 3]), ["unit -1 of axis '0'", "0 to 15"]),
    "unit twice": (FileError, plan(*KEPT, to=[3, 3]), ["units 3 and 3 of axis '0' twice"]),
    "no unit": (FileError, plan(*KEPT, to=[]), ["keeps no unit of axis '0'"]),
    "units of text": (FileError, plan(*KEPT, to=["a"]), ["not ['a']"]),
    "size of text": (FileError, plan("axes", "0", "size", to="16"), ["'0' of size '16'"]),
    "no axes": (FileError, plan("axes", to=...), ["not a secateur plan", "'axes'"]),
    "no such term": (FileError, plan("sites", "0.weight", 0, to={"sum": ["0"]}), ["'0.weight'", "sum"]),
    "no such axis": (FileError, plan("sites", "0.weight", 0, to="7"), ["'0.weight'", "'7'"]),
    "no such site": (InputError, plan("sites", "9.weight", to=["0"]), ["'9.weight'", "did you mean"]),
    "scale of NaN": (FileError, plan("scales", to=[["0.weight", 0, [[0, 4]], float("nan")]]), ["0.weight by nan"]),
    "hidden attribute": (FileError, plan("attributes", 0, 1, to="__class__"), ["'__class__' of '0'"]),
    "negative attribute": (FileError, plan("attributes", 0, 4, to=-8), ["0.out_channels", "from 16 to -8"]),
    "addition of one word": (FileError, plan("added", to=[["0.bias"]]), ["not a secateur plan"]),
    "hidden addition": (FileError, plan("added", to=[["0.__dict__", "0.weight", 0]]), ["a parameter '0.__dict__'"]),
    "addition there": (InputError, plan("added", to=[["4.bias", "4.weight", 0]]), ["adds '4.bias'", "shape (4,)"]),
    "addition nowhere": (InputError, plan("added", to=[["1.bias", "4.weight", 0]]), ["this ReLU has no place"]),
    "steps of text": (FileError, plan("recovery", to=["lsq"]), ["not a secateur plan"]),
    "nested option": (FileError, plan("recovery", to=[["lsq", {"data": {"a": 1}}]]), ["option 'data'", "{'a': 1}"]),
    "option of NaN": (FileError, plan("recovery", to=[["lsq", {"ridge": float("nan")}]]), ["'ridge'", "to nan"]),
    "another format": (FileError, plan("format", to=9), ["format 9", "reads format 1"]),
    "of another width": (InputError, plan("axes", "2", "size", to=12), ["2.weight", "(12, 16, 3, 3)", "(8, 16, 3, 3)"]),
    "of another model": (
        InputError,
        Work(lambda net, folder: secateur.cut(OTHER, Plan.from_json(PLAN))),
        ["0.weight", "(3, 3)"],
    ),
    "no plan": (
        InputError,
        Work(lambda net, folder: secateur.cut_(net, "plan.json")),
        ["plan is a str: plan.json", "or read one with Plan.from_json(Path('plan.json').read_text())"],
    ),
    "no JSON": (FileError, Work(lambda net, folder: Plan.from_json("plan")), ["not a secateur plan", "line 1"]),
    "a name": (
        FileError,
        Work(lambda net, folder: Plan.from_json("plan.json")),
        ["not its name", "from_json(Path('plan.json').read_text())"],
    ),
    "a path": (FileError, Work(lambda net, folder: Plan.from_json(folder / "p.json")), ["p.json').read_text())"]),  # type: ignore[arg-type]
    "no graph": (
        InputError,
        Work(lambda net, folder: secateur.plan(net, "macs=0.5")),
        ["graph is a Sequential", "trace"],
    ),
    "cut twice": (
        InputError,
        Work(lambda net, folder: secateur.cut(secateur.cut(net, Plan.from_json(PLAN)), Plan.from_json(PLAN))),
        ["0.weight", "(16, 3, 3, 3)", "make a plan on a trace"],
    ),
}
CHECKPOINTS: dict[str, Row] = {
    "empty": (FileError, checkpoint(lambda path: path.write_bytes(b"")), ["in.safetensors (0 bytes)", "truncated"]),
    "truncated": (FileError, checkpoint(damaged(lambda whole: whole[:-9])), ["in.safetensors", "cannot be read"]),
    "header only": (FileError, checkpoint(damaged(lambda whole: whole[:9])), ["(9 bytes)", "save the model again"]),
    "pickle": (FileError, checkpoint(lambda path: path.write_bytes(pickle.dumps(model()))), ["it is a pickle"]),
    "torch file": (
        FileError,
        checkpoint(lambda path: torch.save({}, path)),
        ["it is a pickle, as torch.save writes", "secateur.cut(build(), plan); model.load_state_dict"],
    ),
    "folder": (FileError, checkpoint(lambda path: path.mkdir()), ["in.safetensors is a folder", "name the file in it"]),
    "missing": (FileError, checkpoint(lambda path: small(path.with_name("i.safetensors"))), ["did you mean 'i.safe"]),
    "tensor missing": (FileError, checkpoint(rewritten(lambda t, m: t.pop("2.bias"))), ["missing", "2.bias"]),
    "tensor too many": (FileError, checkpoint(rewritten(lambda t, m: t.update(x=torch.ones(1)))), ["unexpected", " x"]),
    "other shape": (
        FileError,
        checkpoint(rewritten(lambda t, m: t.update({"4.bias": torch.ones(3)}))),
        ["4.bias: file (3,) float32, model (4,) float32"],
    ),
    "other type": (
        FileError,
        checkpoint(rewritten(lambda t, m: t.update({"4.bias": t["4.bias"].to(torch.int8)}))),
        ["4.bias: file (4,) int8, model (4,) float32"],
    ),
    "of another model": (
        FileError,
        checkpoint(small, lambda: nn.Conv2d(3, 16, 3)),
        ["'0.weight'", "did you mean 'weight'"],
    ),
    "not ours": (
        FileError,
        checkpoint(lambda path: save_file(model().state_dict(), path)),
        ["was not written by secateur.save", "load_state_dict"],
    ),
    "of the future": (FileError, checkpoint(metadata("secateur_format", "7")), ["is of format 7", "update secateur"]),
    "plan out of range": (
        FileError,
        checkpoint(metadata("secateur_plans", f"[{changed(PLAN, KEPT, [0, 99])}]")),
        ["unit 99 of axis '0'"],
    ),
    "no plans": (FileError, checkpoint(metadata("secateur_plans", "[")), ["its metadata are damaged"]),
    "weights truncated": (
        FileError,
        weights(lambda path: (torch.save(model().state_dict(), path), path.write_bytes(path.read_bytes()[:999]))),
        ["in.pt (999 bytes) cannot be read"],
    ),
    "weights empty": (FileError, weights(lambda path: path.write_bytes(b"")), ["in.pt (0 bytes)", "ends too early"]),
    "a whole model": (FileError, weights(lambda path: torch.save(model(), path)), ["it refers to", "state dict alone"]),
    "weights of another": (
        FileError,
        weights(lambda path: torch.save(OTHER.state_dict(), path)),
        ["missing", "0.weight"],
    ),
    "weights no dict": (FileError, weights(lambda path: torch.save([1], path)), ["holds list, not a state dict"]),
    "a folder of weights": (FileError, weights(lambda path: path.mkdir()), ["in.pt is a folder"]),
    "no path": (FileError, Work(lambda net, folder: secateur.load(net, None)), ["None cannot name a file"]),
    "empty path": (FileError, Work(lambda net, folder: secateur.save(net, "")), ["'' cannot name a file: it is empty"]),
    "path too long": (
        FileError,
        Work(lambda net, folder: secateur.save(net, folder / ("a" * 999))),
        ["File name too long"],
    ),
    "into a folder": (
        InputError,
        Work(lambda net, folder: secateur.save(net, folder)),
        ["cannot write", "it is a folder"],
    ),
    "into nowhere": (InputError, Work(lambda net, folder: secateur.save(net, folder / "x" / "y")), ["mkdir -p"]),
}
TABLES: dict[str, Mapping[str, Row]] = {
    "selection": SELECTIONS,
    "target": TARGETS,
    "config": CONFIGS,
    "plan": PLANS,
    "checkpoint": CHECKPOINTS,
}
MALFORMED = {f"{table}: {name}": row for table, rows in TABLES.items() for name, row in rows.items()}


def files(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def state(net: nn.Module) -> list[Any]:
    found = [(name, id(tensor), tensor._version) for name, tensor in net.state_dict(keep_vars=True).items()]
    return [*found, net.training, [vars(m).get("out_channels") for m in net.modules()]]


@pytest.mark.parametrize("case", MALFORMED)
def test_malformed_input(case: str, tmp_path: Path) -> None:
    kind, work, parts = MALFORMED[case]
    (tmp_path / "out.safetensors").write_bytes(b"what was there")
    work.before(tmp_path)
    net = model()
    before = files(tmp_path), state(net)
    with pytest.raises(kind) as caught:
        work.run(net, tmp_path)
    assert [part for part in parts if part not in str(caught.value)] == []
    assert (files(tmp_path), state(net)) == before


def test_there_are_more_than_fifty() -> None:
    assert len(MALFORMED) > 90


def test_the_same_work_with_good_input_is_done(tmp_path: Path) -> None:
    """The workers of the table fail for what is malformed, not for themselves."""
    good: dict[str, Work] = {
        "prune": prune(select="0: keep=0.5"),
        "config": config("c.yaml", "- '0': keep=0.5"),
        "plan": plan("target", to=[]),
        "checkpoint": checkpoint(small),
        "weights": weights(lambda path: torch.save(model().state_dict(), path)),
    }
    for name, work in good.items():
        work.before(tmp_path)
        net = model()
        before = state(net)
        work.run(net, tmp_path)
        assert (tmp_path / "out.safetensors").exists(), name
        assert (state(net) == before) == (name in ("prune", "config")), name
