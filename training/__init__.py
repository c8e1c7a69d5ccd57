"""The procedural world and the training of blockworld-mini on it."""
