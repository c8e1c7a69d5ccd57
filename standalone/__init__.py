"""What stands in for ComfyUI when it is not there."""
