"""The names of `secateur`: functions that hide packages of the same names, and names that are imported on first use."""

from __future__ import annotations

import importlib

import pytest

import secateur


@pytest.mark.parametrize(("name", "inner"), [("trace", "tracing"), ("plan", "parts")])
def test_a_package_that_a_function_hides_is_reached_by_from(name: str, inner: str) -> None:
    package = f"secateur.{name}"
    module = importlib.import_module(f"{package}.{inner}")  # what `import secateur.trace.tracing` runs
    names: dict[str, object] = {}
    exec(f"from {package} import {inner}", names)
    assert names[inner] is module
    function = getattr(secateur, name)
    assert function.__name__ == name
    assert not hasattr(function, inner)


def test_the_docstring_says_how_to_reach_hidden_packages() -> None:
    assert "`from secateur.trace import tracing`" in (secateur.__doc__ or "")
    assert "`from secateur.plan.parts import Pick`" in (secateur.__doc__ or "")


def test_every_public_name_exists_and_is_listed() -> None:
    for name in secateur.__all__:
        assert getattr(secateur, name) is getattr(secateur, name)
    assert set(secateur.__all__) <= set(dir(secateur))


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'secateur' has no attribute 'prone'"):
        secateur.prone  # type: ignore[attr-defined] # noqa: B018
