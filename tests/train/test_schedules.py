"""Laws of all schedules, over the registry."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secateur.errors import InputError
from secateur.train.schedules import SCHEDULES, cubic, every, exponential, factory, hold, join, linear, one_shot

NAMES = st.sampled_from(sorted(SCHEDULES))
SHARES = st.floats(0.001, 1.0)
STEPS = st.integers(1, 50)


@given(NAMES, SHARES, SHARES, STEPS)
def test_laws(name: str, a: float, b: float, steps: int) -> None:
    end, start = sorted((a, b))
    values = [SCHEDULES[name](end, steps, start=start)(step) for step in range(steps + 3)]
    assert values[0] == start
    assert values[steps:] == [end] * 3
    assert min(values) >= end
    assert all(x >= y - 1e-15 for x, y in itertools.pairwise(values))


@given(NAMES, SHARES, STEPS, st.integers(0, 20), STEPS)
def test_laws_of_combinators(name: str, end: float, steps: int, held: int, stride: int) -> None:
    plain = SCHEDULES[name](end, steps)
    late, stairs = hold(plain, held), every(plain, stride)
    assert [late(step) for step in range(held + 1)] == [1.0] * (held + 1)
    assert all(late(held + step) == plain(step) for step in range(steps + 2))
    assert all(stairs(step) >= plain(step) for step in range(2 * steps))
    assert stairs(steps + stride) == end
    joined = join([plain, linear(end / 2, 3, start=end)], [steps])
    assert [joined(steps + step) for step in (0, 3, 9)] == [end, end / 2, end / 2]


@pytest.mark.parametrize(
    ("schedule", "half_way"),
    [
        (one_shot(0.2, 10), 1.0),
        (linear(0.2, 10), 0.6),
        (cubic(0.2, 10), 0.2 + 0.8 / 8),
        (exponential(0.25, 10), 0.5),
        (cubic(0.2, 10, start=0.6), 0.2 + 0.4 / 8),
    ],
)
def test_half_way(schedule: Callable[[int], float], half_way: float) -> None:
    assert schedule(5) == pytest.approx(half_way, abs=1e-12)


def test_zhu_and_gupta() -> None:
    """Eq. 1 in its own words: s_t = s_f + (s_i - s_f) (1 - (t - t_0) / (n dt))^3."""
    s_i, s_f, t_0, n, dt = 0.1, 0.9, 4, 5, 3
    schedule = hold(every(cubic(1 - s_f, n * dt, start=1 - s_i), dt), t_0)
    for k in range(n + 1):
        sparsity = s_f + (s_i - s_f) * (1 - k / n) ** 3
        assert 1 - schedule(t_0 + k * dt) == pytest.approx(sparsity, abs=1e-12)


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"end": 0.0}, "end=0.0; it is the share that remains: above 0, up to 1"),
        ({"end": 1.5}, "end=1.5"),
        ({"end": float("nan")}, "end=nan"),
        ({"end": "0.5"}, "end='0.5'"),
        ({"start": 2}, "start=2"),
        ({"end": 0.5, "start": 0.4}, "end=0.5 is above start=0.4"),
        ({"steps": 0}, "steps=0; give a whole number from 1 up"),
        ({"steps": 2.0}, "steps=2.0"),
    ],
)
def test_what_is_refused(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=re.escape(message)):
        SCHEDULES[name](**{"end": 0.5, "steps": 3, **options})


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: linear(0.5, 3)(-1), "step=-1; steps are counted from 0"),
        (lambda: hold(linear(0.5, 3), -1), "steps=-1; give a whole number from 0 up"),
        (lambda: every(linear(0.5, 3), 0), "steps=0; give a whole number from 1 up"),
        (lambda: join([linear(0.5, 3)], [3]), "join has 1 schedules and the boundaries [3]"),
        (lambda: join([linear(0.5, 3)] * 3, [3, 3]), "join has 3 schedules and the boundaries [3, 3]"),
        (lambda: join([linear(0.5, 3)] * 2, [0]), "boundaries [0]"),
        (lambda: join([linear(0.5, 3), linear(0.2, 3)], [3]), "schedule 1 is at 0.5 and schedule 2 starts at 1\n"),
        (lambda: factory("cubix"), "no schedule is named 'cubix'; did you mean 'cubic'?\nknown: one_shot, linear,"),
    ],
)
def test_what_combinators_refuse(make: Callable[[], object], message: str) -> None:
    with pytest.raises(InputError, match=re.escape(message)):
        make()
