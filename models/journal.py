"""Runs on disk: atomic, checksummed states that a run killed at any step goes on from.

A state lies under the key of its run and the sha256 of its own bytes, both in the file's name, so
a file that is cut short, damaged or put there by hand is seen before anything of it is believed.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from .digests import digest
from .flow import DenoiseState
from .state_files import load_state, save_state

KEEP_DAYS = 14
UNFINISHED_HOURS = 1
OURS = re.compile(r"\.?[0-9a-f]{32}\..*\.(safetensors|damaged|new|part)")


def run_key(fingerprint: str, prompts: object, state: DenoiseState, until: int) -> str:
    """What names a run up to step `until`: a sha256 over all that its outcome depends on.

    `fingerprint` is the weights' and their patches', `prompts` whatever guides (conditioning,
    cfg), `state` the run before the first step that is to be journaled.
    """
    return digest((fingerprint, prompts, state, until))[:32]


class Journal:
    """The states of runs under way, in a folder that outlives the process.

    A state is written at most every `seconds` (0: after every step) and after a run's last step.
    Nothing that goes wrong here stops a run: it is logged, and the run goes on without.
    """

    def __init__(self, folder: str | Path, seconds: float = 5.0):
        self.folder = Path(folder)
        self.seconds = seconds
        self._written = time.monotonic()
        self._steps: dict[str, int | None] = {}  # of each run's key, the step that was written
        self._sweep()

    def load(self, key: str) -> DenoiseState | None:
        """The furthest state of a run; None if there is none that is whole."""
        whole = [state for path in self._files(key) if (state := self._read(path, key))]
        found = max(whole, key=lambda state: state.step, default=None)
        self._steps[key] = None if found is None else found.step
        if found is not None:
            total = len(found.sigmas) - 1
            logging.info("Going on after step %d of %d of an earlier run.", found.step, total)
        return found

    def keep(self, key: str, state: DenoiseState, last: bool = False) -> None:
        """Write a state if it is time to, or the run's last."""
        if last or time.monotonic() - self._written >= self.seconds:
            self.save(key, state)

    def keep_last(self, key: str, state: DenoiseState) -> None:
        """Write the state of a run that breaks off (a cancel, an error), if it is not there yet."""
        if self._steps.get(key) != state.step:
            self.save(key, state)

    def save(self, key: str, state: DenoiseState) -> None:
        """Write a state, whole or not at all, in place of the run's earlier ones."""
        self._steps.setdefault(key, None)
        if not state.x.isfinite().all():
            logging.warning("Step %d is no numbers: it is not kept in the journal.", state.step)
            return
        earlier = self._files(key)
        fresh = self.folder / f"{key}.{os.getpid()}.new"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            save_state(state, fresh)
            flush(fresh)
            path = self.folder / f"{key}.{checksum(fresh, key)}.safetensors"
            os.replace(fresh, path)
            remove(file for file in earlier if file != path)
            self._steps[key] = state.step
        except (OSError, ValueError) as error:
            logging.warning("Step %d was not written to the journal: %s", state.step, error)
            remove([fresh])
        self._written = time.monotonic()

    def forget(self, keys: Iterable[str]) -> None:
        """Delete the states of these runs, and the folder once it is empty."""
        remove(path for key in keys for path in self._files(key))
        with suppress(OSError):  # it holds others' states, or never was
            self.folder.rmdir()

    def finish(self) -> None:
        """Forget every run that was loaded or saved here: what they were for is done."""
        self.forget(self._steps)
        self._steps.clear()

    def _files(self, key: str) -> list[Path]:
        return list(self.folder.glob(f"{key}.*.safetensors"))

    def _read(self, path: Path, key: str) -> DenoiseState | None:
        """The state in a file; a file that is not what its name says is set aside."""
        try:
            if path.name != f"{key}.{checksum(path, key)}.safetensors":
                raise ValueError("its contents are not those that were written")
            return load_state(path)
        except (OSError, ValueError) as error:
            aside = path.with_suffix(".damaged")
            logging.warning("The journal's %s is set aside as %s: %s", path.name, aside, error)
            with suppress(OSError):
                os.replace(path, aside)
            return None

    def _sweep(self) -> None:
        """Delete what runs left behind that nobody came back to."""
        with suppress(OSError):  # most often there is no folder yet
            remove([path for path in self.folder.iterdir() if is_old(path)])


def is_old(path: Path) -> bool:
    """Whether a file of a journal's has lain for too long; any other file is nobody's business."""
    if not OURS.fullmatch(path.name):
        return False
    unfinished = path.suffix in (".new", ".part")
    hours = UNFINISHED_HOURS if unfinished else 24 * KEEP_DAYS
    return path.stat().st_mtime < time.time() - 3600 * hours


def remove(paths: Iterable[Path]) -> None:
    """Delete files; one that cannot be is left for the next sweep."""
    for path in paths:
        with suppress(OSError):
            path.unlink()


def flush(path: Path) -> None:
    """Have a file's bytes on the disk, so that a power cut cannot keep its name alone."""
    with path.open("r+b") as file:
        os.fsync(file.fileno())


def checksum(path: Path, key: str) -> str:
    """The first half of the sha256, as hexadecimal, of a key and a file's bytes."""
    hashed = hashlib.sha256(key.encode())
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            hashed.update(block)
    return hashed.hexdigest()[:32]
