"""The value Plan: the units that stay, and everything that follows from them, as plain data without tensors.

This package may import `terms`, `base` and `errors`, and never torch. `choice.py` holds the data; JSON, checks,
composition and text are operations on it. A new field needs a rule in `check.py` and an entry in `as_json.py`.
"""
