"""From the argument MODEL to a model: how it is built, where its weights are, and its example input.

An origin produces the same model each time it is loaded; a run stores its origin.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from secateur.cli.options import ModelOptions
from secateur.cli.runs import MODEL, RUN, RunFile, read_run
from secateur.errors import InputError, nearest

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

LIBRARIES = {"torchvision": "1x3x224x224", "timm": "1x3x224x224"}
"""A library that may precede the colon of a MODEL -> the input that most of its models take."""


@dataclass(frozen=True)
class ModelOrigin:
    """How a model is made: `spec` and `args` determine its architecture, `weights` its parameters.

    Without `weights`, the parameters are those of the constructor, drawn with `seed`. `input` is as a run stores it.
    """

    spec: str
    args: Mapping[str, Any] = field(default_factory=dict)
    weights: Path | None = None
    input: str | None = None
    seed: int = 0

    def build(self) -> nn.Module:
        """Return the model as its constructor leaves it."""
        from secateur.anatomy.running import seeded
        from secateur.models import build_model

        with seeded(self.seed):
            return build_model(self.spec, self.args)

    def load(self) -> nn.Module:
        """Return the model with its weights, in evaluation mode; it is cut if a pruned model was saved."""
        model = self.build()
        if self.weights is not None:
            model = load_any(model, self.weights)
        return model.eval()

    @property
    def name(self) -> str:
        """The name of the model in messages."""
        return self.spec


def load_any(model: nn.Module, path: Path) -> nn.Module:
    """Return `model` with the weights of any supported file; if that holds a pruned model, `model` is cut first."""
    from secateur.files.model_file import load
    from secateur.models import load_weights

    if is_saved(path):
        return load(model, path)
    load_weights(model, path)
    return model


def is_saved(path: Path) -> bool:
    """Return whether `secateur.save` wrote this file, judging by its header."""
    from safetensors import SafetensorError, safe_open

    if path.suffix != ".safetensors" or not path.is_file():
        return False
    try:
        with safe_open(path, "pt") as file:
            return any(key.startswith("secateur") for key in file.metadata() or ())
    except (SafetensorError, OSError):
        return False  # the code that reads the file reports the error


def origin_of(options: ModelOptions, seed: int = 0) -> ModelOrigin:
    """Return the origin that the options name. Raises `InputError` or `FileError` if there is no such model or file."""
    run = _run_of(options.model)
    if run is None:
        origin = _from_spec(options, seed)
    elif options.model_arg:
        raise InputError(f"{options.model} is a saved run and has its arguments stored; leave out --model-arg")
    else:
        origin = ModelOrigin(run.spec, run.args, run.model, run.input, run.seed)
    if options.weights is not None:
        origin = replace(origin, weights=options.weights.resolve())
    return replace(origin, input=options.input or origin.input)


def _run_of(model: str) -> RunFile | None:
    path = Path(model)
    if path.is_dir() or path.name in (MODEL, RUN):
        return read_run(path)
    if path.suffix in (".safetensors", ".pt", ".pth", ".bin"):
        raise InputError(
            f"{model} may hold weights, but they do not say how the model is built\n"
            f"give both: path/file.py:factory --weights {model}"
        )
    if ":" not in model:
        near = nearest(path.name, (p.name for p in path.parent.glob("*") if p.is_dir()))
        raise InputError(
            f"{model!r} is not a model or the folder of a run{near}\n"
            "write torchvision:NAME, timm:NAME, path/file.py:factory, or the --out folder of prune, mask or train"
        )
    return None


def _from_spec(options: ModelOptions, seed: int) -> ModelOrigin:
    from secateur.models import parse_args

    spec = options.model
    if spec.partition(":")[0] not in LIBRARIES:
        path, _, factory = spec.rpartition(":")
        spec = f"{Path(path).resolve()}:{factory}" if path.endswith(".py") else spec
    return ModelOrigin(spec, parse_args(options.model_arg), seed=seed)


@dataclass(frozen=True)
class Loaded:
    """A model with its weights, and the inputs that it is called with."""

    origin: ModelOrigin
    model: nn.Module
    input: str
    inputs: tuple[Tensor, ...]
    device: torch.device


def open_model(options: ModelOptions, seed: int = 0, example: Iterable[Any] = ()) -> Loaded:
    """Return the model that the options name, on its device; `example` are batches that show its input."""
    origin = origin_of(options, seed)
    return loaded(origin, origin.load(), options, next(iter(example), None))


def loaded(origin: ModelOrigin, model: nn.Module, options: ModelOptions, batch: Any = None) -> Loaded:
    """Return the model on its device, with its example inputs."""
    from secateur.models import parse_input

    device = set_up(options)
    text = origin.input or _shape_of(batch) or _usual_input(origin.spec, model)
    inputs = tuple(x.to(device) for x in parse_input(text))
    return Loaded(origin, model.to(device), text, inputs, device)


def set_up(options: ModelOptions) -> torch.device:
    """Set the number of threads and return the device. Raises `InputError` if the device is not available."""
    import torch

    if options.threads:
        torch.set_num_threads(options.threads)
    wanted = options.device or ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        return torch.zeros(1, device=wanted).device
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        first = str(error).strip().splitlines()[0]
        raise InputError(f"--device {wanted}: {first}\nleave it out, or write --device cpu") from error


def _shape_of(batch: Any) -> str | None:
    """Return the inputs of a batch as the string of --input, for one example."""
    import torch

    inputs = batch[0] if batch is not None else None
    inputs = list(inputs) if isinstance(inputs, (tuple, list)) else [inputs]
    tensors = [x for x in inputs if isinstance(x, torch.Tensor) and x.dim() and x.numel()]
    if not tensors or len(tensors) < len(inputs):
        return None
    return ",".join("x".join(map(str, (1, *x.shape[1:]))) + _dtype(x) for x in tensors)


def _dtype(tensor: Tensor) -> str:
    return "" if tensor.is_floating_point() else f":{str(tensor.dtype).removeprefix('torch.')}"


def _usual_input(spec: str, model: nn.Module) -> str:
    config = getattr(model, "default_cfg", None) or {}
    if size := config.get("input_size"):
        return "x".join(map(str, (1, *size)))
    library = spec.partition(":")[0]
    if library not in LIBRARIES:
        raise InputError(
            f"{spec} needs an example input\ngive its shape: --input 1x3x224x224, or 1x16:int64 for tokens"
        )
    return LIBRARIES[library]
