"""What masks make entirely zero can be cut, on models that others wrote: the small model computes the same."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import laws
import secateur
from secateur.anatomy.masked import worn
from secateur.masks import Masks, mask, masks_of
from secateur.masks.dead import plan_of_dead
from zeroing import difference, silence

Case = Callable[[], "tuple[nn.Module, Any]"]


def image(side: int) -> Tensor:
    return torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(1))


def ids() -> Tensor:
    return torch.randint(0, 48, (2, 8), generator=torch.Generator().manual_seed(1))


def vision(name: str, side: int = 32) -> Case:
    def make() -> tuple[nn.Module, Any]:
        models = pytest.importorskip("torchvision", reason="torchvision is not installed (extra vision)").models
        options = {"weights_backbone": None} if name.startswith(("deeplab", "fcn", "lraspp")) else {}
        return models.get_model(name, weights=None, **options), image(side)

    return make


def small_vision(name: str) -> Case:
    def make() -> tuple[nn.Module, Any]:
        models = pytest.importorskip("torchvision", reason="torchvision is not installed (extra vision)").models
        built: dict[str, Callable[[], nn.Module]] = {
            "vit": lambda: models.VisionTransformer(32, 8, 2, 4, 32, 64, num_classes=10),
            "swin": lambda: models.SwinTransformer([2, 2], 16, [2, 2], [2, 4], [4, 4], num_classes=10),
            "convnext": lambda: models.ConvNeXt(
                [models.convnext.CNBlockConfig(16, 32, 1), models.convnext.CNBlockConfig(32, None, 2)], num_classes=10
            ),
        }
        return built[name](), image(32)

    return make


def image_model(name: str, side: int = 64, **options: Any) -> Case:
    def make() -> tuple[nn.Module, Any]:
        timm = pytest.importorskip("timm", reason="timm is not installed")
        return timm.create_model(name, num_classes=10, **options), image(side)

    return make


def mixer() -> tuple[nn.Module, Any]:
    models = pytest.importorskip("timm.models.mlp_mixer", reason="timm is not installed")
    return models.MlpMixer(num_classes=10, img_size=32, patch_size=8, num_blocks=2, embed_dim=32), image(32)


def language(name: str, **options: Any) -> Case:
    """A tiny model of a family, embeddings tied unless it says otherwise."""
    sizes = {"vocab_size": 48, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4} | options

    def make() -> tuple[nn.Module, Any]:
        transformers = pytest.importorskip("transformers", reason="transformers is not installed (extra hf)")
        config = getattr(transformers, f"{name.partition('For')[0].removesuffix('LMHeadModel')}Config")(**sizes)
        return getattr(transformers, name)(config), ids()

    return make


class Sequence(nn.Module):
    """x: (n, t, 6) -> (n, 5)"""

    def __init__(self, kind: Any, **options: Any):
        super().__init__()
        self.before = nn.Linear(6, 8)
        self.layer = kind(8, 12, batch_first=True, **options)
        self.after = nn.Linear(12 * (1 + options.get("bidirectional", False)), 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.after(self.layer(self.before(x).relu())[0][:, -1].relu())


def recurrent(kind: Any, **options: Any) -> Case:
    return lambda: (Sequence(kind, **options), torch.randn(2, 7, 6, generator=torch.Generator().manual_seed(1)))


class Translator(nn.Module):
    """x: (n, t, 16), y: (n, s, 16) -> (n, s, 5)"""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Transformer(16, 4, 1, 1, 32, dropout=0.0, batch_first=True)
        self.head = nn.Linear(16, 5)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return self.head(self.body(x, y))


def translator() -> tuple[nn.Module, Any]:
    return Translator(), (torch.randn(2, 7, 16), torch.randn(2, 5, 16))


QUICK: dict[str, Case] = {
    "resnet18": vision("resnet18"),
    "mobilenet_v3_small": vision("mobilenet_v3_small"),
    "vit": small_vision("vit"),
    "swin": small_vision("swin"),
    "convnext": small_vision("convnext"),
    "mixer": mixer,
    "bert": language("BertForMaskedLM", intermediate_size=64),
    "llama": language("LlamaForCausalLM", intermediate_size=64, num_key_value_heads=2, tie_word_embeddings=True),
    "gpt2": language("GPT2LMHeadModel", n_positions=32, bos_token_id=0, eos_token_id=0),
    "lstm": recurrent(nn.LSTM),
    "gru, both ways": recurrent(nn.GRU, bidirectional=True, num_layers=2),
    "transformer": translator,
}
ZOO: dict[str, Case] = {
    **{
        name: vision(name, 64)
        for name in (
            *(
                "alexnet",
                "vgg11_bn",
                "resnet50",
                "resnext50_32x4d",
                "densenet121",
                "squeezenet1_1",
                "shufflenet_v2_x0_5",
            ),
            *("mobilenet_v2", "mnasnet0_5", "efficientnet_b0", "regnet_y_400mf", "convnext_tiny", "swin_t"),
            *("swin_v2_t", "deeplabv3_resnet50", "fcn_resnet50", "lraspp_mobilenet_v3_large"),
        )
    },
    "vit_b_32": vision("vit_b_32", 224),
    **{
        name: image_model(name)
        for name in ("efficientnet_lite0", "ghostnet_050", "repvgg_a0", "edgenext_xx_small", "mobilenetv2_050")
    },
}


def masked(case: Case, how: str) -> tuple[nn.Module, Any]:
    """Random weights under random masks that make whole units zero: a few of each axis, or inputs of each layer."""
    torch.manual_seed(0)
    model, inputs = case()
    laws.randomized(model)
    if how == "inputs":
        mask(model, 0.3, criterion=by_input, scope="layer")
        return model, inputs
    mask(model, 0.3, criterion="random", scope="layer")
    graph = secateur.trace(model, inputs)
    for axis in graph.axes:
        silence(graph, axis, sorted({1 % axis.size, axis.size // 2}))
    return model, inputs


def by_input(name: str, weight: Tensor) -> Tensor:
    """The same random score for all weights of an input: (o, i, ...)"""
    generator = torch.Generator().manual_seed(len(name))
    scores = torch.rand(weight.shape[1], generator=generator)
    return scores.view(1, -1, *[1] * (weight.dim() - 2)).expand_as(weight)


def check(case: Case, how: str) -> int:
    """Cut with its masks, and cut after they were made permanent: both compute the same. Gives how many units went."""
    model, inputs = masked(case, how)
    plain = copy.deepcopy(model)
    masks_of(plain).harden()
    dropped = 0
    for whole, plan in ((model, masks_of(model).plan(inputs)), (plain, plan_of_dead(plain, inputs))):
        small = secateur.cut(whole, plan)
        assert difference(whole, small, inputs) < 1e-9
        assert worn(small).keys() == worn(whole).keys()
        assert sum(p.numel() for p in small.parameters()) == plan.after.params
        dropped += sum(axis.size - axis.kept_count for axis in plan.axes.values())
    assert difference(model, plain, inputs) < 1e-12
    return dropped


@pytest.mark.parametrize("name", QUICK)
def test_cutting_what_is_dead_changes_nothing(name: str) -> None:
    assert check(QUICK[name], "units") > 0
    check(QUICK[name], "inputs")


@pytest.mark.slow
@pytest.mark.parametrize("how", ["units", "inputs"])
@pytest.mark.parametrize("name", ZOO)
def test_cutting_what_is_dead_changes_nothing_in_the_zoo(name: str, how: str) -> None:
    assert check(ZOO[name], how) > 0


def only_zero(model: nn.Module, zero: dict[str, tuple[int, list[int]]]) -> Masks:
    """Masks that are zero at some positions of a dimension of some weights, and nowhere else."""
    masks = mask(model, 0.0)
    kept = masks.masks
    for name, (dim, places) in zero.items():
        kept[name].index_fill_(dim, torch.tensor(places), False)
    masks.assign(kept)
    return masks


def test_a_head_that_nothing_reads_is_cut() -> None:
    model, inputs = QUICK["bert"]()
    laws.randomized(model)
    layer = "bert.encoder.layer.1.attention"
    masks = only_zero(model, {f"{layer}.output.dense.weight": (1, list(range(16, 24)))})  # what reads the third head
    plan = masks.plan(inputs)
    small: Any = secateur.cut(model, plan)
    attention = small.bert.encoder.layer[1].attention.self
    assert (attention.query.out_features, attention.attention_head_size) == (24, 8)
    assert difference(model, small, inputs) < 1e-9


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU])
def test_a_cell_that_nothing_reads_is_cut(kind: Any) -> None:
    model, inputs = recurrent(kind)()
    gates = 4 if kind is nn.LSTM else 3
    masks = only_zero(laws.randomized(model), {"layer.weight_hh_l0": (1, [3, 5]), "after.weight": (1, [3, 5])})
    small: Any = secateur.cut(model, masks.plan(inputs))
    assert small.layer.hidden_size == 10
    assert small.layer.weight_hh_l0.shape == (10 * gates, 10)
    assert difference(model, small, inputs) < 1e-9


def test_a_filter_is_cut_where_its_norm_is_masked_too() -> None:
    """A norm that shifts a filter of zeros gives it a value; its own vectors are masked where they are named."""
    model, inputs = vision("resnet18")()
    laws.randomized(model)
    masks = mask(model, 0.0, only=["layer1.0.bn1.weight", "layer1.0.bn1.bias"])
    masks.assign({name: torch.arange(64) >= 20 for name in masks.names})
    small: Any = secateur.cut(model, masks.plan(inputs))
    assert small.layer1[0].conv1.out_channels == 44
    assert difference(model, small, inputs) < 1e-9


def test_what_masks_left_of_a_model_comes_back_from_a_file(tmp_path: Path) -> None:
    model, inputs = masked(QUICK["gpt2"], "units")
    small = secateur.cut(model, masks_of(model).plan(inputs))
    secateur.save(small, tmp_path / "small.safetensors")
    again = secateur.load(QUICK["gpt2"]()[0], tmp_path / "small.safetensors")
    assert difference(small, again, inputs) == 0
    assert masks_of(again).density == masks_of(small).density
