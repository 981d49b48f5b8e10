from __future__ import annotations

import sys
from pathlib import Path

import pytest
from torch import nn

from secateur.errors import InputError
from secateur.models import build_model, parse_args

FACTORIES = """
from torch import nn

def build(width=2):
    return nn.Linear(width, 1)

def number():
    return 3

def fails():
    raise ValueError("no such width")
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "nets.py"
    path.write_text(FACTORIES)
    return path


def test_a_factory_in_a_file(file: Path) -> None:
    model = build_model(f"{file}:build", {"width": 5})
    assert isinstance(model, nn.Linear)
    assert model.in_features == 5


@pytest.mark.parametrize(
    ("factory", "arguments", "message"),
    [
        ("number", {}, "number returned int, not a torch.nn.Module"),
        ("fails", {}, "fails cannot be built: ValueError: no such width"),
        ("build", {"widht": 1}, "'widht'; its arguments: (width=2); did you mean 'width'?"),
        ("bild", {}, "does not define 'bild'; did you mean 'build'?"),
    ],
)
def test_a_factory_that_does_not_work(file: Path, factory: str, arguments: dict[str, object], message: str) -> None:
    with pytest.raises(InputError) as caught:
        build_model(f"{file}:{factory}", arguments)
    assert message in str(caught.value)


@pytest.mark.parametrize("spec", ["resnet18", "torchvison:resnet18", "net.py", ""])
def test_no_model_at_all(spec: str) -> None:
    with pytest.raises(InputError, match=r"is not a model; write torchvision:NAME, timm:NAME or path/file.py:factory"):
        build_model(spec)


def test_torchvision() -> None:
    pytest.importorskip("torchvision", reason="needs secateur[vision]")
    model = build_model("torchvision:squeezenet1_1", {"num_classes": 7})
    assert model.get_submodule("classifier.1").out_channels == 7


def test_a_segmentation_model_fetches_no_backbone(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torchvision", reason="needs secateur[vision]")
    monkeypatch.setattr("torch.hub.download_url_to_file", lambda *_, **__: pytest.fail("downloads"))
    assert build_model("torchvision:lraspp_mobilenet_v3_large", {"num_classes": 2})


def test_timm() -> None:
    pytest.importorskip("timm", reason="needs secateur[timm]")
    model = build_model("timm:test_resnet.r160_in1k", {"num_classes": 7})
    assert model.get_submodule("fc").out_features == 7


@pytest.mark.parametrize(
    ("library", "name", "near"), [("torchvision", "resnet19", "resnet18"), ("timm", "mobilenetv3_smal", "mobilenetv3")]
)
def test_an_unknown_name_gets_the_nearest(library: str, name: str, near: str) -> None:
    pytest.importorskip(library)
    with pytest.raises(InputError, match=rf"{library} has no model '{name}'; did you mean .*{near}"):
        build_model(f"{library}:{name}")


def test_arguments_that_the_constructor_refuses() -> None:
    pytest.importorskip("torchvision", reason="needs secateur[vision]")
    with pytest.raises(InputError, match=r"torchvision:resnet18 cannot be built: TypeError: .*'colour'"):
        build_model("torchvision:resnet18", {"colour": 1})


@pytest.mark.parametrize(("library", "extra"), [("torchvision", "vision"), ("timm", "timm")])
def test_a_library_that_is_not_installed(monkeypatch: pytest.MonkeyPatch, library: str, extra: str) -> None:
    for name in [library, *(name for name in sys.modules if name.startswith(f"{library}."))]:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(InputError, match=rf"{library} is not installed; .* pip install 'secateur\[{extra}\]'"):
        build_model(f"{library}:resnet18")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("n=10", {"n": 10}),
        ("flag=true", {"flag": True}),
        ("rate=1e-3", {"rate": 0.001}),
        ("act=relu", {"act": "relu"}),
        ("none=null", {"none": None}),
        ("sizes=[1, 2]", {"sizes": [1, 2]}),
        ("path=a=b", {"path": "a=b"}),
        ("empty=", {"empty": ""}),
    ],
)
def test_parse_args(text: str, expected: dict[str, object]) -> None:
    assert parse_args([text]) == expected


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["num_classes"], "'num_classes' is not an argument; write NAME=VALUE"),
        (["=3"], "'=3' is not an argument"),
        (["a b=3"], "'a b=3' is not an argument"),
        (["n=1", "n=2"], "argument 'n' is given twice: 1 and '2'"),
    ],
)
def test_parse_args_refuses(texts: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        parse_args(texts)
