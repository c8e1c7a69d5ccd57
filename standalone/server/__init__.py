"""The real ComfyUI canvas over the standalone executor: a preview host for this pack alone.

`make canvas` serves the unmodified frontend of the package
comfyui-frontend-package on 127.0.0.1, and answers what it asks for.
"""
