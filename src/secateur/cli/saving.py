"""Saving a model, and checking that the file restores it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from secateur.cli.command import CheckFailed, plain
from secateur.cli.origin import Loaded, load_any
from secateur.cli.progress import working
from secateur.cli.runs import FORMAT, MODEL, RUN, versions

if TYPE_CHECKING:
    from torch import Tensor, nn

ROUNDING = 64
"""How many units in the last place two equal models may differ by: their memory may be laid out differently."""


def save_checked(model: nn.Module, loaded: Loaded, folder: Path) -> int:
    """Write the model into `folder`, load it into a freshly built one and compare. Return the size in bytes.

    Raises `CheckFailed` if weights differ at all, or outputs by more than rounding.
    """
    from secateur.files.model_file import save

    with working("saving"):
        save(model.eval(), folder / MODEL)
        again = load_any(loaded.origin.build(), folder / MODEL).to(loaded.device).eval()
        difference = compare(model, again, loaded.inputs)
    if difference is not None:
        raise CheckFailed(f"the saved file does not restore the model: {difference}\nnothing was written")
    return (folder / MODEL).stat().st_size


def compare(a: nn.Module, b: nn.Module, inputs: tuple[Tensor, ...]) -> str | None:
    """Return how two models differ: in any bit of a tensor, or in outputs by more than rounding; None if equal."""
    import torch

    ours, theirs = a.state_dict(), b.state_dict()
    if ours.keys() != theirs.keys():
        return f"{sorted(ours.keys() ^ theirs.keys())[0]} is in one of them only"
    for name, tensor in ours.items():
        if not _same(tensor, theirs[name], exact=True):
            return f"{name} differs"
    with torch.no_grad():
        pairs = zip(_outputs(a, inputs), _outputs(b, inputs), strict=True)
        different = [i for i, (x, y) in enumerate(pairs) if not _same(x, y, exact=False)]
    return f"output {different[0]} differs" if different else None


def _outputs(model: nn.Module, inputs: tuple[Tensor, ...]) -> list[Tensor]:
    import torch

    from secateur.anatomy.running import seeded
    from secateur.base.nested import tensors_in

    with seeded(0), torch.no_grad():
        return tensors_in(model(*inputs))


def _same(x: Tensor, y: Tensor, *, exact: bool) -> bool:
    import torch

    if x.shape != y.shape or x.dtype != y.dtype:
        return False
    if not x.is_floating_point():
        return torch.equal(x, y)
    near = 0.0 if exact else ROUNDING * torch.finfo(x.dtype).eps
    scale = float(x.abs().nan_to_num().max()) if x.numel() else 0.0
    return torch.allclose(x, y.to(x.device), rtol=0, atol=near * scale, equal_nan=True)


def describe(loaded: Loaded, kind: str) -> dict[str, Any]:
    """Return the entries that every run.json begins with."""
    origin = loaded.origin
    return {
        "format": FORMAT,
        "kind": kind,
        "versions": versions(),
        "model": {"spec": origin.spec, "args": dict(origin.args), "seed": origin.seed},
        "input": loaded.input,
        "weights": str(origin.weights) if origin.weights else None,
    }


def write_run(folder: Path, document: Mapping[str, Any]) -> None:
    """Write run.json into a folder."""
    (folder / RUN).write_text(json.dumps(plain(document), indent=1, allow_nan=False) + "\n", encoding="utf-8")
