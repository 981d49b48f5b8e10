"""A Hugging Face model on the command line: cut so that its class builds it from a config, and written for it."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from commands import Command
from secateur.files.pretrained import check_rebuilds

transformers: Any = pytest.importorskip("transformers", reason="transformers is not installed (extra hf)")

LLAMA = """
import torch
from transformers import LlamaConfig, LlamaForCausalLM


def llama():
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "pad_token_id": 0}
    heads = {"num_attention_heads": 8, "num_key_value_heads": 4}
    return LlamaForCausalLM(LlamaConfig(vocab_size=90, max_position_embeddings=40, **sizes, **heads))
"""
INPUT = ("--input", "1x7:int64", "--device", "cpu")


@pytest.fixture
def llama(secateur: Command) -> str:
    file = secateur.folder / "llama.py"
    file.write_text(LLAMA)
    return f"{file}:llama"


def test_a_uniform_cut_is_written_for_from_pretrained_too(secateur: Command, llama: str) -> None:
    text = secateur("prune", llama, *INPUT, "--target", "params=0.6", "--uniform", "--out", secateur.folder / "small")
    folder = secateur.folder / "small" / "pretrained"
    assert f"saved {folder}; its class loads it with from_pretrained" in " ".join(text.split())
    again = transformers.LlamaForCausalLM.from_pretrained(folder)
    check_rebuilds(again)
    assert again.config.hidden_size < 32
    assert again.config.hidden_size % again.config.num_attention_heads == 0
    with torch.no_grad():
        assert again(torch.zeros(1, 7, dtype=torch.long)).logits.shape == (1, 7, 90)


def test_a_second_uniform_cut_replaces_the_folder(secateur: Command, llama: str) -> None:
    counts = []
    for target in ("params=0.8", "params=0.6"):
        secateur("prune", llama, *INPUT, "--target", target, "--uniform", "--out", secateur.folder / "small")
        again = transformers.LlamaForCausalLM.from_pretrained(secateur.folder / "small" / "pretrained")
        counts.append(again.num_parameters())
    assert counts[1] < counts[0]


def test_plans_and_graphs_are_uniform(secateur: Command, llama: str) -> None:
    plan = secateur.json("plan", llama, *INPUT, "--target", "channels=0.5", "--uniform")
    assert plan["notes"]["uniform"] == "yes"
    widths = {len(axis["kept"]) for name, axis in plan["axes"].items() if name.endswith("gate_proj")}
    assert widths == {24}
    ties = [secateur("inspect", llama, *INPUT, *flag) for flag in ((), ("--uniform",))]
    assert ties[0] != ties[1]


def test_other_models_cannot_be_uniform(secateur: Command) -> None:
    text = secateur.fails("plan", secateur.net, "--input", "1x1x8x8", "--target", "macs=0.5", "--uniform")
    assert "uniform=True needs a model that its class can build again from a config" in text
