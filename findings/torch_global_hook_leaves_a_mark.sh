#!/usr/bin/env bash
# torch 2.14.1: a global forward hook that was registered with keywords stays in a table of torch after `remove()`.
#
# Expected: the handle's `remove()` leaves the process as it was before the hook was registered.
# Seen: the id of the hook stays in `_global_forward_hooks_with_kwargs` for good. The same hook on a module
# (`module.register_forward_hook(..., with_kwargs=True)`) takes its mark away.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install -qq --disable-pip-version-check torch==2.14.1 numpy
"$folder/venv/bin/python" - <<'PYTHON'
import torch
from torch import nn
from torch.nn.modules import module as tables

seen = []
for number in range(3):
    handle = tables.register_module_forward_hook(lambda m, args, kwargs, out: seen.append(m), with_kwargs=True)
    nn.Linear(2, 2)(torch.ones(1, 2))
    handle.remove()
left = dict(tables._global_forward_hooks_with_kwargs)
print("torch", torch.__version__, "calls seen:", len(seen), "left after three hooks were removed:", left)
assert len(left) == 3 and not tables._global_forward_hooks

layer = nn.Linear(2, 2)
layer.register_forward_hook(lambda m, args, kwargs, out: None, with_kwargs=True).remove()
print("left on a module:", dict(layer._forward_hooks_with_kwargs))
assert not layer._forward_hooks_with_kwargs
PYTHON
