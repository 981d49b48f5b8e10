from __future__ import annotations

import pytest

from secateur.errors import InputError
from secateur.terms.equation import OpEquation, guess


def test_an_equation_is_its_letters_and_marks() -> None:
    equation = OpEquation.parse("b !t (h d) *, 1 ~d -> b t h *, d")
    assert equation.operands == ((("b",), ("t",), ("h", "d"), ("*",)), ((), ("d",)))
    assert equation.results == ((("b",), ("t",), ("h",), ("*",)), (("d",),))
    assert (equation.whole, equation.averaged) == (frozenset("t"), frozenset("d"))


def test_sizes_are_read_off_shapes() -> None:
    reading = OpEquation.parse("b (h d) *, h -> b h *").read([(2, 12, 5, 7), (3,)], [(2, 3, 5, 7)])
    assert reading.sizes == {"b": 2, "h": 3, "d": 4, "*2": 5, "*1": 7}
    assert reading.operands[0] == (("b",), ("h", "d"), ("*2",), ("*1",))


def test_a_dimension_of_one_broadcasts_and_trailing_operands_may_be_missing() -> None:
    reading = OpEquation.parse("n c, n c, c -> n c").read([(1, 8), (2, 8)], [(2, 8)])
    assert reading.sizes == {"n": 2, "c": 8}
    assert len(reading.operands) == 2


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("n c", "'n c' has no '->'; write 'n c \\*, c -> n c \\*'"),
        ("n -> c -> n", "has more than one '->'"),
        ("n c? -> n", "not a valid equation at 'c\\? '|not a valid equation at 'c\\?'"),
        ("n * * -> n", "not a valid equation at '\\*'"),
        ("n (c -> n", "not a valid equation at '\\(c'"),
        ("n () -> n", "not a valid equation at '\\(\\)'"),
        ("n 12 -> n", "not a valid equation at '12'"),
        ("!n ~n -> n", "marks 'n' both ! and ~"),
    ],
)
def test_malformed_equations_are_refused_where_they_are_wrong(text: str, told: str) -> None:
    with pytest.raises(InputError, match=told):
        OpEquation.parse(text)


@pytest.mark.parametrize(
    ("text", "shapes", "told"),
    [
        ("n c, c -> n c", [(2, 8), (7,)], r"c is 8, in a dimension of size 7"),
        ("n c -> n c", [(2, 8, 3)], r"rule  n c\n  op    2 x 8 x 3"),
        ("n c * -> n c *", [(2,)], r"rule  n c \*\n  op    2"),
        ("n c -> n c", [(2, 8), (2, 8)], r"rule  1 operands, 1 results\n  op    2 tensors, 1 results"),
        ("n (h d) -> n h d", [(2, 8)], r"does not fit"),
        ("n 1 -> n 1", [(2, 8)], r"1 is 1, in a dimension of size 8"),
    ],
)
def test_shapes_that_an_equation_does_not_fit(text: str, shapes: list[tuple[int, ...]], told: str) -> None:
    with pytest.raises(InputError, match=told):
        OpEquation.parse(text).read(shapes, [shapes[0]])


def test_a_first_draft_gives_equal_sizes_one_letter_but_not_within_a_tensor() -> None:
    assert guess([(2, 8, 8), (8, 1), ()], [(2, 8)]) == "a b c, b 1,  -> a b"


@pytest.mark.parametrize("shapes", [[(2, 8, 8), (8, 3)], [(4, 4, 4)], [(1,), (30, 20)], [()]])
def test_a_first_draft_fits_the_shapes_it_was_made_of(shapes: list[tuple[int, ...]]) -> None:
    reading = OpEquation.parse(guess(shapes, shapes[:1])).read(shapes, shapes[:1])
    assert [len(dims) for dims in reading.operands] == [len(shape) for shape in shapes]
