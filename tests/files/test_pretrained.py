"""Hugging Face models in and out: configs that follow a cut, folders that load again, and why others are refused."""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import secateur
from nets import Parts
from secateur import InputError, PruningError, Select
from secateur.apply import recovered_
from secateur.base.nested import tensors_in
from secateur.files.pretrained import check_rebuilds
from secateur.graph.sizes import Arithmetic, Attribute
from secateur.plan.parts import Added, Recovery
from secateur.trace.constructing import Factor
from secateur.trace.names import Quotient, whole
from secateur.trace.tracked_ints import Ledger, Num, open_ledger

transformers: Any = pytest.importorskip("transformers", reason="transformers is not installed (extra hf)")
transformers.logging.disable_progress_bar()

IDS = torch.randint(3, 90, (2, 7), generator=torch.Generator().manual_seed(0))
PIXELS = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
LAYERS = {"num_hidden_layers": 2, "num_attention_heads": 4, "hidden_size": 32, "intermediate_size": 48}
TEXT = {**LAYERS, "vocab_size": 90, "max_position_embeddings": 40}
GROUPED = {**TEXT, "num_key_value_heads": 2, "pad_token_id": 0}
VISION = {**LAYERS, "image_size": 32, "patch_size": 8, "num_labels": 5}
STAGES = {"image_size": 32, "patch_size": 2, "depths": [2, 2], "window_size": 4, "num_labels": 5}
ENCODER_DECODER = {"d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 2, "num_heads": 4}
BUILT: dict[str, tuple[str, str, Mapping[str, Any]]] = {
    "bert": ("BertConfig", "BertForMaskedLM", TEXT),
    "gpt2": (
        "GPT2Config",
        "GPT2LMHeadModel",
        {"vocab_size": 90, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_inner": 48},
    ),
    "llama": ("LlamaConfig", "LlamaForCausalLM", GROUPED),
    "qwen3": ("Qwen3Config", "Qwen3ForCausalLM", {**GROUPED, "head_dim": 8}),
    "gemma2": ("Gemma2Config", "Gemma2ForCausalLM", {**GROUPED, "head_dim": 8, "sliding_window": 5}),
    "mixtral": ("MixtralConfig", "MixtralForCausalLM", {**GROUPED, "num_local_experts": 4}),
    "t5": (
        "T5Config",
        "T5ForConditionalGeneration",
        {**ENCODER_DECODER, "vocab_size": 90, "decoder_start_token_id": 0},
    ),
    "vit": ("ViTConfig", "ViTForImageClassification", VISION),
    "swin": ("SwinConfig", "SwinForImageClassification", {**STAGES, "embed_dim": 16, "num_heads": [4, 8]}),
}
GENERATE = ["gpt2", "llama", "qwen3", "mixtral", "t5"]
ALIGNED = {"mixtral": 4}  # the grouped product of its experts takes rows of 16 bytes


def make(name: str) -> Any:
    config, kind, options = BUILT[name]
    torch.manual_seed(0)
    model = getattr(transformers, kind)(getattr(transformers, config)(**options))
    for parameter in model.parameters():
        if parameter.dim() > 1:
            parameter.data.normal_(std=0.3)
    return model.eval()


def inputs(name: str) -> dict[str, torch.Tensor]:
    if name in ("vit", "swin"):
        return {"pixel_values": PIXELS}
    return {"input_ids": IDS, "decoder_input_ids": IDS[:, :5]} if name == "t5" else {"input_ids": IDS}


def pruned(name: str, target: str = "channels=0.7", **options: Any) -> Any:
    select = Select(align=ALIGNED.get(name, 1))
    return secateur.prune(make(name), inputs(name), target, importance="random", select=select, **options)


def same(one: Any, two: Any, name: str) -> bool:
    with torch.no_grad():
        pairs = zip(tensors_in(one(**inputs(name))), tensors_in(two(**inputs(name))), strict=True)
        return all(torch.equal(a, b) for a, b in pairs)


SLOW = {"gemma2", "qwen3", "swin"}
EACH = [pytest.param(name, marks=pytest.mark.slow if name in SLOW else []) for name in BUILT]


@pytest.mark.parametrize("name", EACH)
def test_a_uniform_model_is_saved_and_loaded_as_any_other(name: str, tmp_path: Path) -> None:
    result = pruned(name, uniform=True, verify=True)
    assert result.plan.after.params < 0.8 * result.plan.before.params
    result.model.save_pretrained(tmp_path / "small")
    again = type(result.model).from_pretrained(tmp_path / "small")
    check_rebuilds(again)
    assert same(result.model, again, name)
    result.save(tmp_path / "other")
    assert same(result.model, type(result.model).from_pretrained(tmp_path / "other"), name)


@pytest.mark.parametrize("name", EACH)
def test_the_model_and_its_config_are_left_as_they_were(name: str) -> None:
    model = make(name)
    before, state = copy.deepcopy(vars(model.config)), copy.deepcopy(model.state_dict())
    secateur.prune(model, inputs(name), "channels=0.7", select=Select(align=ALIGNED.get(name, 1)), uniform=True)
    assert vars(model.config) == before
    assert all(torch.equal(state[k], v) for k, v in model.state_dict().items())
    assert "int" not in vars(sys.modules[type(model).__module__])


def test_sizes_that_a_config_refuses_are_refused_before_the_model_is_trained(tmp_path: Path) -> None:
    asked = {"target": None, "select": Select(widths={"model.embed_tokens": 25})}
    with pytest.raises(
        InputError, match=r"no plan keeps this condition true: the comparison at .*configuration_llama\.py"
    ) as e:
        secateur.prune(make("llama"), inputs("llama"), **asked, uniform=True)
    assert str(e.value).endswith(
        "\nwith all other counts as requested, model.embed_tokens may keep 12, 16, 20, 24, 28, 32 of 32"
    )
    refused = r"the config of LlamaForCausalLM does not take the new sizes: The hidden size \(25\) is not a multiple"
    with pytest.raises(InputError, match=refused + r"(.|\n)*secateur.save\(model"):
        secateur.prune(make("llama"), inputs("llama"), **asked).save(tmp_path / "small")


@pytest.mark.parametrize("uniform", [True, False])
@pytest.mark.parametrize("name", GENERATE)
def test_generation_gives_the_same_tokens_after_loading(name: str, uniform: bool, tmp_path: Path) -> None:
    result = pruned(name, uniform=uniform)
    again: Any
    if uniform:
        result.save(tmp_path / "small")
        again = type(result.model).from_pretrained(tmp_path / "small")
    else:
        result.save(tmp_path / "small.safetensors")
        again = secateur.load(make(name), tmp_path / "small.safetensors")
    options = {"input_ids": IDS, "max_new_tokens": 8, "do_sample": False, "pad_token_id": 0}
    tokens = result.model.generate(**options)
    assert torch.equal(tokens, again.generate(**options))
    assert torch.equal(tokens, result.model.generate(**options, use_cache=False))


def test_numbers_that_a_constructor_computes_with_stay() -> None:
    graph = secateur.trace(make("llama"), inputs("llama"), uniform=True)
    reasons = {f.name: f.reason for f in graph.frozen}
    assert (
        "its size is used in a computation: raised to a power at models/llama"
        in reasons["model.layers.0.self_attn.k_proj.weight"]
    )
    assert {axis.name.rpartition(".")[2] for axis in graph.axes if axis.kind == "head_dim"} == set()


def test_layers_share_what_their_config_shares() -> None:
    graph = secateur.trace(make("llama"), inputs("llama"), uniform=True)
    group = graph.groups[graph.axis("model.layers.0.mlp.gate_proj").group]
    assert [axis.name for axis in group.axes] == ["model.layers.0.mlp.gate_proj", "model.layers.1.mlp.gate_proj"]


def test_only_what_a_class_builds_from_a_config_can_be_uniform() -> None:
    with pytest.raises(
        InputError, match=r"uniform=True needs .*Linear is neither a transformers\.PreTrainedModel nor a "
    ):
        secateur.trace(nn.Linear(2, 2), torch.zeros(1, 2), uniform=True)


def test_a_class_that_wants_more_than_a_config() -> None:
    class Odd(transformers.BertForMaskedLM):
        def __init__(self, config: Any, extra: int) -> None:
            super().__init__(config)
            self.extra = extra

    with pytest.raises(
        InputError, match=r"Odd cannot be built from its config: TypeError: .*extra.*\nleave uniform out"
    ):
        secateur.trace(Odd(make("bert").config, 3).eval(), inputs("bert"), uniform=True)


def test_a_model_that_left_its_config_is_noticed() -> None:
    model = pruned("llama", uniform=True).model
    check_rebuilds(model)
    model.config.intermediate_size += 1
    with pytest.raises(
        PruningError, match=r"does not follow its config: .*gate_proj\.weight is \(33, 22\), .*\(34, 22\)"
    ):
        check_rebuilds(model)


def test_two_uniform_cuts_in_turn(tmp_path: Path) -> None:
    once = pruned("llama", "channels=0.75", uniform=True)
    twice = secateur.prune(once.model, inputs("llama"), "channels=0.75", uniform=True, verify=True)
    twice.save(tmp_path / "small.safetensors")
    again: Any = secateur.load(make("llama"), tmp_path / "small.safetensors")
    assert (again.config.hidden_size, again.config.intermediate_size) == (18, 27)
    assert same(twice.model, again, "llama")
    check_rebuilds(again)


def test_a_model_that_happens_to_fit_a_config(tmp_path: Path) -> None:
    result = pruned("t5")
    result.save(tmp_path / "small")
    again = transformers.AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "small")
    assert (again.config.d_ff, again.config.num_heads, again.config.d_kv) == (33, 3, 7)
    assert same(result.model, again, "t5")


REFUSED: dict[str, tuple[str, Callable[[], Any], str]] = {
    "widths differ": (
        "bert",
        lambda: pruned("bert"),
        r"the layers differ: config\.hidden_size would have to be 22 for bert\.embeddings\.word_embeddings\.weight, "
        r"and 21 for bert\.encoder\.layer\.0\..*\n.*uniform=True",
    ),
    "layers differ": (
        "llama",
        lambda: secateur.prune(make("llama"), inputs("llama"), drop={"model.layers.1.mlp.gate_proj": [0]}),
        r"config\.intermediate_size would have to be 48 for model\.layers\.0.*, and 47 for model\.layers\.1",
    ),
    "frequencies": (
        "llama",
        lambda: pruned("llama"),
        r"no config fits this LlamaForCausalLM: model\.rotary_emb\.original_inv_freq is \(4,\), the constructor makes",
    ),
    "a scale": (
        "bert",
        lambda: secateur.prune(
            make("bert"), inputs("bert"), "channels=0.5", select=Select.of("*: prune=channels,head_dim")
        ),
        r"from_pretrained would load another function.*\n.*\n  bert\.encoder\.layer\.0\.attention\.self\.scaling is "
        r"0\.353553, the constructor makes 0\.5\n",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_no_config_describes_is_refused_and_nothing_written(case: str, tmp_path: Path) -> None:
    name, build, message = REFUSED[case]
    result = build()
    with pytest.raises(InputError, match=message):
        result.save(tmp_path / "small")
    assert list(tmp_path.iterdir()) == []
    result.save(tmp_path / "small.safetensors")
    assert same(result.model, secateur.load(make(name), tmp_path / "small.safetensors"), name)


def test_a_model_with_an_added_bias_is_refused(tmp_path: Path) -> None:
    result = pruned("t5")
    layer = "encoder.block.0.layer.1.DenseReluDense.wo"
    recovered_(result.model, [Added(f"{layer}.bias", f"{layer}.weight", 0)])
    with pytest.raises(InputError, match=rf"would drop them: {layer}\.bias\nrecover without adding biases, or save it"):
        result.save(tmp_path / "small")
    assert list(tmp_path.iterdir()) == []
    result.save(tmp_path / "small.safetensors")
    assert same(result.model, secateur.load(make("t5"), tmp_path / "small.safetensors"), "t5")


def test_a_recovered_model_without_additions_is_saved(tmp_path: Path) -> None:
    result = pruned("t5")
    recovered_(result.model, recovery=[Recovery("lsq")])
    torch.nn.init.normal_(result.model.encoder.block[0].layer[1].DenseReluDense.wo.weight)
    result.save(tmp_path / "small")
    again = transformers.AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "small")
    assert same(result.model, again, "t5")


def test_a_folder_that_holds_something_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="exists and is not empty; name a new folder"):
        pruned("bert", uniform=True).save(tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["notes.txt"]


WIDTH, HEADS = Attribute("", "config.width"), Attribute("", "config.heads")


def test_whole_quotients_keep_their_history() -> None:
    quotient: Any
    product: Any
    with open_ledger(Ledger(whole=whole)) as ledger:
        width, heads = Num(32, WIDTH), Num(4, HEADS)
        quotient, product = width / heads, Factor(4.0) * width
        assert (quotient.number.expr, product.number.expr) == (
            Arithmetic("//", WIDTH, HEADS),
            Arithmetic("*", WIDTH, 4),
        )
        assert (quotient.number, product.number) == (8, 128)
        assert ledger.escapes == []


@pytest.mark.parametrize(
    ("use", "value"),
    [
        (lambda q: float(q), 8.0),
        (lambda q: q**-0.5, 8**-0.5),
        (lambda q: q + 1, 9.0),
        (lambda q: 2 * q, 16.0),
        (lambda q: f"{q}", "8.0"),
        (lambda q: round(q), 8),
        (lambda q: q > 7, True),
    ],
)
def test_any_other_use_of_a_quotient_escapes(use: Callable[[Any], Any], value: Any) -> None:
    with open_ledger(Ledger(whole=whole)) as ledger:
        quotient = Num(32, WIDTH) / Num(4, HEADS)
        assert isinstance(quotient, Quotient)
        assert use(quotient) == value
    assert any(escape.expr == Arithmetic("//", WIDTH, HEADS) for escape in ledger.escapes)


def test_quotients_that_are_no_whole_numbers_escape_at_once() -> None:
    with open_ledger(Ledger(whole=whole)) as ledger:
        assert Num(32, WIDTH) / Num(5, HEADS) == 6.4
        assert Factor(1.5) * Num(32, WIDTH) == 48.0
    assert [escape.expr for escape in ledger.escapes].count(WIDTH) == 2


def test_other_models_are_saved_to_a_file_without_a_suffix(tmp_path: Path) -> None:
    model = Parts(lambda self, x: self.b(self.a(x)), a=nn.Linear(4, 8), b=nn.Linear(8, 2))
    secateur.prune(model, torch.zeros(1, 4), "channels=0.5").save(tmp_path / "small")
    assert (tmp_path / "small").is_file()
