from __future__ import annotations

import math

import pytest

from secateur.errors import TargetError
from secateur.planning import Target, parse_targets


@pytest.mark.parametrize(
    ("text", "kind", "value"),
    [
        ("macs=0.5", "macs", 0.5),
        (" params = 1.76e6 ", "params", 1.76e6),
        ("channels=0.7", "channels", 0.7),
        ("channels=1", "channels", 1.0),
        ("macs=1", "macs", 1.0),
        ("params=2", "params", 2.0),
    ],
)
def test_parse(text: str, kind: str, value: float) -> None:
    assert Target.parse(text) == Target(kind, value)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (None, []),
        ("macs=0.5", ["macs=0.5"]),
        ("macs=0.5,params=0.4", ["macs=0.5", "params=0.4"]),
        (["params=1.76e6", "macs=8.98e9"], ["params=1760000", "macs=8980000000"]),
    ],
)
def test_one_target_or_several(given: str | list[str] | None, expected: list[str]) -> None:
    assert list(map(str, parse_targets(given))) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "mac=0.5",
            r"target 'mac=0.5'; did you mean 'macs'\?\nunknown target kind 'mac'; known: .*\nwrite e.g.",
        ),
        ("latency=0.5", "unknown target kind 'latency'; known: channels, params, macs, memory, depth\nwrite"),
        ("0.5", "target '0.5'\nwrite e.g."),
        ("", "target ''\nwrite e.g."),
        ("macs=half", "target 'macs=half': 'half' is not a number\nwrite e.g. 'macs=0.5'"),
        ("macs=", "target 'macs=': '' is not a number"),
        ("params=0", "target 'params=0': what remains must be more than 0\nwrite e.g. 'params=0.5'"),
        ("params=-3", "target 'params=-3': what remains must be more than 0"),
        ("macs=nan", "target 'macs=nan': what remains must be more than 0"),
        ("macs=inf", "target 'macs=inf': what remains must be more than 0"),
        ("channels=8", "target 'channels=8': channels take a share of up to 1, per axis\nwrite e.g. 'channels=0.7'"),
    ],
)
def test_malformed(text: str, message: str) -> None:
    with pytest.raises(TargetError, match=message):
        parse_targets(text)


@pytest.mark.parametrize(
    ("target", "total", "limit"),
    [
        (Target("macs", 0.5), 7, 3),
        (Target("macs", 1.0), 7, 7),
        (Target("macs", 0.1 + 0.2), 10, 3),
        (Target("macs", 0.7), 10, 7),
        (Target("macs", 5), 7, 5),
        (Target("params", 1.76e6), 6_487_075, 1_760_000),
        (Target("params", 2.5), 7, 2),
        (Target("macs", 0.29), 10**12, 290_000_000_000),
    ],
)
def test_limit(target: Target, total: int, limit: int) -> None:
    assert target.limit(total) == limit


@pytest.mark.parametrize("total", [3 * 10**15 + 1, 10**18 - 1, 2**60 + 3])
def test_all_of_a_large_total_is_all_of_it(total: int) -> None:
    assert Target("macs", 1.0).limit(total) == total
    assert Target("macs", math.nextafter(1, 0)).limit(total) <= total
