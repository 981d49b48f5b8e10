"""Malformed options and files on the command line: exit code 2, a clear message, no traceback, nothing written."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from commands import HALF, SHAPE, Command

PRUNE: dict[str, tuple[list[str], list[str]]] = {
    "no target": ([], ["nothing to do: give --target macs=0.5, or --width NAME=COUNT, or --select RULE"]),
    "target NaN": (["--target", "macs=nan"], ["'macs=nan'", "more than 0"]),
    "target typo": (["--target", "mac=0.5"], ["'mac=0.5'; did you mean 'macs'?"]),
    "target number": (["--target", "macs=50%"], ["'50%' is not a number"]),
    "target out of reach": (["--target", "macs=0.001"], ["macs=0.001 cannot be reached", "lower --floor"]),
    "rule without colon": (["--select", "conv1"], ["rule 'conv1' has no colon"]),
    "rule of nothing": (["--select", ":"], ["rule ':' has no settings"]),
    "unknown name": (["--select", "conv3: keep=0.5"], ["'conv3', which matches no parameter; did you mean 'conv"]),
    "unknown type": (["--select", "type=Conv3d: keep=0.5"], ["'type=Conv3d'", "did you mean 'Conv2d'"]),
    "unknown kind": (["--select", "conv1: prune=blocks"], ["the kind 'blocks'", "known: channel, head"]),
    "unknown setting": (["--select", "conv1: keeep=0.5"], ["'keeep'; did you mean 'keep'?"]),
    "negative width": (["--select", "conv1: width=-1"], ["width='-1'", "a whole number from 1 up"]),
    "nothing can be cut": (["--select", "head: keep=0.5"], ["'head', where nothing can be cut", "model output"]),
    "protected width": (
        ["--protect", "conv1", "--width", "conv1=4"],
        ["--width sets 'conv1' to 4", "protect keeps it"],
    ),
    "only nothing": ([*HALF, "--only", "conv9"], ["--only names 'conv9'", "did you mean 'conv"]),
    "width above": (["--width", "conv1=99"], ["--width sets 'conv1' to 99; it has 12 units"]),
    "width of text": (["--width", "conv1=all"], ["'all' is not a number"]),
    "drop out of range": (["--drop", "conv1=12"], ["--drop names unit 12 of 'conv1', whose 12 units are 0 to 11"]),
    "floor NaN": ([*HALF, "--floor", "nan"], ["floor=nan"]),
    "ceiling below floor": ([*HALF, "--ceiling", "0.01"], ["floor=0.1 is above ceiling=0.01"]),
    "align": ([*HALF, "--align", "-8"], ["align=-8", "a whole number from 1 up"]),
    "importance": ([*HALF, "--importance", "l3"], ["'l3'", "did you mean 'l"]),
    "unknown option": ([*HALF, "--protekt", "conv1"], ["--protekt"]),
    "seed": ([*HALF, "--seed", "-1"], ["--seed", "greater than or equal to 0"]),
    "input": ([*HALF, "--input", "1x-1x8x8"], ["'1x-1x8x8'", "positive sizes"]),
    "input of another size": ([*HALF, "--input", "1x3x8x8"], ["(1, 3, 8, 8) float32", "pass inputs"]),
    "device": ([*HALF, "--device", "tpu9000"], ["--device tpu9000", "--device cpu"]),
    "missing selection": (["--select", "rules.yaml"], ["no file rules.yaml"]),
    "missing weights": ([*HALF, "--weights", "w.pt"], ["no weights file", "w.pt"]),
}
FILES: dict[str, tuple[str, Callable[[Path], object], list[str]]] = {
    "selection empty": ("rules.yaml", lambda path: path.write_text(""), ["rules.yaml holds nothing"]),
    "selection typo": ("rules.yaml", lambda path: path.write_text("florr: 1"), ["'florr'; did you mean 'floor'?"]),
    "selection rule": ("rules.yaml", lambda path: path.write_text("- conv1: kep=1"), ["'kep'; did you mean 'keep'?"]),
    "selection code": ("rules.yaml", lambda path: path.write_text("!!python/name:os.system"), ["rules.yaml cannot be"]),
    "selection cut": ("rules.json", lambda path: path.write_text('[{"match"'), ["rules.json cannot be read"]),
    "selection folder": ("rules.json", lambda path: path.mkdir(), ["no file", "rules.json"]),
    "weights empty": ("w.pt", lambda path: path.write_bytes(b""), ["w.pt (0 bytes) cannot be read"]),
    "weights pickle": ("w.pt", lambda path: path.write_bytes(pickle.dumps(nn.Linear(2, 2))), ["state dict alone"]),
    "weights of another": (
        "w.pt",
        lambda path: torch.save(nn.Linear(2, 2).state_dict(), path),
        ["does not fit", "Net"],
    ),
    "weights folder": ("w.pt", lambda path: path.mkdir(), ["w.pt is a folder"]),
    "weights no safetensors": ("w.safetensors", lambda path: torch.save({}, path), ["w.safetensors", "cannot be read"]),
}


def refused(secateur: Command, files: Callable[[], dict[str, bytes]], arguments: list[str], parts: list[str]) -> None:
    out, before = secateur.folder / "run", files()
    message = secateur.fails("prune", secateur.net, *SHAPE, *arguments, "--out", out)
    assert [part for part in parts if part not in message] == []
    assert files() == before
    assert not out.exists()


@pytest.mark.parametrize("case", PRUNE)
def test_malformed_options(secateur: Command, files: Callable[[], dict[str, bytes]], case: str) -> None:
    refused(secateur, files, *PRUNE[case])


@pytest.mark.parametrize("case", FILES)
def test_malformed_files(secateur: Command, files: Callable[[], dict[str, bytes]], case: str) -> None:
    name, write, parts = FILES[case]
    path = secateur.folder / name
    write(path)
    option = "--weights" if name.startswith("w.") else "--select"
    refused(secateur, files, [*HALF, option, str(path)], parts)


RUNS: dict[str, tuple[Callable[[Path], object], list[str]]] = {
    "no description": (lambda run: (run / "run.json").unlink(), ["holds no run.json"]),
    "empty description": (
        lambda run: (run / "run.json").write_text(""),
        ["run.json cannot be read", "make the run again"],
    ),
    "no weights": (lambda run: (run / "model.safetensors").unlink(), ["but no model.safetensors"]),
    "empty weights": (lambda run: (run / "model.safetensors").write_bytes(b""), ["(0 bytes) cannot be read"]),
    "pickled weights": (lambda run: torch.save({}, run / "model.safetensors"), ["it is a pickle"]),
    "plan out of range": (lambda run: edited(run, "conv1", [99]), ["unit 99 of axis 'conv1'", "0 to 11"]),
    "plan of units of text": (lambda run: edited(run, "conv1", ["a"]), ["not ['a']"]),
}


def edited(run: Path, axis: str, kept: list[object]) -> None:
    document = json.loads((run / "run.json").read_text())
    document["plan"]["axes"][axis]["kept"] = kept
    (run / "run.json").write_text(json.dumps(document))


@pytest.mark.parametrize("case", RUNS)
def test_malformed_runs(secateur: Command, small: Path, files: Callable[[], dict[str, bytes]], case: str) -> None:
    damage, parts = RUNS[case]
    damage(small)
    before = files()
    message = secateur.fails("verify", small)
    assert [part for part in parts if part not in message] == []
    assert files() == before
