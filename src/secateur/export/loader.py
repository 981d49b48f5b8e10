"""A loader for pruned models that stands alone, for machines on which secateur is not installed."""

from __future__ import annotations

import inspect
import json
import os

from secateur.anatomy.bypass import Bypass
from secateur.files.model_file import FORMAT, read_plans

_LOADER = '''\
"""Load a model that secateur has pruned and saved. Needs torch and safetensors, not secateur.

    model = load_pruned(build_model(), __FILE__)

`build_model()` gives the model as it was before pruning. Nothing is unpickled and no code is read from the file.
"""

import json

import torch
from safetensors import safe_open
from torch import nn

FORMAT = "__FORMAT__"


__BYPASS__

def load_pruned(model, path):
    """Turn `model`, freshly built as it was before pruning, into the one saved at `path`, and return it."""
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata() or {}
        stored = {name: file.get_tensor(name).clone() for name in file.keys()}
    if metadata.get("secateur_format") != FORMAT:
        raise ValueError(f"{path} is of secateur format {metadata.get('secateur_format')}, this loader reads {FORMAT}")
    plans = json.loads(metadata["secateur_plans"])
    aliases = json.loads(metadata["secateur_aliases"])
    for name in json.loads(metadata.get("secateur_masks", "{}")):  # a bit a weight, the highest first
        weight, bits = stored[aliases.get(name, name)], stored.pop(f"{name}.secateur_mask").unsqueeze(1)
        kept = (bits & torch.tensor([128, 64, 32, 16, 8, 4, 2, 1], dtype=torch.uint8)).flatten()
        weight[(kept[: weight.numel()] == 0).reshape(weight.shape)] = 0  # for good
    sources = {**{name: name for name in stored}, **aliases}
__OPENED__    removed = {name: gives for plan in plans for name, gives in plan.get("removed", {}).items()}
    changes = [c for plan in plans for c in plan["attributes"] if not _inside(c[0], removed)]
    added = [a for plan in plans for a in plan.get("added", ()) if not _inside(a[0], removed)]
    fresh = _fresh(model, added, sources, stored)
    places = {name: place for name, place in _places(model).items() if not _inside(name, removed)}
    _check(model, places, {n: s for n, s in sources.items() if n not in fresh}, stored, changes, removed)
__CHECKED__    for name in sorted(removed):
        holder, _, leaf = name.rpartition(".")
        gives = tuple(removed[name]) if isinstance(removed[name], list) else removed[name]
        training = model.get_submodule(name).training
        bypass = nn.Identity() if gives is None else Bypass(gives)
        model.get_submodule(holder)._modules[leaf] = bypass.train(training)
    made, replaced, olds = {}, {}, []
    for name, source in sources.items():
        table, leaf = places[name] if name in places else fresh[name][:2]
        old, new = table[leaf] if name in places else fresh[name][2], stored[source]
        if name in fresh or isinstance(old, torch.nn.Parameter):
            new = made.setdefault(source, torch.nn.Parameter(new.to(_device(old)), requires_grad=old.requires_grad))
        else:
            new = made.setdefault((source, "plain"), new.to(_device(old)))
        table[leaf] = new
        if name in places:
            replaced[id(old)] = new
            olds.append(old)
    for module in model.modules():
        for name, value in list(vars(module).items()):
            if name not in ("_parameters", "_buffers", "_modules"):
                vars(module)[name] = _swapped(value, replaced)
    modules = dict(model.named_modules(remove_duplicate=False))
__OWN__    for path, name, index, _, value in changes:
        table, leaf = _attributes(modules[path], name)
        if index is None:
            table[leaf] = value
        else:
            old = table[leaf]
            table[leaf] = type(old)([*old[:index], value, *old[index + 1 :]])
__CLOSED__    return model


__OWN_DEF____LISTS__def _swapped(value, replaced, depth=3):
    """The same with new tensors: modules may keep theirs in lists, tuples and dicts, too."""
    if isinstance(value, torch.Tensor):
        return replaced.get(id(value), value)
    if not depth or type(value) not in (dict, list, tuple):
        return value
    held = list(value.values() if type(value) is dict else value)
    made = [_swapped(item, replaced, depth - 1) for item in held]
    if all(a is b for a, b in zip(made, held)):
        return value
    return dict(zip(value, made)) if type(value) is dict else type(value)(made)


def _attributes(module, dotted):
    """The dict that holds an attribute of a module, or of an object below it, and its name there."""
    *way, leaf = dotted.split(".")
    table = vars(module)
    for name in way:
        held = table.get(name)
        table = held if isinstance(held, dict) else getattr(held, "__dict__", None)
        if table is None or isinstance(held, torch.nn.Module):
            raise ValueError(f"{dotted} is kept in no plain object here; load this file with secateur.load")
    return table, leaf


def _inside(name, removed):
    """Whether a name lies in a module that is bypassed."""
    return any(name == module or name.startswith(module + ".") for module in removed)


def _places(model):
    """Where each tensor of the model lies: the dict that holds it, and its name there."""
    return {
        f"{path}.{leaf}" if path else leaf: (table, leaf)
        for path, module in model.named_modules(remove_duplicate=False)
        for table in (module._parameters, module._buffers, vars(module))
        for leaf, value in table.items()
        if isinstance(value, torch.Tensor)
    }


def _fresh(model, added, sources, stored):
    """Where parameters go that the model was built without, by name, and a tensor that each is like."""
    places, modules, found = _places(model), dict(model.named_modules(remove_duplicate=False)), {}
    for name, like, dim in added:
        path, _, leaf = name.rpartition(".")
        table = modules[path]._parameters if path in modules else {}
        if leaf not in table or {name, like} & {*places, *found} != {like}:
            raise ValueError(f"the file is of another model: it adds {name} like {like}, the model has no place for it")
        whole = stored.get(sources.get(like))
        shape = None if name not in sources else tuple(stored[sources[name]].shape)
        if shape is None or (whole is not None and shape != tuple(whole.shape)[dim : dim + 1]):
            raise ValueError(f"the file is of another model: it adds {name} of shape {shape}, like {like}[{dim}]")
        table_of, leaf_of, *old = places[like] if like in places else found[like]
        place = (table, leaf, *(old or [table_of[leaf_of]]))
        found.update({f"{p}.{leaf}" if p else leaf: place for p, m in modules.items() if m is modules[path]})
    return found


def _device(tensor):
    return "cpu" if tensor.is_meta else tensor.device


def _check(model, places, sources, stored, changes, removed):
    """Refuse a file of another model before anything is changed."""
    strange = [name for name in removed if not name or name not in dict(model.named_modules(remove_duplicate=False))]
    if strange:
        raise ValueError(f"the file is of another model: the model has no module {strange[0]!r}")
    missing = [name for name in model.state_dict() if name not in sources and not _inside(name, removed)]
    unknown = [name for name in sources if name not in places]
    if missing or unknown:
        raise ValueError(f"the file is of another model: it lacks {missing[:5]}, the model lacks {unknown[:5]}")
    for name, source in sources.items():
        table, leaf = places[name]
        old, new = tuple(table[leaf].shape), tuple(stored[source].shape)
        if len(old) != len(new) or any(a < b for a, b in zip(old, new)):
            raise ValueError(f"the file is of another model: {name} is {new} there, {old} here")
    modules = dict(model.named_modules(remove_duplicate=False))
    now = {}
    for path, name, index, before, after in changes:
        table, leaf = _attributes(modules[path], name) if path in modules else ({}, "")
        value = table.get(leaf) if not any(part.startswith("_") for part in name.split(".")) else None
        value = value[index] if index is not None and isinstance(value, (tuple, list)) else value
        value = now.get((path, name, index), value)
        if type(value) is not int or type(after) is not int or value != before:
            raise ValueError(f"the file is of another model: {path}.{name} is {before} there, {value} here")
        now[path, name, index] = after
'''

# What a file needs whose plans change objects that modules hold, such as a config.
_OWNING = {
    "import json\n": "import copy\nimport json\n",
    "__OWN__": """\
    _own(model, {name.partition(".")[0] for _, name, *_ in (*changes, *__PICKS__) if "." in name})
""",
    "__OWN_DEF__": '''\
def _own(model, names):
    """Copies of the objects that modules hold under these names: other models may hold the same ones."""
    kept = {id(one): one for one in (*model.modules(), *(table[leaf] for table, leaf in _places(model).values()))}
    memo = dict(kept)
    for module in model.modules():
        for name in names & vars(module).keys():
            try:
                copy.deepcopy(vars(module)[name], memo)
            except Exception:  # it cannot be copied, and is changed as it is
                return
    for module in model.modules():
        for name, value in list(vars(module).items()):
            if id(value) in memo and id(value) not in kept:
                vars(module)[name] = memo[id(value)]


''',
}

# What a file needs whose plans close gaps in lists of layers.
_CLOSING = {
    "__OPENED__": """\
    plans, closed, picks = _built(plans)
    sources = {_opened(name, closed): source for name, source in sources.items()}
""",
    "__CHECKED__": """\
    _check_lists(model, closed, picks)
""",
    "__CLOSED__": """\
    for holder, gone in closed.items():
        members = modules[holder]._modules
        left = [module for place, module in members.items() if int(place) not in gone]
        members.clear()
        members.update({str(place): module for place, module in enumerate(left)})
    for (path, name), (_, kept) in picks.items():
        table, leaf = _attributes(modules[path], name)
        table[leaf] = type(table[leaf])(table[leaf][i] for i in kept)
""",
    "__LISTS__": '''\
def _built(plans):
    """Plans in the names of the model as it is built, what is taken out of its lists, and what stays of attributes."""
    closed, picks, found = {}, {}, []
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


def _opened(name, closed):
    """What the model as it is built calls a module or tensor of the smaller one."""
    parts = name.split(".")
    for i in range(1, len(parts)):
        if parts[i].isdecimal():
            for place in sorted(closed.get(".".join(parts[:i]), ())):
                parts[i] = str(int(parts[i]) + (place <= int(parts[i])))
    return ".".join(parts)


def _check_lists(model, closed, picks):
    modules = dict(model.named_modules(remove_duplicate=False))
    for name in closed:
        members = modules[name]._modules if name in modules else {"": None}
        if list(members) != [str(place) for place in range(len(members))]:
            raise ValueError(f"the file is of another model: it closes gaps in {name!r}, which is no list here")
    for (path, name), (old, _) in picks.items():
        table, leaf = _attributes(modules[path], name) if path in modules else ({}, "")
        value = table.get(leaf) if not any(part.startswith("_") for part in name.split(".")) else None
        if type(value) not in (tuple, list) or list(value) != old:
            raise ValueError(f"the file is of another model: {path}.{name} is {old} there, {value} here")


''',
}


def loader_source(path: str | os.PathLike[str]) -> str:
    """The text of a short Python file with one function, `load_pruned(model, path)`, that needs no secateur.

    It loads any file that this version of secateur saves; `path` is checked and named in its first lines. Raises
    `FileError` where `path` is no such file.

    >>> loader_source("nowhere.safetensors")
    Traceback (most recent call last):
        ...
    secateur.errors.FileError: no file nowhere.safetensors
    """
    plans = read_plans(path)
    closes = any(plan.renumbered is not None for plan in plans)
    source = _with(_LOADER, _OWNING, closes or any("." in one.name for plan in plans for one in plan.attributes))
    source = _with(source, _CLOSING, closes).replace("__PICKS__", "picks" if closes else "()")
    name = json.dumps(os.fspath(path)).replace("\\\\", "\\\\\\\\")
    return source.replace("__FILE__", name).replace("__FORMAT__", str(FORMAT)).replace("__BYPASS__", _plain(Bypass))


def _with(source: str, texts: dict[str, str], wanted: bool) -> str:
    """The source with these texts in the places of their marks, or without."""
    for mark, text in texts.items():
        left = "" if mark.startswith("__") else mark
        source = source.replace(mark, text if wanted else left, 1)
    return source


def _plain(kind: type) -> str:
    """The source of a class as it stands in a file of its own, where no type checker looks."""
    lines = inspect.getsource(kind).splitlines()
    return "\n".join(line.partition("  # type: ignore")[0] for line in lines) + "\n"
