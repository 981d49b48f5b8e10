from __future__ import annotations

import torch
from torch import nn

import secateur
from secateur.graph.fingerprint import fingerprint_of, of_steps
from secateur.graph.graph import Graph


def graph(width: int = 8, seed: int = 0, activation: nn.Module | None = None) -> Graph:
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(4, width), activation or nn.ReLU(), nn.Linear(width, 2))
    return secateur.trace(model, torch.zeros(1, 4))


def test_the_same_model_has_the_same_hashes() -> None:
    assert fingerprint_of(graph()) == fingerprint_of(graph())
    assert of_steps(graph()) == of_steps(graph())


def test_other_weights_change_the_hash_of_weights_alone() -> None:
    one, other = fingerprint_of(graph()), fingerprint_of(graph(seed=1))
    assert one["weights"] != other["weights"]
    assert one["axes"] == other["axes"]
    assert of_steps(graph()) == of_steps(graph(seed=1))


def test_other_sizes_change_the_hash_of_axes() -> None:
    assert fingerprint_of(graph())["axes"] != fingerprint_of(graph(width=7))["axes"]


def test_other_ops_change_the_hash_of_steps_alone() -> None:
    assert of_steps(graph()) != of_steps(graph(activation=nn.GELU()))
    assert fingerprint_of(graph()) == fingerprint_of(graph(activation=nn.GELU()))
