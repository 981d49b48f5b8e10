"""Pruning inside other people's trainers. Each module needs its own library and is imported by its full name."""
