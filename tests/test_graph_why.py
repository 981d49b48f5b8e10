from __future__ import annotations

import pytest

from nets import graph_of
from secateur.errors import InputError
from secateur.graph_why import why


def test_why_by_axis_parameter_module_and_glob() -> None:
    graph = graph_of("plain_cnn")
    assert why(graph, "conv1.weight").splitlines() == [
        "conv1.weight: 8 x 3 x 3 x 3",
        "  [0] 8  conv1",
        "  [1] 3  frozen: model input",
        "  [2] 3  frozen: kernel size",
        "  [3] 3  frozen: kernel size",
        "",
        "axis conv1: 8 units, exact",
        "  output     conv1.weight[0], conv1.bias[0]",
        "  input      conv2.weight[1]",
        "  scale      bn.weight[0]",
        "  shift      bn.bias[0]",
        "  statistic  bn.running_mean[0], bn.running_var[0]",
    ]
    assert "conv1.bias: 8" in why(graph, "conv1")
    assert "bn.running_mean (buffer): 8" in why(graph, "bn")
    assert {"conv1.weight: 8 x 3 x 3 x 3", "conv2.weight: 12 x 8 x 3 x 3"} <= set(why(graph, "conv*").splitlines())


def test_why_of_an_axis_with_a_number_in_brackets() -> None:
    text = why(graph_of("multihead"), "attn.in_proj_weight[1]")
    assert text.startswith("axis attn.in_proj_weight[1]: 4 units for each of 3, exact\n")
    assert "tied to  embed, attn.in_proj_weight[0]" in text


def test_why_shows_terms_and_the_reasons_of_their_parts() -> None:
    text = why(graph_of("multihead"), "attn.out_proj.weight")
    assert "  [1] 12  3 x attn.in_proj_weight[1]\n          3 frozen: no plan can satisfy the sizes at" in text
    assert "  because  a mean and variance are taken over it (layer_norm" in text


def test_why_of_another_name_of_a_shared_parameter() -> None:
    graph = graph_of("shared")
    alias, first = next(iter(graph.aliases.items()))
    assert why(graph, alias).startswith(f"{first}: ")


def test_an_unknown_name_comes_with_the_nearest() -> None:
    message = r"'conv1.wight' matches no parameter, module or axis; did you mean 'conv1.weight' or 'conv2.weight'"
    with pytest.raises(InputError, match=message):
        graph_of("plain_cnn").why("conv1.wight")
