"""Load a model that secateur has pruned and saved. Needs torch and safetensors, not secateur.

    model = load_pruned(build_model(), "model.safetensors")

`build_model()` returns the model as it was before pruning. Nothing is unpickled and no code is read from the file.
"""

from __future__ import annotations

# owning: begin
import copy

# owning: end
import json
from collections.abc import Collection, Mapping
from typing import Any, TypeAlias

import torch
from safetensors import safe_open
from torch import nn

from secateur.anatomy.bypass import Bypass
from secateur.anatomy.slots import swapped
from secateur.base.names import inside

FORMAT = 1
Named: TypeAlias = "dict[str, Any]"


def load_pruned(model: nn.Module, path: Any) -> nn.Module:
    """Turn `model`, freshly built as it was before pruning, into the one saved at `path`, and return it."""
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata() or {}
        stored = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
    if metadata.get("secateur_format") != str(FORMAT):
        raise ValueError(f"{path} is of secateur format {metadata.get('secateur_format')}, this loader reads {FORMAT}")
    plans = json.loads(metadata["secateur_plans"])
    aliases = json.loads(metadata["secateur_aliases"])
    for name in json.loads(metadata.get("secateur_masks", "{}")):  # one bit per weight, the highest bit first
        weight, bits = stored[aliases.get(name, name)], stored.pop(f"{name}.secateur_mask").unsqueeze(1)
        kept = (bits & torch.tensor([128, 64, 32, 16, 8, 4, 2, 1], dtype=torch.uint8)).flatten()
        weight[(kept[: weight.numel()] == 0).reshape(weight.shape)] = 0  # the mask becomes part of the weight
    sources = {**{name: name for name in stored}, **aliases}
    # lists: begin
    plans, closed, picks = _built(plans)
    sources = {_opened(name, closed): source for name, source in sources.items()}
    # lists: end
    removed = {name: gives for plan in plans for name, gives in plan.get("removed", {}).items()}
    changes = [c for plan in plans for c in plan["attributes"] if not inside(c[0], removed)]
    added = [a for plan in plans for a in plan.get("added", ()) if not inside(a[0], removed)]
    fresh = _fresh(model, added, sources, stored)
    places = {name: place for name, place in _places(model).items() if not inside(name, removed)}
    _check(model, places, {n: s for n, s in sources.items() if n not in fresh}, stored, changes, removed)
    # lists: begin
    _check_lists(model, closed, picks)
    # lists: end
    for name in sorted(removed):
        holder, _, leaf = name.rpartition(".")
        gives = tuple(removed[name]) if isinstance(removed[name], list) else removed[name]
        bypass = nn.Identity() if gives is None else Bypass(gives)
        model.get_submodule(holder)._modules[leaf] = bypass.train(model.get_submodule(name).training)
    _put(model, places, fresh, sources, stored)
    # owning: begin
    held = {name.partition(".")[0] for _, name, *_ in changes if "." in name}
    # owning: end
    # lists: begin
    held |= {name.partition(".")[0] for _, name in picks if "." in name}
    # lists: end
    # owning: begin
    _own(model, held)
    # owning: end
    modules = dict(model.named_modules(remove_duplicate=False))
    for module, name, index, _, value in changes:
        table, leaf = _attributes(modules[module], name)
        old = table[leaf]  # of a dict, or of a subclass that may refuse to be written, or may have attributes too
        dict.__setitem__(table, leaf, value if index is None else type(old)([*old[:index], value, *old[index + 1 :]]))
        # owning: begin
        if leaf in getattr(table, "__dict__", {}):
            vars(table)[leaf] = table[leaf]
        # owning: end
    # lists: begin
    _close(modules, closed, picks)
    # lists: end
    return model


def _put(model: nn.Module, places: Named, fresh: Named, sources: Named, stored: Named) -> None:
    """Put the stored tensors into the model, and into containers of its modules that hold the same tensors."""
    made, replaced, olds = {}, {}, []  # the old tensors stay alive, so that no other tensor gets their id
    for name, source in sources.items():
        table, leaf = places[name] if name in places else fresh[name][:2]
        old = table[leaf] if name in places else fresh[name][2]
        new = stored[source].to("cpu" if old.is_meta else old.device)
        if name in fresh or isinstance(old, nn.Parameter):
            new = made.setdefault(source, nn.Parameter(new, requires_grad=old.requires_grad))
        else:
            new = made.setdefault((source, "plain"), new)
        table[leaf] = new
        if name in places:
            replaced[id(old)] = new
            olds.append(old)
    for module in model.modules():
        for name, value in list(vars(module).items()):
            if name not in ("_parameters", "_buffers", "_modules"):
                vars(module)[name] = swapped(value, replaced, 3)


# owning: begin
def _own(model: nn.Module, names: Collection[str]) -> None:
    """Replace the objects that modules hold under these names by copies: other models may hold the same ones."""
    kept = {id(one): one for one in (*model.modules(), *(table[leaf] for table, leaf in _places(model).values()))}
    memo = dict(kept)
    for module in model.modules():
        for name in vars(module).keys() & names:
            try:
                copy.deepcopy(vars(module)[name], memo)
            except Exception:  # noqa: BLE001 - an object that cannot be copied is changed in place
                return
    for module in model.modules():
        for name, value in list(vars(module).items()):
            if id(value) in memo and id(value) not in kept:
                vars(module)[name] = memo[id(value)]


# owning: end
# lists: begin
def _built(plans: list[Any]) -> tuple[list[Any], Named, dict[Any, Any]]:
    """Return plans with the names of the model as built, members to drop from its lists, and entries to keep."""
    closed: Named = {}
    picks, found = {}, []
    for plan in plans:
        closing = plan.get("renumbered", {"lists": [], "numbers": [], "picks": []})
        changes = []
        for path, name, index, *values in (*plan["attributes"], *closing["numbers"]):
            path = _opened(path, closed)
            index = picks[path, name][1][index] if index is not None and (path, name) in picks else index
            changes.append([path, name, index, *values])
        for path, name, old, kept in closing["picks"]:
            place = _opened(path, closed), name
            earlier = picks.get(place)
            picks[place] = (old, kept) if earlier is None else (earlier[0], [earlier[1][i] for i in kept])
        removed = {_opened(name, closed): gives for name, gives in plan.get("removed", {}).items()}
        added = [[_opened(a, closed), _opened(b, closed), dim] for a, b, dim in plan.get("added", ())]
        lists = [_opened(name, closed) for name in closing["lists"]]
        for name in removed:
            holder, _, place = name.rpartition(".")
            if holder in lists:
                closed.setdefault(holder, set()).add(int(place))
        found.append({"removed": removed, "attributes": changes, "added": added})
    return found, closed, picks


def _opened(name: str, closed: Named) -> str:
    """Return the name that a module or tensor of the smaller model has in the model as built."""
    parts = name.split(".")
    for i in range(1, len(parts)):
        if parts[i].isdecimal():
            for place in sorted(closed.get(".".join(parts[:i]), ())):
                parts[i] = str(int(parts[i]) + (place <= int(parts[i])))
    return ".".join(parts)


def _check_lists(model: nn.Module, closed: Named, picks: dict[Any, Any]) -> None:
    modules = dict(model.named_modules(remove_duplicate=False))
    for name in closed:
        members = modules[name]._modules if name in modules else {"": None}
        if list(members) != [str(place) for place in range(len(members))]:
            raise ValueError(f"the file is of another model: it closes gaps in {name!r}, which is not a list here")
    for (path, name), (old, _) in picks.items():
        table, leaf = _attributes(modules[path], name) if path in modules else ({}, "")
        value: Any = table.get(leaf) if not any(part.startswith("_") for part in name.split(".")) else None
        if type(value) not in (tuple, list) or list(value) != old:
            raise ValueError(f"the file is of another model: {path}.{name} is {old} there, {value} here")


def _close(modules: Mapping[str, Any], closed: Named, picks: dict[Any, Any]) -> None:
    for holder, gone in closed.items():
        members = modules[holder]._modules
        left = [module for place, module in members.items() if int(place) not in gone]
        members.clear()
        members.update({str(place): module for place, module in enumerate(left)})
    for (path, name), (_, kept) in picks.items():
        table, leaf = _attributes(modules[path], name)
        new = type(table[leaf])(table[leaf][i] for i in kept)
        dict.__setitem__(table, leaf, new)
        if leaf in getattr(table, "__dict__", {}):
            vars(table)[leaf] = new


# lists: end
def _attributes(module: nn.Module, dotted: str) -> tuple[Named, str]:
    """Return the dict that holds an attribute of a module, or of an object below it, and its key there."""
    *way, leaf = dotted.split(".")
    table: Any = vars(module)
    for name in way:
        held = table.get("_internal_dict" if name == "config" and name not in table else name)  # of diffusers
        table = held if isinstance(held, dict) else getattr(held, "__dict__", None)
        if table is None or isinstance(held, nn.Module):
            raise ValueError(f"{dotted} is not held by a plain object here; load this file with secateur.load")
    return table, leaf


def _places(model: nn.Module) -> Named:
    """Return, for each tensor of the model, the dict that holds it and its key there."""
    return {
        f"{path}.{leaf}" if path else leaf: (table, leaf)
        for path, module in model.named_modules(remove_duplicate=False)
        for table in (module._parameters, module._buffers, vars(module))
        for leaf, value in table.items()
        if isinstance(value, torch.Tensor)
    }


def _fresh(model: nn.Module, added: list[Any], sources: Named, stored: Named) -> Named:
    """Return, for parameters that the model was built without, their place and a tensor of the same kind."""
    places, modules, found = _places(model), dict(model.named_modules(remove_duplicate=False)), {}
    for name, like, dim in added:
        path, _, leaf = name.rpartition(".")
        table = modules[path]._parameters if path in modules else {}
        if leaf not in table or {name, like} & {*places, *found} != {like}:
            raise ValueError(f"the file is of another model: it adds {name} like {like}, the model has no place for it")
        whole = stored.get(sources[like]) if like in sources else None
        shape = None if name not in sources else tuple(stored[sources[name]].shape)
        if shape is None or (whole is not None and shape != tuple(whole.shape)[dim : dim + 1]):
            raise ValueError(f"the file is of another model: it adds {name} of shape {shape}, like {like}[{dim}]")
        table_of, leaf_of, *old = places[like] if like in places else found[like]
        place = (table, leaf, *(old or [table_of[leaf_of]]))
        found.update({f"{p}.{leaf}" if p else leaf: place for p, m in modules.items() if m is modules[path]})
    return found


def _check(model: nn.Module, places: Named, sources: Named, stored: Named, changes: list[Any], removed: Named) -> None:
    """Raise `ValueError` for a file of another model, before anything is changed."""
    modules = dict(model.named_modules(remove_duplicate=False))
    if strange := [name for name in removed if not name or name not in modules]:
        raise ValueError(f"the file is of another model: the model has no module {strange[0]!r}")
    missing = [name for name in model.state_dict() if name not in sources and not inside(name, removed)]
    unknown = [name for name in sources if name not in places]
    if missing or unknown:
        raise ValueError(f"the file is of another model: it lacks {missing[:5]}, the model lacks {unknown[:5]}")
    for name, source in sources.items():
        table, leaf = places[name]
        old, new = tuple(table[leaf].shape), tuple(stored[source].shape)
        if len(old) != len(new) or any(a < b for a, b in zip(old, new, strict=True)):
            raise ValueError(f"the file is of another model: {name} is {new} there, {old} here")
    now: dict[Any, Any] = {}
    for path, name, index, before, after in changes:
        table, leaf = _attributes(modules[path], name) if path in modules else ({}, "")
        value = None if any(part.startswith("_") for part in name.split(".")[:-1]) else table.get(leaf)
        value = value[index] if index is not None and isinstance(value, (tuple, list)) else value
        value = now.get((path, name, index), value)
        if type(value) is not int or type(after) is not int or value != before:
            raise ValueError(f"the file is of another model: {path}.{name} is {before} there, {value} here")
        now[path, name, index] = after
