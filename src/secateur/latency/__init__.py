"""How long a model takes, measured. May import nothing of secateur but `errors` and `base`."""
