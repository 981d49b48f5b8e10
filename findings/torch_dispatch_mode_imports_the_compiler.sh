#!/usr/bin/env bash
# torch 2.14.1: the first op under a TorchDispatchMode of one's own imports the compiler, which takes seconds.
#
# Expected: a mode that hands every op on costs some microseconds an op.
# Seen: the first call imports torch._dynamo and sympy: when the class of a mode is made, its handler is wrapped so that
# torch.compile skips it. A class whose method `_should_skip_dynamo` returns False is left alone, and imports nothing.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install -qq --disable-pip-version-check torch==2.14.1 numpy
cat > "$folder/mode.py" <<'PYTHON'
import sys
import time

import torch
from torch.utils._python_dispatch import TorchDispatchMode


class Mode(TorchDispatchMode):
    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        return func(*args, **(kwargs or {}))


class Quiet(TorchDispatchMode):
    @classmethod
    def _should_skip_dynamo(cls):
        return False

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        return func(*args, **(kwargs or {}))


kind = {"plain": Mode, "quiet": Quiet}[sys.argv[1]]
x, w = torch.ones(2, 3), torch.ones(4, 3)
started = time.perf_counter()
with kind():
    torch.nn.functional.linear(x, w)
imported = "torch._dynamo" in sys.modules
print(f"torch {torch.__version__}, {sys.argv[1]} mode: {time.perf_counter() - started:.2f} s, compiler imported: {imported}")
sys.exit(imported != (sys.argv[1] == "plain"))
PYTHON
"$folder/venv/bin/python" "$folder/mode.py" plain
"$folder/venv/bin/python" "$folder/mode.py" quiet
