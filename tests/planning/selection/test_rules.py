"""One grammar for texts, mappings and files; what it does not know is refused with the nearest that it does."""

from __future__ import annotations

import re
from typing import Any

import pytest

from secateur import InputError, Select
from secateur.planning.selection.rules import SETTINGS, Rule
from secateur.planning.selection.selector import FORMS

SAME: dict[str, Any] = {
    "layer4.*: keep=0.5": {"match": "layer4.*", "keep": 0.5},
    "type=Linear: floor=16 align=8": {"match": "type=Linear", "floor": 16, "align": 8},
    "*.attn: prune=heads": {"match": "*.attn", "prune": "heads"},
    "*.attn kind=head_dim: ceiling=0.5": {"match": "*.attn kind=head_dim", "ceiling": 0.5},
    "*.attn: prune=heads,channels": {"match": ["*.attn"], "prune": ["head", "channels"]},
    "head: protect": {"match": "head", "protect": True},
    "layer1.*, layer2.*: together": {"match": ["layer1.*", "layer2.*"], "together": True},
    "axis=conv1:width=48, floor=2": {"match": "axis=conv1", "width": 48, "floor": 2.0},
    "user:buys: keep=1": {"match": "user:buys", "keep": "1"},
    "kind=channels: only": {"kind=channel": "only"},
}


@pytest.mark.parametrize("text", SAME)
def test_a_text_and_a_mapping_say_the_same(text: str) -> None:
    rule = Rule.of(text)
    assert rule == Rule.of(SAME[text])
    assert Rule.of(str(rule)) == Rule.of(rule) == rule


def test_every_setting_is_in_the_table_above() -> None:
    said = {word for text in SAME for word in Rule.of(text).settings}
    assert said == set(SETTINGS)


@pytest.mark.parametrize("word", SETTINGS)
def test_the_example_of_a_setting_is_one(word: str) -> None:
    assert list(Rule.of(f"conv1: {SETTINGS[word].example}").settings) == [word]


WRONG: dict[str, tuple[Any, str]] = {
    "no colon": ("layer4.* keep=0.5", "rule 'layer4.* keep=0.5' has no colon\nwrite a selector, a colon"),
    "no selector": (": keep=0.5", "names '', which matches no parameter"),
    "no setting": ("layer4.*:", "rule 'layer4.*:' has no settings\nadd one of keep, width"),
    "only a match": ({"match": "a"}, "has no settings"),
    "no match": ([{"keep": 0.5, "floor": 2}], "{'keep': 0.5, 'floor': 2} is not a rule\nwrite 'layer4.*: keep=0.5'"),
    "number": ([5], "5 is not a rule"),
    "typo": ("a: kep=0.5", "no setting is named 'kep'; did you mean 'keep'?\nknown: keep, width"),
    "typo in a mapping": ({"match": "a", "flor": 1}, "no setting is named 'flor'; did you mean 'floor'?"),
    "word of a number": ({"match": "a", 3: 1}, "no setting is named 3"),
    "twice": ("a: keep=0.5 keep=0.6", "sets 'keep' twice\nkeep one"),
    "both": ("a: keep=0.5 width=3", "sets both keep=0.5 and width=3\nkeep one"),
    "share": ("a: keep=1.5", "keep='1.5': the share of its units that remains, rounded down: above 0, up to 1"),
    "nothing": ("a: keep=0", "keep='0': the share"),
    "percent": ("a: keep=50%", "keep='50%': the share"),
    "no value": ("a: keep", "keep=True: the share"),
    "empty value": ("a: keep=", "keep='': the share"),
    "nan": ({"match": "a", "floor": float("nan")}, "floor=nan: the least that remains"),
    "negative width": ("a: width=-3", "width='-3': the exact number of units that remain: a whole number from 1 up"),
    "broken width": ({"match": "a", "width": 2.5}, "width=2.5: the exact number"),
    "true width": ({"match": "a", "width": True}, "width=True: the exact number"),
    "list": ({"match": "a", "floor": [1]}, "floor=[1]: the least that remains"),
    "infinite": ("a: ceiling=inf", "ceiling='inf': the most that remains"),
    "align": ("a: align=0", "align='0': widths become multiples of it"),
    "unprotected": ({"match": "a", "protect": False}, "protect=False: its parameters stay as they are; no later rule"),
    "flag with a value": ("a: together=yes", "together='yes': all its axes keep the same share"),
    "kind": ("a: prune=haeds", "prune names the kind 'haeds'; did you mean 'head' or 'channel'?"),
    "kind of a condition": ("kind=chanel: keep=0.5", "names the kind 'chanel'; did you mean 'channel'?"),
    "condition": ("typ=Conv2d: keep=0.5", "names 'typ=Conv2d'; did you mean 'type'?\na selector is a name"),
    "empty condition": ("type=: keep=0.5", "names 'type='"),
    "half a list": ("a,: keep=0.5", "names '', which matches no parameter"),
    "empty list": ({"match": [], "keep": 0.5}, "names []; write a name, a glob or a list"),
    "match of a number": ({"match": 4, "keep": 0.5}, "names 4; write a name"),
    "match of numbers": ({"match": [4], "keep": 0.5}, "names [4]; write a name"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_no_rule(case: str) -> None:
    given, message = WRONG[case]
    with pytest.raises(InputError, match=re.escape(message)):
        Select.of(given)


def test_every_form_of_condition_has_a_rule_that_uses_it() -> None:
    used = {condition.form for text in SAME for part in Rule.of(text).match.alternatives for condition in part}
    assert used == {*FORMS, "name"}


def test_rules_alone_or_beside_the_general_words() -> None:
    text, mapping = "conv1: keep=0.5", {"match": "conv1", "keep": 0.5}
    rules = [
        Select.of(text),
        Select.of([text]),
        Select.of(mapping),
        Select.of({"select": [text]}),
        Select(rules=[mapping]),
    ]
    assert rules == [rules[0]] * 5
    assert Select.of({"floor": 0.2, "rules": text}) == Select(floor=0.2, rules=[mapping])
    assert Select.of(rules[0]) is rules[0]
    assert Select.of(None) == Select()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"florr": 0.1}, "a selection has no option 'florr'; did you mean 'floor'?\nknown: align, ceiling"),
        ({"select": 3}, "rules=3 is not a string or a list\ngive a string such as 'layer4.*: keep=0.5'"),
        (0.5, "select=0.5 is not a string or a list"),
        ({"floor": None}, "floor=None: the least that remains"),
    ],
)
def test_what_is_no_selection(given: Any, message: str) -> None:
    with pytest.raises(InputError, match=re.escape(message)):
        Select.of(given)


def test_of_two_selections_the_later_words_count() -> None:
    first = Select(floor=0.2, align=8, protect="a", rules=["a: keep=0.5"], widths={"b": 3, "c": 4})
    both = first.then(Select(align=4, protect="b", rules=["a: keep=0.7"], widths={"c": 5}))
    assert (both.floor, both.align, both.protect) == (0.2, 4, ("a", "b"))
    assert (both.rules, both.widths) == (tuple(map(Rule.of, ["a: keep=0.5", "a: keep=0.7"])), {"b": 3, "c": 5})
