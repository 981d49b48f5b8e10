"""Measure how long models take.

This package imports no other package of secateur. A new measure is a function like `timing.timings`, which takes models
and inputs and returns one value for each model.
"""
