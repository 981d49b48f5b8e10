"""Hugging Face models cut uniformly: what a config checks of itself is met, and the class builds the result again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import secateur
from families import FAMILIES
from secateur import Select, TargetError
from secateur.anatomy.calls import Call
from secateur.base.nested import changed, tensors_in

transformers: Any = pytest.importorskip("transformers", reason="transformers is not installed (extra hf)")
transformers.logging.disable_progress_bar()

IDS = torch.randint(3, 90, (2, 7), generator=torch.Generator().manual_seed(0))
CALL = {"input_ids": IDS}


def decoder(name: str = "Llama", heads: int = 8, hidden: int = 64, **options: Any) -> Any:
    sizes = {"hidden_size": hidden, "intermediate_size": 2 * hidden, "num_hidden_layers": 2, "pad_token_id": 0}
    kind, config = (getattr(transformers, f"{name}{what}") for what in ("ForCausalLM", "Config"))
    options = {"num_key_value_heads": 4, **options}
    torch.manual_seed(0)
    return kind(config(vocab_size=97, num_attention_heads=heads, max_position_embeddings=64, **sizes, **options)).eval()


def loads(result: Any, folder: Path, call: Any = CALL) -> Any:
    """The config of what transformers alone loads, which computes exactly the same."""
    result.model.save_pretrained(folder)
    again = type(result.model).from_pretrained(folder)
    with torch.no_grad():
        one, two = (tensors_in(Call.of(call).run(model)) for model in (result.model, again))
    assert all(torch.equal(x, y) for x, y in zip(one, two, strict=True))
    return again.config


SELECTS = {"nothing": None, "align": Select(align=8), "all": "*: align=8", "one": "model.embed_tokens: align=32"}


@pytest.mark.parametrize("target", ["macs=0.5", "params=0.7"])
@pytest.mark.parametrize("select", SELECTS)
@pytest.mark.parametrize(("heads", "hidden"), [(8, 64), (32, 256)])
def test_a_hidden_size_stays_a_multiple_of_the_heads(
    heads: int, hidden: int, select: str, target: str, tmp_path: Path
) -> None:
    model = decoder("Llama", heads, hidden)
    config = loads(secateur.prune(model, CALL, target, uniform=True, select=SELECTS[select]), tmp_path)
    assert config.hidden_size < hidden
    assert config.hidden_size % config.num_attention_heads == 0
    assert config.num_attention_heads % config.num_key_value_heads == 0


@pytest.mark.parametrize("name", ["Llama", "Qwen2", "Mistral"])
@pytest.mark.parametrize(("select", "target"), [("kind=head: keep=0.5", None), (None, "channels=0.5")])
def test_grouped_queries_are_halved(name: str, select: str | None, target: str | None, tmp_path: Path) -> None:
    config = loads(secateur.prune(decoder(name), CALL, target, uniform=True, select=select), tmp_path)
    assert (config.num_attention_heads, config.num_key_value_heads) == (4, 2)


@pytest.mark.parametrize("select", [Select(align=8), "*: align=8", "model.layers.*: align=8"])
def test_alignment_is_about_widths(select: Any) -> None:
    result = secateur.prune(decoder(), CALL, "channels=0.75", uniform=True, select=select)
    config = result.model.config
    assert (config.num_attention_heads, config.num_key_value_heads) == (6, 3)
    assert config.intermediate_size % 8 == 0


@pytest.mark.parametrize("select", ["kind=head: align=2", "axis=model.layers.0.self_attn.q_proj: align=2"])
def test_heads_are_aligned_by_rules_that_name_them(select: str) -> None:
    result = secateur.prune(decoder(), CALL, "channels=0.75", uniform=True, select=select)
    assert result.model.config.num_key_value_heads == 2


def test_caches_are_no_outputs() -> None:
    model = decoder()
    cache = model(**CALL).past_key_values
    assert len(tensors_in(cache.layers[0])) == 2
    assert tensors_in({"cache": cache}) == []
    assert changed(cache, lambda t: t.double()).layers[0].keys.dtype == torch.float64
    assert secateur.trace(model, CALL).axis("model.layers.0.self_attn.q_proj[0]").size == 4


MASK = {**CALL, "attention_mask": (torch.arange(7) > 2).long() * torch.ones(2, 1, dtype=torch.long)}


@pytest.mark.parametrize("name", ["Llama", "Qwen2", "Mistral"])
@pytest.mark.parametrize("calls", [(), (MASK,)])
def test_query_groups_follow_heads_that_are_cut_layer_by_layer(name: str, calls: Any) -> None:
    model = decoder(name, heads=12, hidden=96, num_key_value_heads=4)
    result = secateur.prune(model, CALL, "params=0.9", select="kind=head: only", calls=calls)
    for layer in result.model.model.layers:
        attn = layer.self_attn
        assert attn.num_key_value_groups == attn.q_proj.out_features // attn.k_proj.out_features
    assert result.plan.after.params < result.plan.before.params
    result.model(**MASK)
    assert secateur.verify(model, result.model, result.plan, CALL, calls=[MASK]).passed


def stablelm() -> Any:
    """Its `head_dim` is `hidden_size // num_heads`, which is another number where only heads are cut."""
    config = {"hidden_size": 72, "intermediate_size": 48, "num_attention_heads": 9, "num_key_value_heads": 3}
    kind = transformers.StableLmForCausalLM
    return kind(transformers.StableLmConfig(vocab_size=97, num_hidden_layers=2, **config)).eval()


def bigcode() -> Any:
    """Keeps the number of its heads in an attribute that no call reads."""
    config = {"n_embd": 48, "n_layer": 2, "n_head": 6, "n_positions": 64, "bos_token_id": 1, "eos_token_id": 1}
    return transformers.GPTBigCodeForCausalLM(transformers.GPTBigCodeConfig(vocab_size=97, **config)).eval()


@pytest.mark.parametrize("build", [stablelm, bigcode])
def test_query_groups_follow_where_the_constructor_computes_the_head_size(build: Any) -> None:
    model = build()
    result = secateur.prune(model, CALL, "params=0.9", select="kind=head: only", outputs=lambda o: o.logits)
    groups = [m.num_key_value_groups for m in result.model.modules() if hasattr(m, "num_key_value_groups")]
    before = [m.num_key_value_groups for m in model.modules() if hasattr(m, "num_key_value_groups")]
    assert all(a < b for a, b in zip(groups, before, strict=True))
    assert not [name for name in str(result.plan.notes.get("unread", "")).split() if "groups" in name]
    checked = secateur.verify(model, result.model, result.plan, CALL, calls=[MASK], outputs=lambda o: o.logits)
    assert checked.passed


def test_integers_that_follow_are_listed_in_the_plan() -> None:
    graph = secateur.trace(decoder(), CALL)
    known = {str(attribute) for attribute in graph.sizes.attributes}
    assert {"model.layers.0.self_attn.num_key_value_groups", "model.layers.0.hidden_size"} <= known
    assert graph.sizes.unread == ()


TARGETS = ("macs=0.5", "params=0.7", "channels=0.75")
FAST = {("bert", "params=0.7"), ("gemma2", "channels=0.75"), ("vit", "macs=0.5"), ("gpt2", "params=0.7")}
PLACES = "the position of a unit matters"  # of a head, in the slopes of ALiBi; the hidden size is a multiple of them
OUT_OF_REACH = {
    **{("bloom", target): PLACES for target in TARGETS},
    **{("gpt_bigcode", target): "cannot be reached" for target in TARGETS},  # the fused keys and values are of one head
    ("bart", "macs=0.5"): "one unit is selected",  # hidden states are given back, so the width stays
    ("whisper", "macs=0.5"): "cannot be reached",
    ("clip", "macs=0.5"): "cannot be reached",  # the head sizes are in the scale of the scores
    ("siglip", "macs=0.5"): "cannot be reached",
    ("dinov2", "macs=0.5"): "cannot be reached",
}
CASES = [
    pytest.param(name, target, marks=[] if (name, target) in FAST else pytest.mark.slow)
    for name in FAMILIES
    for target in TARGETS
]


@pytest.mark.parametrize(("name", "target"), CASES)
def test_a_family_is_cut_saved_and_loaded_by_transformers_alone(name: str, target: str, tmp_path: Path) -> None:
    model, call = FAMILIES[name].build(), FAMILIES[name].call()
    if (name, target) in OUT_OF_REACH:
        with pytest.raises(TargetError, match=OUT_OF_REACH[name, target]):
            secateur.prune(model, call, target, uniform=True)
        return
    result = secateur.prune(model, call, target, uniform=True)
    loads(result, tmp_path, call)
    before, after = result.plan.before, result.plan.after
    kind, share = target.split("=")
    assert after.params < before.params
    assert kind == "channels" or getattr(after, kind) <= float(share) * getattr(before, kind)
