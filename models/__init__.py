"""The mathematics: pure torch, imports and tests without ComfyUI."""
