from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

from secateur.data import figures as module
from secateur.data.figures import HEIGHT, WIDTH, cutout, figures, font_path
from secateur.errors import InputError


@pytest.fixture(autouse=True, scope="module")
def _font_is_here() -> None:
    pytest.importorskip("PIL", reason="Pillow is not installed")
    try:
        figures()
    except InputError as error:
        pytest.skip(str(error))


def test_every_text_is_of_one_figure_only() -> None:
    texts = [text for figure in figures() for text in figure.texts]
    assert len(texts) == len(set(texts)) >= 690
    assert figures() == figures()


@pytest.mark.parametrize("place", [0, 40, 80, -1])
def test_a_cutout_is_a_picture_with_edges(place: int) -> None:
    picture = cutout(figures()[place].texts[0])
    colours, alpha = picture[:3], picture[3]
    assert picture.shape == (4, HEIGHT, WIDTH)
    assert picture.dtype == torch.uint8
    assert 0.1 < (alpha == 255).float().mean() < 0.9
    assert ((alpha > 0) & (alpha < 255)).any()
    assert (colours <= alpha).all()


def test_colours_times_alpha_is_what_the_font_draws_on_black() -> None:
    from PIL import Image, ImageDraw

    text, black = figures()[3].texts[0], Image.new("RGB", (WIDTH, HEIGHT))
    ImageDraw.Draw(black).text((0, 0), text, font=module._font(), embedded_color=True)
    drawn = torch.frombuffer(bytearray(black.tobytes()), dtype=torch.uint8).view(HEIGHT, WIDTH, 3)
    assert torch.equal(cutout(text)[:3].permute(1, 2, 0), drawn)


def test_what_the_font_lacks_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    unknown = [("none", ["\U0001fffe"]), ("two", ["👨\u200d💩"]), ("man", ["👨"])]
    monkeypatch.setattr(module, "_written", lambda: iter(unknown))
    assert [figure.name for figure in figures()] == ["man"]


def test_a_missing_font(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(module, "PLACES", (str(tmp_path),))
    monkeypatch.delenv("SECATEUR_DATA", raising=False)
    with pytest.raises(InputError, match=r"is not on this machine; install it with: apt-get install fonts-noto-color"):
        font_path()


def test_the_font_is_found_in_the_users_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / module.FONT).touch()
    monkeypatch.setenv("SECATEUR_DATA", str(tmp_path))
    assert font_path() == tmp_path / module.FONT


def test_missing_pillow(monkeypatch: pytest.MonkeyPatch) -> None:
    module._font.cache_clear()
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(InputError, match=r"Pillow is not installed; install it with: pip install 'secateur\[vision\]'"):
        figures()


def test_pillow_without_raqm(monkeypatch: pytest.MonkeyPatch) -> None:
    module._font.cache_clear()
    monkeypatch.setattr("PIL.features.check", lambda feature: False)
    with pytest.raises(InputError, match=r"cannot draw emoji sequences: it was built without raqm"):
        figures()
