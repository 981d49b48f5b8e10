"""Callbacks that prune a model while the trainer of another library trains it.

This package may import everything except `secateur.cli` and `secateur.recipes`. Each module needs its own library, so
import it by its full name. Support for another trainer is a subclass of `in_place.InPlaceCallback`.
"""
