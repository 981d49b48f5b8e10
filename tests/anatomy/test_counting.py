"""Which number of a config counts the layers of a list: found by building the class from shorter configs."""

from __future__ import annotations

import json
from typing import Any

import pytest
from torch import nn

from secateur.anatomy.counting import Number, counters, renumbering
from secateur.errors import InputError
from secateur.plan.parts import AttributeChange, Pick

pytest.importorskip("transformers", reason="transformers is not installed (extra hf)")


class Config:
    """As Hugging Face's: plain values, written to JSON and read back."""

    def __init__(self, **values: Any):
        self.__dict__.update({"depth": 3, "width": 3, "kinds": ["full", "local", "full"], **values})

    def to_json_string(self) -> str:
        return json.dumps(vars(self))

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Config:
        return cls(**values)


class Layer(nn.Module):
    def __init__(self, config: Config, place: int, count: int):
        super().__init__()
        self.a = nn.Linear(config.width, config.width)
        self.layer_idx, self.of, self.kind = place, count, config.kinds[place]


class Net(nn.Module):
    def __init__(self, config: Config):
        super().__init__()
        self.config = config
        if len(config.kinds) != config.depth:
            raise ValueError(f"{len(config.kinds)} kinds for {config.depth} layers")
        self.layers = nn.ModuleList(Layer(config, i, config.depth) for i in range(config.depth))


class Heads(nn.Module):
    """One number counts both lists."""

    def __init__(self, config: Config):
        super().__init__()
        self.config = config
        self.layers = nn.ModuleList(nn.Linear(2, 2) for _ in range(config.depth))
        self.heads = nn.ModuleList(nn.Linear(2, 2) for _ in range(config.depth))


class Growing(nn.Module):
    """Layers are the wider, the more there are."""

    def __init__(self, config: Config):
        super().__init__()
        self.config = config
        self.layers = nn.ModuleList(nn.Linear(2, config.depth) for _ in range(config.depth))


class Fixed(nn.Module):
    """Takes three layers and no other count."""

    def __init__(self, config: Config):
        super().__init__()
        self.config = config
        if config.depth != 3:
            raise ValueError("depth must be 3")
        self.layers = nn.ModuleList(nn.Linear(2, 2) for _ in range(config.depth))


def test_the_number_that_shortens_a_list_counts_it() -> None:
    config = Config()
    found = counters(Net(config), config, ["layers"])
    assert found.numbers == {"layers": Number("config.depth", None, 3)}
    assert found.why_not("layers") is None
    assert vars(config) == vars(Config())


def test_what_follows_from_fewer_layers_is_read_off() -> None:
    config = Config()
    found = renumbering(Net(config), {"layers.1"}, config, "remedy")
    assert found.lists == ("layers",)
    assert set(found.numbers) == {
        AttributeChange("", "config.depth", None, 3, 2),
        AttributeChange("layers.0", "of", None, 3, 2),
        AttributeChange("layers.2", "of", None, 3, 2),
        AttributeChange("layers.2", "layer_idx", None, 2, 1),
    }
    assert found.picks == (Pick("", "config.kinds", ("full", "local", "full"), (0, 2)),)


@pytest.mark.parametrize(
    ("kind", "fault"),
    [
        (Heads, "no number in it counts layers.1 and nothing else"),
        (Growing, r"layers.0.weight is \(3, 2\), the constructor makes \(2, 2\)"),
        (Fixed, r"its class refuses config.depth=2: InputError: Fixed cannot be built .*depth must be 3"),
    ],
)
def test_models_that_no_config_describes_are_refused(kind: Any, fault: str) -> None:
    config = Config()
    with pytest.raises(InputError, match=rf"no config fits this {kind.__name__} without layers.1: {fault}") as caught:
        renumbering(kind(config), {"layers.1"}, config, "the remedy")
    assert str(caught.value).endswith("\nthe remedy")
