"""The house: loose files, the tests of each source file, how many parameters functions take, contracts on imports.

`make lint` runs the contracts (`import-linter`, in pyproject.toml).
"""

from __future__ import annotations

import ast
import contextlib
import importlib
import inspect
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from reaching import imports, reaches
from secateur.pruning import Cutting, CuttingOptions
from twins import TESTS, USERS

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "secateur"
CONTRACTS = {
    "floors": ("terms/marks.py", "from secateur.graph.graph import Graph"),
    "values and terms know no torch": ("plan/parts.py", "import torch"),
    "a stage does not reach into another stage": ("trace/tracing.py", "from secateur.apply.surgery import cut"),
    "planning sees values and scores only": ("planning/depth.py", "from secateur.trace.tracing import trace"),
    "no circles inside a room": ("cost/size_polynomials.py", "from secateur.cost.cost import Cost"),
}


def test_three_modules_lie_loose() -> None:
    assert sorted(path.name for path in SOURCE.glob("*.py")) == ["__init__.py", "errors.py", "pruning.py"]


def has_code(path: Path) -> bool:
    """Whether a file defines anything: most `__init__` files only import, some of them late."""
    defined = (node for node in ast.parse(path.read_text()).body if isinstance(node, (ast.FunctionDef, ast.ClassDef)))
    return path.name != "__init__.py" or any(node.name not in ("__getattr__", "__dir__") for node in defined)


def twin_of(name: str) -> Path:
    path = ROOT / "tests" / name
    return path.with_name(f"test_{path.name}")


def module_of(name: str) -> str:
    return "secateur." + name.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


SOURCES = {path.relative_to(SOURCE).as_posix() for path in SOURCE.rglob("*.py") if has_code(path)}


def test_every_source_file_has_a_twin_or_a_row() -> None:
    assert {name for name in SOURCES if not twin_of(name).exists()} == TESTS.keys()


def test_rows_name_files_that_exist() -> None:
    assert {
        test for tests in TESTS.values() for test in tests.split() if not (ROOT / "tests" / test).is_file()
    } == set()
    assert USERS.keys() <= TESTS.keys()


@pytest.mark.parametrize("name", TESTS)
def test_the_tests_of_a_row_reach_the_source(name: str) -> None:
    module, user = module_of(name), USERS.get(name)
    if user is not None:
        assert module in imports(SOURCE.parent / f"{user.replace('.', '/')}.py").values()
    assert [test for test in TESTS[name].split() if not reaches(test, user or module)] == []


@pytest.mark.parametrize(
    ("test", "module"),
    [
        ("test_laws.py", "secateur.cli.plan"),
        ("terms/test_terms.py", "secateur.terms.equation"),
        ("trace/test_joined.py", "secateur.masks.dead"),
        ("cli/test_origin.py", "secateur.trace.tracing"),
    ],
)
def test_a_test_does_not_reach_what_it_does_not_name(test: str, module: str) -> None:
    assert not reaches(test, module)


def test_users_are_named_where_they_are_needed() -> None:
    assert [name for name in USERS if all(reaches(test, module_of(name)) for test in TESTS[name].split())] == []


PUBLIC = [
    "secateur",
    *(
        f"secateur.{path.parent.relative_to(SOURCE).as_posix().replace('/', '.')}"
        for path in SOURCE.glob("*/**/__init__.py")
    ),
]
VALUES = ("Graph", "Plan")  # what the library makes and nobody calls


def public_functions() -> Iterator[tuple[str, Any]]:
    """Every public function, class and method by its name."""
    for package in PUBLIC:
        face = importlib.import_module(package)
        for name in getattr(face, "__all__", ()):
            value = getattr(face, name)
            if callable(value) and name not in VALUES:
                yield f"{package}.{name}", value
            if inspect.isclass(value):
                methods = (one for one in vars(value) if not one.startswith("_"))
                yield from ((f"{package}.{name}.{one}", getattr(value, one)) for one in methods)


def test_no_public_function_takes_more_than_ten_parameters() -> None:
    counts = {}
    for name, value in public_functions():
        with contextlib.suppress(ValueError, TypeError):  # a built-in class has no signature, a property is no function
            counts[name] = len(inspect.signature(value).parameters)
    assert counts["secateur.prune"] == 8
    assert {name: count for name, count in counts.items() if count > 10} == {}


LATE = """
import sys, secateur
late = ("secateur.train", "secateur.probing")
assert not [name for name in sys.modules if name.startswith(late)], "the loops of training come with the import"
assert set(secateur.__all__) <= set(dir(secateur))
assert secateur.iterate is sys.modules["secateur.train.iterate"].iterate
assert all(getattr(secateur, name) for name in secateur.__all__)
try:
    secateur.serach
except AttributeError as error:
    print(error)
"""


def test_names_that_are_imported_late_are_there() -> None:
    ran = subprocess.run([sys.executable, "-c", LATE], capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stdout) == (0, "module 'secateur' has no attribute 'serach'\n"), ran.stderr


def test_no_function_is_longer_than_sixty_lines() -> None:
    long = []
    for path in SOURCE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                lines = (node.end_lineno or 0) - node.lineno
                long += [f"{path.name}: {node.name}, {lines} lines"] if lines > 60 else []
    assert long == []


def test_what_prune_takes_by_name_is_what_a_cutting_holds() -> None:
    held = {field.name for field in fields(Cutting)} - {"example_inputs"}
    assert set(CuttingOptions.__annotations__) == held


def linted(folder: Path) -> subprocess.CompletedProcess[str]:
    program = Path(sys.executable).with_name("lint-imports")
    if not program.exists():
        pytest.skip("import-linter is not installed here")
    return subprocess.run(
        [program, "--no-cache", "--config", "pyproject.toml"],
        cwd=folder,
        env={"PYTHONPATH": str(folder / "src"), "PATH": ""},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("contract", CONTRACTS)
def test_an_import_that_breaks_a_contract_is_found(contract: str, tmp_path: Path) -> None:
    shutil.copytree(SOURCE, tmp_path / "src" / "secateur", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    name, upward = CONTRACTS[contract]
    broken = tmp_path / "src" / "secateur" / name
    broken.write_text(f"{broken.read_text()}\n\ndef late() -> None:\n    {upward}\n")
    found = linted(tmp_path)
    assert found.returncode == 1, found.stdout
    assert f"{contract} BROKEN" in found.stdout
