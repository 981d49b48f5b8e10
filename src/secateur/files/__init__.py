"""Models in files: saved, loaded, fitted to a bare model, and written as folders that `from_pretrained` reads."""
