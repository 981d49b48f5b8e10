"""The survey's lists name every model that they promise, and each of a few builds and runs."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

from secateur.base.nested import tensors_in

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

import zoo

SAMPLES = {
    "torchvision": ["torchvision:squeezenet1_1", "torchvision:ssdlite320_mobilenet_v3_large"],
    "timm": ["timm:test_convnext"],
    "transformers": ["hf:bert", "hf:t5", "hf:siglip"],
}
FAMILIES = """bert roberta distilbert albert electra deberta_v2 gpt2 gpt_neox opt llama mistral qwen2 qwen3 gemma2
    gemma3 phi3 falcon bloom t5 bart whisper wav2vec2 clip siglip vit dinov2 swin segformer detr mixtral""".split()


@pytest.mark.parametrize(("library", "name"), [(key, name) for key, names in SAMPLES.items() for name in names])
def test_a_model_is_built_the_same_twice_and_runs(library: str, name: str) -> None:
    pytest.importorskip(library)
    entry = zoo.find(name)
    model, call = entry.build(), entry.call()
    for a, b in zip(model.parameters(), entry.build().parameters(), strict=True):
        assert torch.equal(a, b)
    for view in (model, entry.raw(model)) if entry.raw else (model,):
        with torch.no_grad():
            assert tensors_in(view(*call.args, **call.kwargs))


def test_torchvision_has_no_model_that_is_neither_listed_nor_large_nor_quantized() -> None:
    torchvision = pytest.importorskip("torchvision")
    from zoo.torchvision_models import LARGE

    listed = {entry.name.partition(":")[2] for entry in zoo.entries("torchvision:*")}
    quantized = set(torchvision.models.list_models(module=torchvision.models.quantization))
    assert listed | LARGE | quantized == set(torchvision.models.list_models())
    assert not listed & (LARGE | quantized)


def test_timm_has_two_models_of_every_family_that_has_two() -> None:
    timm = pytest.importorskip("timm")
    listed: dict[str, set[str]] = {}
    for entry in zoo.entries("timm:*"):
        listed.setdefault(entry.family, set()).add(entry.name.partition(":")[2])
    for family in timm.list_modules():
        names = set(timm.list_models(module=family))
        assert listed[family] <= names
        assert len(listed[family]) == min(2, len(names))


def test_hugging_face_has_every_family_that_was_promised() -> None:
    pytest.importorskip("transformers")
    assert {entry.family for entry in zoo.entries("hf:*")} >= set(FAMILIES)


def test_an_unknown_model_is_refused() -> None:
    with pytest.raises(KeyError, match="no model of the zoo is named 'hf:none'"):
        zoo.find("hf:none")
