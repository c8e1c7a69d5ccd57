"""ComfyUI-PatchDiT: a spacetime-patch diffusion transformer on the ComfyUI canvas."""

WEB_DIRECTORY = "./web"


async def comfy_entrypoint():
    """Return the extension that ComfyUI asks for; the nodes are imported only now."""
    from .nodes import PatchDiTExtension

    return PatchDiTExtension()
