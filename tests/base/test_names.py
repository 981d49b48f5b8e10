from __future__ import annotations

import pytest

from secateur.base.names import above, enclosing, inside, is_public, may_count, means, plain_of

NAME = "layer1.0.conv1"


def test_modules_around_a_name() -> None:
    assert [*enclosing(NAME)] == ["layer1", "layer1.0", NAME]
    assert [*above(NAME)] == ["layer1.0", "layer1"]
    assert [*above("layer1")] == []


@pytest.mark.parametrize(
    ("pattern", "name", "matches"),
    [
        ("layer1", NAME, True),
        ("layer1.*.conv?", NAME, True),
        ("layer", NAME, False),
        ("conv1", NAME, False),
        ("LAYER1", NAME, False),
        ("attn.qkv[0]", "attn.qkv[0]", True),
        ("attn.qkv[01]", "attn.qkv1", True),
        ("conv1.weight", "conv1.parametrizations.weight.original", True),
        ("conv1.w*", "conv1.parametrizations.weight.original", True),
    ],
)
def test_patterns(pattern: str, name: str, matches: bool) -> None:
    assert means(pattern, name) is matches


@pytest.mark.parametrize("modules", [{"layer1"}, {"layer1.0"}, {NAME}, {"layer2", "layer1"}])
def test_a_name_is_inside_itself_and_what_encloses_it(modules: set[str]) -> None:
    assert inside(NAME, modules)


@pytest.mark.parametrize("modules", [set(), {"layer"}, {"layer1.0.conv"}, {f"{NAME}.weight"}, {"0"}])
def test_a_name_is_inside_nothing_else(modules: set[str]) -> None:
    assert not inside(NAME, modules)


def test_names_before_a_parametrization() -> None:
    assert plain_of("parametrizations.weight.original") == "weight"
    assert plain_of("a.parametrizations.weight.original") == "a.weight"
    assert plain_of("a.parametrizations.weight.original0") == "a.parametrizations.weight.original0"


@pytest.mark.parametrize(
    ("name", "public"), [("heads", True), ("_heads", False), ("a.b", False), ("", False), (1, False)]
)
def test_public_names(name: object, public: bool) -> None:
    assert is_public(name) is public


@pytest.mark.parametrize(
    ("name", "counts"),
    [
        ("heads", True),
        ("_heads", True),
        ("__len__", False),
        ("_modules", False),
        ("_", False),
        ("a.b", False),
        (3, False),
    ],
)
def test_names_of_numbers(name: object, counts: bool) -> None:
    assert may_count(name) is counts
