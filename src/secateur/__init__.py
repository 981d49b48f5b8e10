from .trace import trace
