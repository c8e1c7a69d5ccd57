"""The ComfyUI canvas over this pack alone: canvas.py --port 8188 --base-directory DIR"""

import importlib
import sys

from run import load_pack

if __name__ == "__main__":
    pack = load_pack()
    sys.exit(importlib.import_module("patchdit.standalone.server.cli").main(pack.comfy_entrypoint))
