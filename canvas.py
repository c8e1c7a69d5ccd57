"""The ComfyUI canvas over this pack alone: canvas.py --port 8188 --base-directory DIR"""

import importlib
import os
import sys

from run import load_pack

if __name__ == "__main__":
    # Of the largest picture that a page may have opened; OpenCV reads this when it is loaded.
    os.environ.setdefault("OPENCV_IO_MAX_IMAGE_PIXELS", str(10**8))
    pack = load_pack()
    main = importlib.import_module("patchdit.standalone.server.cli").main
    replaced = importlib.import_module("patchdit.nodes.replacements").REPLACED
    sys.exit(main(pack.comfy_entrypoint, replaced))
