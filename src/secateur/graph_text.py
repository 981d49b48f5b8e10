"""How a Graph prints, and what it says when asked why."""

from __future__ import annotations
