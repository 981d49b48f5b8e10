#!/usr/bin/env bash
# torch 2.14.1: what a TorchDispatchMode sees of the same call depends on whether gradients are off by no_grad or by
# inference_mode.
#
# Expected: both only turn gradients off; a mode that counts aten.convolution and aten.addmm counts the same.
# Seen: under no_grad composite ops reach the mode taken apart (aten.convolution, aten.addmm), under inference_mode whole
# (aten.conv2d, aten.linear), so that a table of ops that was written for one misses every op of the other.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install -qq --disable-pip-version-check torch==2.14.1 numpy
"$folder/venv/bin/python" - <<'PYTHON'
import torch
import torch.nn.functional as F
from torch.utils._python_dispatch import TorchDispatchMode


class Seen(TorchDispatchMode):
    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.names.append(str(func))
        return func(*args, **(kwargs or {}))


image, kernel, rows, weight, bias = (torch.ones(s) for s in ((1, 3, 8, 8), (4, 3, 3, 3), (2, 3), (4, 3), (4,)))
found = {}
for context in (torch.no_grad, torch.inference_mode):
    with context(), Seen() as seen:
        F.conv2d(image, kernel)
        F.linear(rows, weight, bias)
    found[context.__name__] = seen.names
    print("torch", torch.__version__, context.__name__, seen.names)
assert "aten.convolution.default" in found["no_grad"] and "aten.addmm.default" in found["no_grad"]
assert found["inference_mode"] == ["aten.conv2d.default", "aten.linear.default"]
PYTHON
