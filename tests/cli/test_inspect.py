from __future__ import annotations

from commands import SHAPE, Command


def test_axes_are_listed(secateur: Command) -> None:
    text = secateur("inspect", secateur.net, *SHAPE)
    assert "2 prunable axes" in text
    assert "conv1" in text
    assert "conv2" in text


def test_the_text_speaks_of_options(secateur: Command) -> None:
    text = secateur("inspect", secateur.net, *SHAPE)
    assert "--why 'conv1' shows" in text
    assert "graph.why" not in text


def test_json_holds_the_axes(secateur: Command) -> None:
    assert [axis["name"] for axis in secateur.json("inspect", secateur.net, *SHAPE)["axes"]] == ["conv1", "conv2"]


def test_why(secateur: Command) -> None:
    assert "model output" in secateur("inspect", secateur.net, *SHAPE, "--why", "head")
    document = secateur.json("inspect", secateur.net, *SHAPE, "--why", "head.weight")
    (tensor,) = document["why"]["tensors"]
    assert tensor["dims"][0]["stays"][0]["reason"] == "model output"
    assert 0 < document["coverage"]["params"] < 1


def test_why_of_an_unknown_name_gives_the_nearest(secateur: Command) -> None:
    message = secateur.fails("inspect", secateur.net, *SHAPE, "--why", "haed")
    assert "'haed'" in message
    assert "head" in message


def test_inputs_that_the_model_refuses(secateur: Command) -> None:
    message = secateur.fails("inspect", secateur.net, "--input", "1x3x8x8")
    assert "does not run on these example inputs: (1, 3, 8, 8) float32" in message


def test_inputs_of_the_wrong_type(secateur: Command) -> None:
    assert secateur("inspect", secateur.file("words"), "--input", "1x5:int64")
    message = secateur.fails("inspect", secateur.file("words"), "--input", "1x5")
    assert "does not run on these example inputs: (1, 5) float32" in message
