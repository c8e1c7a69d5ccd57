"""Runs in files that users name: where they lie, and what may go on with them."""

from __future__ import annotations

import logging
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..models.saved_run import SavedRun, can_save, load_run, save_run
from . import host
from .editing import edit_run
from .host.facts import boundary_of
from .sampling import fingerprint_of
from .types import BOUNDARY, Denoising


def save_denoising(run: Denoising, prefix: str) -> Path:
    """Write a run, prompts and all, to the next free file of the output folder; give its path.

    A ValueError where no file can have such a name.
    """
    check_prefix(prefix)
    path = host.new_state_path(prefix)
    guide = {"positive": run.positive, "negative": run.negative, "cfg": run.cfg, "rest": run.rest}
    kept = {name: value for name, value in guide.items() if can_save(value)}
    if len(kept) < len(guide):
        logging.warning(
            "%s is saved without what no file can hold (%s): connect it again on loading.",
            path.name,
            ", ".join(guide.keys() - kept.keys()),
        )
    save_run(path, SavedRun(run.state, kept, fingerprint_of(run)))
    return path


def check_prefix(prefix: str) -> None:
    """ValueError for a NUL or half a character, which no system takes in the name of a file."""
    bad = next((c for c in prefix if c == "\0" or "\ud800" <= c <= "\udfff"), None)
    if bad is not None:
        raise ValueError(
            f"Setting filename_prefix holds {bad!r}, which no file's name can have; type it again."
        )


def load_denoising(
    file: str,
    model: Any,
    positive: list | None = None,
    negative: list | None = None,
    cfg: float | None = None,
    any_model: bool = False,
    vae: Any = None,
    model_low: Any = None,
    boundary: float = BOUNDARY,
) -> Denoising:
    """The run of a file with a model; prompts and cfg as saved where None.

    Other prompts or another cfg are an edit: the solver's history is forgotten. A ValueError for a
    state that another model saved, unless `any_model`.
    """
    path = find_file(file)
    saved = load_run(path)
    models = {"vae": vae, "model_low": model_low, "boundary": boundary or boundary_of(model)}
    begun = Denoising(model, [], [], 1.0, saved.state, {}, **models)
    if saved.fingerprint != fingerprint_of(begun) and not any_model:
        raise ValueError(
            f"{path.name} was saved with other models, LoRAs or boundary than these; connect those,"
            " or set any_model."
        )
    guide = saved.guide
    given = {"positive": positive, "negative": negative}
    missing = [name for name, value in given.items() if value is None and name not in guide]
    if missing:
        raise ValueError(f"{path.name} was saved without its prompts; connect {missing[0]}.")
    if cfg is None and "cfg" not in guide:
        raise ValueError(f"{path.name} was saved without its cfg; set cfg.")
    show, avoid = guide.get("positive", positive), guide.get("negative", negative)
    guided = {"positive": show, "negative": avoid, "cfg": guide.get("cfg", cfg)}
    run = replace(begun, **guided, rest=guide.get("rest", {}))
    if positive is None and negative is None and cfg is None:
        return run
    return edit_run(run, positive, negative, cfg)


def find_file(file: str) -> Path:
    """The path of a file in the output or the input folder; no other file is read."""
    folders = [folder.resolve() for folder in host.state_folders()]
    for folder in folders:
        with suppress(ValueError, OSError, RuntimeError):  # no file can have such a name
            path = (folder / file).resolve()
            if path.is_relative_to(folder) and path.is_file():
                return path
    raise ValueError(
        f"There is no file {file!r} in {' or '.join(map(str, folders))}; give one that Save Denoise"
        " State wrote there."
    )


def file_stamp(file: str | None) -> str:
    """Another text whenever the file is another; empty where there is none, or a link says it."""
    if file is None:
        return ""
    try:
        stat = find_file(file).stat()
    except (ValueError, OSError):
        return ""
    return f"{stat.st_size} {stat.st_mtime_ns}"
