"""Recipes: well-known pruning methods as short scripts over the public API, run by `secateur recipe NAME`.

A recipe may import every package except the command line. To add one, write a module with `NAME`, `SOURCE` and
`run(options, **flags) -> Result`, and name it in `RECIPES`. Flags are keyword parameters whose annotations are typer
options; the first line of the docstring is shown in the list of recipes. Recipes are imported only when they run, and
optional libraries (torchvision, transformers) are imported inside functions.
"""

from __future__ import annotations

import importlib
from types import ModuleType

from secateur.base.table import Table
from secateur.errors import InputError, nearest

RECIPES: Table[str, str] = Table(
    "recipes named",
    {
        "taylor": "secateur.recipes.taylor",
        "l1-filters": "secateur.recipes.l1_filters",
        "slimming": "secateur.recipes.slimming",
        "masked-mlp": "secateur.recipes.masked_mlp",
        "masked-convnet": "secateur.recipes.masked_convnet",
        "magnitude": "secateur.recipes.magnitude",
        "torch-pruning": "secateur.recipes.torch_pruning",
        "modnet": "secateur.recipes.modnet",
    },
)
"""The name of a recipe -> its module."""


def load_recipe(name: str) -> ModuleType:
    """Return the module of a recipe. Raises `InputError` for an unknown name.

    >>> load_recipe("slimmming")
    Traceback (most recent call last):
        ...
    secateur.errors.InputError: no recipe 'slimmming'; did you mean 'slimming'?
    known: taylor, l1-filters, slimming, masked-mlp, masked-convnet, magnitude, torch-pruning, modnet
    """
    if name not in RECIPES:
        raise InputError(f"no recipe {name!r}{nearest(name, RECIPES)}\nknown: {', '.join(RECIPES)}")
    return importlib.import_module(RECIPES[name])


__all__ = ["RECIPES", "load_recipe"]
