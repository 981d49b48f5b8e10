"""People as cut-outs with exact alpha: the emoji of the font Noto Color Emoji.

A figure is a role, such as the cook: its man, its woman and its skin tones are near-copies of one drawing, so a split
into training and test keeps all of them on one side. Unicode Technical Standard 51, "Unicode Emoji",
says how the sequences are written. Nothing is downloaded; the font is a package of Debian.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from secateur.errors import InputError

if TYPE_CHECKING:
    from PIL.ImageFont import FreeTypeFont

FONT = "NotoColorEmoji.ttf"
PLACES = ("/usr/share/fonts/truetype/noto", "/usr/share/fonts/noto")
INSTALL = "apt-get install fonts-noto-color-emoji"
STRIKE = 109
"""The only size for which the font has pictures: 136 x 128 pixels."""

WIDTH, HEIGHT = 136, 128

TONES = ("", *map(chr, range(0x1F3FB, 0x1F400)))
JOINER, AS_PICTURE = "\u200d", "\ufe0f"
GENDERS = ("", *(JOINER + sign + AS_PICTURE for sign in "♀♂"))
ADULTS = "🧑👨👩"

WITH_TONE_AND_GENDER = (
    "👱🧔👮🕵💂👷👳👰🤵🦸🦹🧙🧚🧛🧜🧝🧞🧟💆💇🚶🧍🧎🏃🧖🧗🏌🏄🚣🏊⛹🏋🚴🚵🤸🤽🤾🤹🧘🙍🙎🙅🙆💁🙋🧏🙇🤦🤷👯🤼"
)
ALONE = "👶🧒👦👧🧑👨👩🧓👴👵🥷🤴👸👲🧕🤰🤱👼🎅🤶🧌💃🕺🕴🤺🏇⛷🏂🛀🫃🫄🫅👫👬👭💏💑"
TRADES = "⚕⚖✈🌾🍳🍼🎓🎤🎨🏫🏭💻💼🔧🔬🚀🚒🦯🦼🦽🦰🦱🦳🦲🎄"


@dataclass(frozen=True, slots=True)
class Figure:
    """A role, and the strings that are drawn as pictures of it."""

    name: str
    texts: tuple[str, ...]


def figures() -> list[Figure]:
    """Return the people that the font draws, always in the same order. Raises `InputError` without font or Pillow.

    A sequence without a picture of its own would be drawn as several pictures, so it is detected by its width.
    """
    font = _font()
    drawn = (Figure(name, tuple(t for t in texts if font.getlength(t) <= WIDTH)) for name, texts in _written())
    return [figure for figure in drawn if figure.texts and _is_known(font, figure.texts[0])]


def cutout(text: str) -> Tensor:
    """Return one picture as (4, 128, 136) uint8: red, green and blue, each times alpha, and alpha.

    On transparent black, Pillow draws exactly the colours times alpha, and alpha.
    """
    from PIL import Image, ImageDraw

    picture = Image.new("RGBA", (WIDTH, HEIGHT))
    ImageDraw.Draw(picture).text((0, 0), text, font=_font(), embedded_color=True)
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1).contiguous()


def font_path() -> Path:
    """Return the path of the font: under SECATEUR_DATA, or as Debian installs it. Raises `InputError` if missing."""
    places = [Path(place, FONT) for place in (os.environ.get("SECATEUR_DATA"), *PLACES) if place]
    for place in places:
        if place.is_file():
            return place
    looked = "".join(f"\n  {place}" for place in places)
    raise InputError(f"{FONT} is not on this machine; install it with: {INSTALL}\nlooked in:{looked}")


@lru_cache(maxsize=1)
def _font() -> FreeTypeFont:
    try:
        from PIL import ImageFont, features
    except ImportError as error:
        raise InputError("Pillow is not installed; install it with: pip install 'secateur[vision]'") from error
    if not features.check("raqm"):
        raise InputError(
            "this Pillow cannot draw emoji sequences: it was built without raqm\n"
            "install one from PyPI, which has it: pip install --force-reinstall pillow"
        )
    return ImageFont.truetype(str(font_path()), STRIKE, layout_engine=ImageFont.Layout.RAQM)


def _is_known(font: FreeTypeFont, text: str) -> bool:
    """Return whether the drawing is not empty: a font draws nothing for an unknown sequence."""
    _, top, _, bottom = font.getbbox(text)
    return bottom > top


def _written() -> Iterator[tuple[str, list[str]]]:
    """Yield every role and the sequences that may represent it, whether a font draws them or not."""
    for person in WITH_TONE_AND_GENDER:
        yield person, [person + tone + gender for tone, gender in itertools.product(TONES, GENDERS)]
    for person in ALONE:
        yield person, [person + tone for tone in TONES]
    for trade in TRADES:
        sign = trade + (AS_PICTURE if trade in "⚕⚖✈" else "")
        yield trade, [adult + tone + JOINER + sign for adult, tone in itertools.product(ADULTS, TONES)]


__all__ = ["HEIGHT", "INSTALL", "WIDTH", "Figure", "cutout", "figures", "font_path"]
