"""Files that an earlier version wrote, before the package had its present layout, load and give what they gave.

`earlier/` was written at commit 64d5dc2: a ResNet-20 of a quarter of the width cut to half of its MACs, its plan, a
masked model that was cut, and the folder of a Llama that lost a quarter of its channels and one of three layers.
`expected.safetensors` holds inputs, and what the models gave for them.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

import secateur
from secateur.masks import masks_of
from secateur.models.cifar_resnet import cifar_resnet

EARLIER = Path(__file__).parent / "earlier"
EXPECTED = load_file(EARLIER / "expected.safetensors")


def check(name: str, output: torch.Tensor) -> None:
    torch.testing.assert_close(output, EXPECTED[f"{name}.output"], rtol=1e-4, atol=1e-5)


def test_a_cut_resnet() -> None:
    model = secateur.load(cifar_resnet(20, width=0.25), EARLIER / "cut_resnet.safetensors").eval()
    check("cut_resnet", model(EXPECTED["cut_resnet.input"]).detach())


def test_a_plan() -> None:
    plan = secateur.Plan.from_json((EARLIER / "plan.json").read_text())
    small = secateur.cut(cifar_resnet(20, width=0.25), plan)
    assert sum(p.numel() for p in small.parameters()) == plan.after.params < plan.before.params
    assert secateur.Plan.from_json(plan.to_json()) == plan


def test_a_masked_model() -> None:
    net = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 4))
    model = secateur.load(net, EARLIER / "masked.safetensors").eval()
    assert masks_of(model).sparsity == pytest.approx(0.5, abs=0.01)
    check("masked", model(EXPECTED["masked.input"]).detach())


def test_a_hugging_face_folder() -> None:
    transformers = pytest.importorskip("transformers")
    model = transformers.AutoModelForCausalLM.from_pretrained(EARLIER / "llama").eval()
    assert model.config.num_hidden_layers == 2
    check("llama", model(input_ids=EXPECTED["llama.input"]).logits.detach())
