"""Building a model from a string: `torchvision:NAME`, `timm:NAME` or `path/file.py:factory`. Weights are random.

Pretrained weights are not downloaded; load them from a file with `load_weights`.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from torch import nn

from secateur.base.table import Table
from secateur.errors import InputError, nearest
from secateur.models.functions import check_arguments, load_function


def build_model(spec: str, model_args: Mapping[str, object] | None = None) -> nn.Module:
    """Build a model with random weights, in training mode as its constructor left it.

    `spec` is `torchvision:NAME`, `timm:NAME` or `path/file.py:factory`; `model_args` goes to the constructor. Raises
    `InputError` for an unknown name (with the nearest ones), arguments that the constructor rejects, or a library
    that is not installed.

    >>> type(build_model("torchvision:resnet18", {"num_classes": 10})).__name__  # doctest: +SKIP
    'ResNet'
    """
    source, _, name = spec.partition(":")
    build = SOURCES.get(source, _from_file)
    model = build(name if source in SOURCES else spec, dict(model_args or {}))
    if not isinstance(model, nn.Module):
        raise InputError(f"{spec} returned {type(model).__name__}, not a torch.nn.Module; the factory must return one")
    return model


def parse_args(texts: Iterable[str]) -> dict[str, object]:
    """Return `NAME=VALUE` strings as keyword arguments; a value is JSON if it parses as such, else a string.

    Raises `InputError` for a string without `=`, a name that is not an identifier, or a name given twice.

    >>> parse_args(["num_classes=10", "flag=true", "act=relu", "sizes=[1, 2]"])
    {'num_classes': 10, 'flag': True, 'act': 'relu', 'sizes': [1, 2]}
    """
    arguments: dict[str, object] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name.isidentifier():
            raise InputError(f"{text!r} is not an argument; write NAME=VALUE, as in num_classes=10")
        if name in arguments:
            raise InputError(f"argument {name!r} is given twice: {arguments[name]!r} and {value!r}; keep one")
        arguments[name] = _parse_value(value)
    return arguments


def _parse_value(text: str) -> object:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


def _from_torchvision(name: str, arguments: dict[str, Any]) -> object:
    try:
        from torchvision.models import get_model, list_models
    except ImportError as error:
        raise _not_installed("torchvision", "vision") from error
    _check_name(name, list_models(), "torchvision")
    # A segmentation model downloads its backbone's weights by default.
    offline: dict[str, Any] = {"weights": None} | ({"weights_backbone": None} if _has_backbone(name) else {})
    return _call(lambda: get_model(name, **(offline | arguments)), f"torchvision:{name}")


def _has_backbone(name: str) -> bool:
    from torchvision.models import get_model_builder

    return "weights_backbone" in inspect.signature(get_model_builder(name)).parameters


def _from_timm(name: str, arguments: dict[str, Any]) -> object:
    try:
        import timm
    except ImportError as error:
        raise _not_installed("timm", "timm") from error
    # "resnet18.a1_in1k" is architecture and weights in one name.
    _check_name(name.partition(".")[0], timm.list_models(), "timm")
    given: dict[str, Any] = {"pretrained": False} | arguments
    return _call(lambda: timm.create_model(name, **given), f"timm:{name}")


def _from_file(spec: str, arguments: dict[str, Any]) -> object:
    if ".py:" not in spec:
        raise InputError(f"{spec!r} is not a model; write torchvision:NAME, timm:NAME or path/file.py:factory")
    factory = load_function(spec)
    check_arguments(factory, arguments, spec)
    return _call(lambda: factory(**arguments), spec)


SOURCES: Table[str, Callable[[str, dict[str, Any]], object]] = Table(
    "sources of models named", {"torchvision": _from_torchvision, "timm": _from_timm}
)
"""The part before the colon -> a function (name, arguments) -> model."""


def _check_name(name: str, known: Iterable[str], library: str) -> None:
    names = list(known)
    if name not in names:
        raise InputError(f"{library} has no model {name!r}{nearest(name, names)}")


def _call(build: Callable[[], object], where: str) -> object:
    try:
        return build()
    except InputError:
        raise
    except Exception as error:
        raise InputError(f"{where} cannot be built: {type(error).__name__}: {error}") from error


def _not_installed(library: str, extra: str) -> InputError:
    return InputError(f"{library} is not installed; install it with: pip install 'secateur[{extra}]'")
