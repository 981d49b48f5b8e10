"""`secateur verify`: prove that a saved run is the cut of its original weights."""

from __future__ import annotations

import json
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer
from typer import Option

from secateur.cli.command import CommandResult
from secateur.cli.options import ModelOptions
from secateur.cli.origin import Loaded, ModelOrigin, load_any, loaded
from secateur.cli.progress import working
from secateur.cli.runs import MODEL, RunFile, read_run
from secateur.cli.saving import compare
from secateur.errors import FileError

if TYPE_CHECKING:
    from torch import nn

    from secateur.plan.plan import Plan
    from secateur.proof.verification import Verification

# ruff: noqa: UP045


def verify(
    run: Annotated[str, typer.Argument(metavar="RUN", help="The --out folder of prune, or of mask --cut-dead.")],
    weights: Annotated[
        Optional[Path], Option(metavar="FILE", help="The original weights, if the file has moved.")
    ] = None,
    shape: Annotated[
        Optional[str], Option("--input", metavar="SHAPE", help="Shape of another example input, as 1x3x224x224.")
    ] = None,
    device: Annotated[Optional[str], Option(help="cpu, cuda, cuda:1, ... Default: cuda if available.")] = None,
    threads: Annotated[Optional[int], Option(min=1, help="Threads that PyTorch may use on the CPU.")] = None,
) -> CommandResult:
    """Prove that a cut is right: the saved model equals the original with the cut units silenced.

    secateur verify run/small
    """
    saved = read_run(Path(run))
    options = ModelOptions(run, input=shape or saved.input, device=device, threads=threads)
    original = _original(saved, options, weights)
    plan = _plan_of(saved)
    proof = _proof(saved, original, plan)
    return CommandResult({"run": run, **proof.as_dict()}, str(proof), proof.passed)


@dataclass(frozen=True)
class ProofResult:
    """The proof of the cut, whether the saved file is that cut, and whether it survives another save and load."""

    laws: Verification
    saved: str | None
    """How the saved model differs from the cut (in its structure, if its weights changed); None if it does not."""
    again: str | None
    """How the saved model differs from itself after another save and load; None if it does not."""
    finetuned: bool

    @property
    def passed(self) -> bool:
        return self.laws.passed and self.saved is None and self.again is None

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {
            "passed": self.passed,
            "laws": self.laws.as_dict(),
            "finetuned": self.finetuned,
            "saved_differs": self.saved,
            "round_trip_differs": self.again,
        }

    def __str__(self) -> str:
        changed = ["fine-tuned"] * self.finetuned
        if self.laws.recovered:
            changed.insert(0, f"recovered by {', '.join(self.laws.recovered)}")
        cut = (
            f"has the structure of the plan (it was {', '.join(changed)})" if changed else "is the cut of the original"
        )
        return "\n".join(
            [
                told(self.laws),
                f"FAILED: the saved model is not what the plan says: {self.saved}" if self.saved else f"the file {cut}",
                f"FAILED: saved and loaded again, the model differs: {self.again}"
                if self.again
                else "round trip: saved and loaded again, the model has identical outputs",
            ]
        )


def told(verification: Verification) -> str:
    """Return the result of a verification, with what to do if the cut is wrong."""
    wrong = "the pruned model is not what the plan says; please report this model\n" if verification.wrong else ""
    return f"{wrong}{verification}"


def _original(run: RunFile, options: ModelOptions, weights: Path | None) -> Loaded:
    noted = run.original
    if weights is None:
        noted.check()
    origin = ModelOrigin(run.spec, run.args, weights or noted.path, options.input, run.seed)
    return loaded(origin, origin.load(), options)


def _plan_of(run: RunFile) -> Plan:
    """Return the last plan of the saved file. Raises `FileError` if run.json has another one."""
    from secateur.files.model_file import read_plans
    from secateur.plan.plan import Plan

    plans = read_plans(run.model)
    noted = Plan.from_json(json.dumps(run.document["plan"]))
    if not plans or plans[-1] != noted:
        raise FileError(f"{run.folder}: run.json and {MODEL} are not of the same run; make the run again")
    return noted


def _proof(run: RunFile, original: Loaded, plan: Plan) -> ProofResult:
    from secateur.anatomy.structure import difference
    from secateur.apply import cut
    from secateur.proof.verify import verify as prove

    with working("loading the saved model"):
        saved = _fresh(original, run.model)
        again = compare(saved, _round_trip(original, saved), original.inputs)
    dense, saved = _bare(original.model), _bare(saved)
    small = cut(dense, plan).eval()
    with working("verifying in float64"):
        laws = prove(dense, saved if plan.recovery else small, plan, original.inputs)
    with working("comparing it with the cut"):
        changed = run.finetuned or plan.recovery
        differs = difference(saved, small) if changed else compare(small, saved, original.inputs)
    return ProofResult(laws, differs, again, run.finetuned)


def _fresh(original: Loaded, path: Path) -> nn.Module:
    return load_any(original.origin.build(), path).to(original.device).eval()


def _bare(model: nn.Module) -> nn.Module:
    """Make the zeros of masks permanent, since the plan of a file uses the names of weights without masks."""
    from secateur.anatomy.masked import worn
    from secateur.masks import masks_of

    if worn(model):
        masks_of(model).harden()
    return model


def _round_trip(original: Loaded, saved: nn.Module) -> nn.Module:
    from secateur.files.model_file import save

    with tempfile.TemporaryDirectory() as folder:
        save(saved, Path(folder, MODEL))
        return _fresh(original, Path(folder, MODEL))
