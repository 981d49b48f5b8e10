"""The functions `secateur.trace` and `secateur.plan` hide packages of the same names; `from` reaches these."""

from __future__ import annotations

import importlib

import pytest

import secateur


@pytest.mark.parametrize(("name", "inner"), [("trace", "tracing"), ("plan", "parts")])
def test_a_package_that_a_function_hides_is_reached_by_from(name: str, inner: str) -> None:
    package = f"secateur.{name}"
    held = importlib.import_module(f"{package}.{inner}")  # what `import secateur.trace.tracing` runs
    names: dict[str, object] = {}
    exec(f"from {package} import {inner}", names)
    assert names[inner] is held
    function = getattr(secateur, name)
    assert function.__name__ == name
    assert not hasattr(function, inner)


def test_the_docstring_of_secateur_says_how() -> None:
    assert "`from secateur.trace import tracing`" in (secateur.__doc__ or "")
    assert "`from secateur.plan.parts import Pick`" in (secateur.__doc__ or "")
