"""Loading a function from a file: `path/file.py:function`. The file runs once, as a separate module.

This executes the file, as `python path/file.py` would. It is meant for the user's own code, never for weights.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import inspect
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from secateur.errors import FileError, InputError, nearest


def load_function(spec: str) -> Callable[..., Any]:
    """Return the function (or class) that `path/file.py:name` names.

    The folder of the file is importable while it loads, so it may import its neighbours. An unchanged file that is
    loaded twice is the same module. Raises `FileError` when there is no such file or it fails while loading, and
    `InputError` when the spec is malformed or the file defines no such function.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "mine.py")
    ...     _ = path.write_text("def twice(x): return 2 * x")
    ...     load_function(f"{path}:twice")(21)
    42
    """
    path, name = _split(spec)
    module = _load_file(path)
    if not hasattr(module, name):
        known = [key for key, value in vars(module).items() if callable(value)]
        raise InputError(f"{path} does not define {name!r}{nearest(name, known)}")
    found = getattr(module, name)
    if not callable(found):
        raise InputError(f"{name!r} in {path} is {type(found).__name__}, not a function")
    return found


def check_arguments(function: Callable[..., Any], arguments: Mapping[str, object], where: str) -> None:
    """Raise `InputError` if `function` cannot be called with the arguments; `where` names it in the message.

    >>> check_arguments(len, {}, "len")
    Traceback (most recent call last):
        ...
    secateur.errors.InputError: len: missing a required argument: 'obj'; its arguments: (obj, /)
    """
    signature = inspect.signature(function)
    try:
        signature.bind(**arguments)
    except TypeError as error:
        unknown = next((name for name in arguments if name not in signature.parameters), "")
        near = nearest(unknown, signature.parameters)
        raise InputError(f"{where}: {error}; its arguments: {signature}{near}") from None


def _split(spec: str) -> tuple[Path, str]:
    # The last colon, since a Windows path contains one too.
    path, colon, name = spec.rpartition(":")
    if not (colon and path.endswith(".py") and name.isidentifier()):
        raise InputError(f"{spec!r} does not name a function in a file; write path/file.py:function")
    if not Path(path).is_file():
        near = nearest(Path(path).name, (file.name for file in Path(path).parent.glob("*.py")))
        raise FileError(f"there is no file {path}{near}")
    return Path(path), name


def _load_file(path: Path) -> ModuleType:
    # Named by path and content: no clash with an installed module, and never a stale version of an edited file.
    digest = hashlib.sha256(bytes(path.resolve()) + b"\0" + path.read_bytes()).hexdigest()[:16]
    name = f"secateur_file_{digest}"
    if name not in sys.modules:
        sys.modules[name] = _module_of(name, path)
        try:
            _execute(sys.modules[name], path)
        except BaseException:
            del sys.modules[name]
            raise
    return sys.modules[name]


def _module_of(name: str, path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None, path
    return importlib.util.module_from_spec(spec)


def _execute(module: ModuleType, path: Path) -> None:
    loader = module.__spec__ and module.__spec__.loader
    assert loader, path
    try:
        with _importable(path.resolve().parent):
            loader.exec_module(module)
    except (Exception, SystemExit) as error:
        raise FileError(f"{path} fails while loading: {type(error).__name__}: {error}") from error


@contextlib.contextmanager
def _importable(folder: Path) -> Iterator[None]:
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        # Absent if the file itself has edited sys.path.
        with contextlib.suppress(ValueError):
            sys.path.remove(str(folder))
