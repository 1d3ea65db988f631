"""Megatron-core and torch as this project needs them: platform, and every patch of their internals."""
