"""Recipes: the well-known ways to prune, each a short script over the public API, run by `secateur recipe NAME`.

A recipe is a module with `NAME`, `SOURCE` and `run(options, **flags) -> Result`; the flags are keyword parameters whose
annotations are typer options. The first line of its docstring is what the list of recipes says of it. Recipes are
imported when they run, and they import libraries that not everybody has (torchvision, transformers) later still.
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
    """The module of a recipe. Raises `InputError` for an unknown name.

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
