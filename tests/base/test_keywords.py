"""Groups of options: what belongs where, and what is refused."""

from __future__ import annotations

from typing import Any, TypedDict

import pytest

from secateur.base.keywords import by_group, check_names, option_names
from secateur.errors import InputError


class Paint(TypedDict, total=False):
    colour: str
    coats: int


class Varnish(TypedDict, total=False):
    gloss: bool


class Both(Paint, Varnish, total=False):
    pass


def finish(wood: str, *, dry: bool = True, **options: Any) -> None: ...


def test_names_are_those_of_the_function_and_of_its_groups() -> None:
    assert option_names(finish, Paint, Varnish) == ("wood", "dry", "colour", "coats", "gloss")
    assert sorted(option_names(finish, Both)) == sorted(option_names(finish, Paint, Varnish))


def test_options_go_to_the_group_that_names_them_in_the_order_given() -> None:
    paint, varnish = by_group(finish, {"coats": 2, "gloss": True, "colour": "red"}, Paint, Varnish)
    assert list(paint.items()) == [("coats", 2), ("colour", "red")]
    assert varnish == {"gloss": True}


@pytest.mark.parametrize(("wrong", "near"), [("color", "colour"), ("dri", "dry"), ("glos", "gloss")])
def test_an_unknown_name_is_told_with_the_nearest(wrong: str, near: str) -> None:
    with pytest.raises(InputError, match=f"no option '{wrong}'; did you mean '{near}'.*\nknown: wood, dry, colour"):
        by_group(finish, {wrong: 1}, Paint, Varnish)


def test_a_known_name_passes() -> None:
    check_names(["gloss"], ["gloss", "coats"])
