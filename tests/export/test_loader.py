from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn

import secateur
from nets import NETS
from secateur.errors import FileError
from secateur.export import load_pruned as exported_module
from secateur.export.loader import loader_source
from secateur.files.model_file import FORMAT

CUT = [name for name, net in NETS.items() if net.axes]

# Loads every file with the printed loader, in a process where secateur cannot be imported once the networks are there;
# prints which models agree.
STRANGER = """
import json, pathlib, sys
sys.path[:0] = sys.argv[2:]
import torch
from nets import NETS
for name in [name for name in sys.modules if name.partition(".")[0] == "secateur"]:
    del sys.modules[name]
sys.modules["secateur"] = None
loader = {}
folder = pathlib.Path(sys.argv[1])
exec((folder / "loader.py").read_text(), loader)

def tensors(value):
    if isinstance(value, torch.Tensor):
        return [value]
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, (tuple, list)) else []
    return [tensor for part in parts for tensor in tensors(part)]

agree = {}
with torch.no_grad():
    for path in folder.glob("*.safetensors"):
        model = loader["load_pruned"](NETS[path.stem].make(seed=7), str(path))
        mine = tensors(model(*NETS[path.stem].example()))
        wanted = torch.load(path.with_suffix(".pt"), weights_only=True)
        agree[path.stem] = len(mine) == len(wanted) and all(map(torch.equal, mine, wanted))
print(json.dumps(agree))
"""


def pruned(name: str) -> nn.Module:
    """A network of the table, cut twice."""
    model, inputs = NETS[name].make(), NETS[name].example()
    for seed in (0, 1):
        graph = secateur.trace(model, inputs)
        if graph.axes:
            secateur.cut_(model, secateur.plan(graph, "channels=0.7", importance="random", seed=seed))
    return model.eval()


@pytest.fixture(scope="module")
def agree(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bool]:
    """By the name of each network, whether the loader alone gives the saved model."""
    folder = tmp_path_factory.mktemp("saved")
    for name in CUT:
        model = pruned(name)
        secateur.save(model, folder / f"{name}.safetensors")
        with torch.no_grad():
            torch.save(secateur.base.nested.tensors_in(model(*NETS[name].example())), folder / f"{name}.pt")
    (folder / "loader.py").write_text(loader_source(folder / f"{CUT[0]}.safetensors"))
    importable = [Path(__file__).parents[1], Path(secateur.__file__).parents[1]]
    command = [sys.executable, "-I", "-c", STRANGER, *map(str, (folder, *importable))]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("name", CUT)
def test_the_loader_alone_gives_the_saved_model(name: str, agree: dict[str, bool]) -> None:
    assert agree[name]


def loaded(folder: Path) -> Callable[..., Any]:
    """The loader of a saved network, and the network's file `m.safetensors`."""
    secateur.save(pruned("shared"), folder / "m.safetensors")
    namespace: dict[str, Any] = {}
    exec(loader_source(folder / "m.safetensors"), namespace)
    return namespace["load_pruned"]


def test_shared_tensors_stay_shared(tmp_path: Path) -> None:
    model = loaded(tmp_path)(NETS["shared"].make(), tmp_path / "m.safetensors")
    assert model.bias is model.up.bias is model.again.bias


def test_a_model_on_the_meta_device(tmp_path: Path) -> None:
    with torch.device("meta"):
        fresh = NETS["shared"].build()
    model = loaded(tmp_path)(fresh, tmp_path / "m.safetensors")
    assert {p.device.type for p in model.parameters()} == {"cpu"}


def test_it_names_the_file_and_is_short(tmp_path: Path) -> None:
    secateur.save(pruned("shared"), tmp_path / 'odd "name".safetensors')
    source = loader_source(tmp_path / 'odd "name".safetensors')
    assert 'odd \\"name\\".safetensors")' in source
    assert len(source.splitlines()) < 180
    assert "import secateur" not in source
    assert "from secateur" not in source
    assert compile(source, "loader.py", "exec")


def test_the_module_that_is_exported_reads_the_format_that_is_written() -> None:
    assert exported_module.FORMAT == FORMAT


def test_a_file_that_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(FileError, match=r"no file .*m\.safetensors"):
        loader_source(tmp_path / "m.safetensors")


def rewritten(path: Path, change: Callable[[dict[str, torch.Tensor], dict[str, str], list[Any]], None]) -> None:
    """The file after a change of its tensors, metadata or the attributes of its first plan."""
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    tensors, plans = load_file(path), json.loads(metadata["secateur_plans"])
    change(tensors, metadata, plans[0]["attributes"])
    save_file(tensors, path, {**metadata, "secateur_plans": json.dumps(plans)})


REFUSED: dict[str, tuple[Callable[[Any, Any, Any], object], str]] = {
    "newer": (
        lambda t, m, a: m.update(secateur_format="2"),
        "m.safetensors is of secateur format 2, this loader reads 1",
    ),
    "missing": (lambda t, m, a: t.pop("c.bias"), r"it lacks \['c.bias'\], the model lacks \[\]"),
    "unknown": (lambda t, m, a: t.update(z=torch.ones(1)), r"it lacks \[\], the model lacks \['z'\]"),
    "shape": (lambda t, m, a: t.update({"c.bias": torch.ones(9)}), r"c.bias is \(9,\) there, \(5,\) here"),
    "dunder": (lambda t, m, a: a.insert(0, ["a", "__class__", None, 1, 2]), "a.__class__ is 1 there, None here"),
    "no module": (lambda t, m, a: a.insert(0, ["q", "size", None, 1, 2]), "q.size is 1 there, None here"),
    "other value": (lambda t, m, a: a.insert(0, ["a", "in_features", None, 1, 2]), "a.in_features is 1 there, 6 here"),
    "no integer": (lambda t, m, a: a.insert(0, ["a", "in_features", None, 6, "x"]), "a.in_features is 6 there, 6 here"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_the_loader_refuses(name: str, tmp_path: Path) -> None:
    change, message = REFUSED[name]
    load_pruned = loaded(tmp_path)
    rewritten(tmp_path / "m.safetensors", change)
    model = NETS["shared"].make()
    before = [id(p) for p in model.parameters()]
    with pytest.raises(ValueError, match=message):
        load_pruned(model, tmp_path / "m.safetensors")
    assert [id(p) for p in model.parameters()] == before
