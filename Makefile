# make demo   a sentence becomes a video on this machine's CPU
# make canvas ComfyUI's own canvas in a browser, over this pack alone
# make test   all tests
# make smoke  the canvas in a real browser, each thing that it is for once (minutes)
# make browser the same, everything in every way (slow)
# make check  lint, format, types
# make train  the small model from nothing (hours on a CPU, minutes on a GPU)
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PRESET ?= cpu
PROMPT ?= A red ball moves right in a meadow, the camera stays still.

.PHONY: demo canvas test smoke browser check train clean

demo: $(VENV)/ready
	$(BIN)/python run.py workflows/api/text_to_video.json --set "Prompt.text=$(PROMPT)" --output output

canvas: $(VENV)/ready
	$(BIN)/python canvas.py --base-directory canvas

test: $(VENV)/ready
	$(BIN)/python -m pytest

# Both need Debian's chromium and keep pictures of the canvas in runs/shots; with COMFYUI_PATH browser
# runs against a real ComfyUI too.
smoke browser: export PATCHDIT_SCREENSHOTS ?= runs/shots
smoke: $(VENV)/ready
	$(BIN)/python -m pytest tests/browser --smoke

browser: $(VENV)/ready
	$(BIN)/python -m pytest tests/browser

check: $(VENV)/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

train: $(VENV)/ready
	$(BIN)/python training/train_vae.py --preset $(PRESET) --run runs/vae --out models/weights
	$(BIN)/python training/train_dit.py --preset $(PRESET) --run runs/dit --out models/weights
	$(BIN)/python benchmarks/world_eval.py

# torch first and alone: the pinned version has a CPU build, an open range would pull gigabytes of CUDA.
$(VENV)/ready: requirements.txt constraints.txt pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade --constraint constraints.txt pip setuptools
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch
	PYTHONWARNINGS=ignore $(BIN)/python -m pip install --quiet --constraint constraints.txt --no-build-isolation --editable ".[dev,canvas,text]"
	touch $@

clean:
	rm -rf $(VENV) .pytest_cache .ruff_cache .hypothesis output
