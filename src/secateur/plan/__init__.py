"""The value Plan: which units stay, and everything that follows from it. Plain data without tensors: it may import
`terms` and `base`, and never torch. `choice.py` is the data; JSON, checks, composition and text are operations on it.
"""
