"""Which source modules a test file uses, read from its imports: the ground of the table in `twins.py`.

A test enters a module when it, or a helper that it imports, imports the module or uses a name that the module defines:
`secateur.cut(model, plan)` enters `secateur.apply.surgery`. From there it reaches what the modules of that same room
import. It does not reach other rooms, which have tests of their own to name.
"""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator
from pathlib import Path

TESTS = Path(__file__).parent
SOURCE = TESTS.parent / "src"


def reaches(test: str, module: str) -> bool:
    """Whether a test file, named relative to `tests`, reaches a source module."""
    return module in reached(TESTS / test)


@functools.cache
def reached(test: Path) -> frozenset[str]:
    found = set(entered(test))
    waiting = list(found)
    while waiting:
        module = waiting.pop()
        further = {one for one in imports(file_of(module)).values() if room_of(one) == room_of(module)} - found
        found |= further
        waiting += further
    return frozenset(found)


def room_of(module: str) -> str:
    """`secateur.trace` for all modules of the room; the module itself where it is in no room."""
    return ".".join(module.split(".")[:2])


@functools.cache
def entered(path: Path) -> frozenset[str]:
    """The source modules that define what a test file and its helpers import or name."""
    found = set(imports(path).values()) | {defining(name) for name in dotted(path)}
    helpers = [file_of(name) for name in found if not name.startswith("secateur")]
    shared = path.with_name("conftest.py")
    helpers += [shared] if path.name.startswith("test_") and shared.exists() else []
    return frozenset(name for name in found if name.startswith("secateur.")).union(*map(entered, helpers))


@functools.cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


@functools.cache
def imports(path: Path) -> dict[str, str]:
    """The modules of ours that a file imports or imports names from, by the names that it gives to these."""
    return {name: defining(target) for name, target in targets(path).items()}


@functools.cache
def targets(path: Path) -> dict[str, str]:
    """What the imports of a file name, with its full name, by the name in the file."""
    found: dict[str, str] = {}
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            found |= {one.asname or one.name: one.name for one in node.names if is_module(one.name)}
        elif isinstance(node, ast.ImportFrom) and is_module(node.module or ""):
            found |= {one.asname or one.name: f"{node.module}.{one.name}" for one in node.names}
            if is_room(node.module or ""):  # a test that imports from a face uses what the face gathers
                found[node.module or ""] = node.module or ""
    return found


def dotted(path: Path) -> Iterator[str]:
    """The full names of expressions such as `secateur.cut` whose first part is imported."""
    known = targets(path)
    for node in ast.walk(tree_of(path)):
        parts: list[str] = []
        while isinstance(node, ast.Attribute):
            parts.insert(0, node.attr)
            node = node.value
        if parts and isinstance(node, ast.Name) and node.id in known:
            yield ".".join([known[node.id], *parts])


@functools.cache
def defining(name: str) -> str:
    """The module that defines `secateur.cut`, or the innermost module in a dotted name.

    A name that a package imports hides a module of that name: `secateur.trace` is the function.
    """
    module, _, last = name.rpartition(".")
    target = targets(file_of(module)).get(last, name) if is_module(module) else name
    if target != name:
        return defining(target)
    if is_module(name):
        return name
    return module if is_module(module) else defining(module)


@functools.cache
def is_module(name: str) -> bool:
    return bool(name) and file_of(name).exists()


def is_room(name: str) -> bool:
    return name.startswith("secateur.") and file_of(name).name == "__init__.py"


@functools.cache
def file_of(module: str) -> Path:
    path = (SOURCE if module.partition(".")[0] == "secateur" else TESTS) / module.replace(".", "/")
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
