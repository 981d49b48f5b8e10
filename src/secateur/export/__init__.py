"""What a pruned model is deployed as: one file per runtime, and a row in `runtimes.RUNTIMES`. May import `files` and
what stands below it. `load_pruned.py` is the code of the runtime `loader`, which is exported as text.
"""
