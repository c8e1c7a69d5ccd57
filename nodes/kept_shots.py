"""Finished shots on disk: each lies under what it was asked for and under all it depends on.

T latent frames. A file's name is PLACE.ASKED.KEY.CHECKSUM.safetensors: PLACE in the shot list,
ASKED the digest of the shot itself, KEY of everything that determines it, CHECKSUM of its bytes.
"""

from __future__ import annotations

import logging
import os
import re
import time
from contextlib import suppress
from pathlib import Path

from torch import Tensor

from ..models.journal import checksum, flush, remove
from ..models.tensor_files import read_tensors, save_checkpoint

MOST = 200  # files of one storyboard; of more those unused for longest are deleted
NAME = re.compile(r"\w[\w .-]{0,63}")


class KeptShots:
    """The finished shots of one storyboard, by name in a folder that outlives the process."""

    def __init__(self, parent: Path, name: str):
        if not NAME.fullmatch(name) or name.endswith((".", " ")):
            raise ValueError(
                f"Setting name is {name!r}; need a plain name such as my-story: letters, digits,"
                " spaces, dots, - and _, at most 64."
            )
        self.folder = parent / "storyboards" / name
        self._used: set[Path] = set()  # which nothing that is kept from here on drives out

    def find(self, key: str) -> Tensor | None:
        """The latents_1CTHW that everything determines alike; None if there are none whole."""
        for path in self._files(key=key):
            latent = read(path)
            if latent is not None:
                self._use(path)
                return latent
        return None

    def has(self, asked: str) -> bool:
        """Whether there ever was a shot asked for like this; what `find_asked` may give stays."""
        files = sorted(self._files(asked=asked), key=written)
        last = {place_of(path): path for path in files}
        for path in files:  # in their order, which says what the last take is
            if path == last[place_of(path)]:
                self._use(path)
        return bool(files)

    def find_asked(self, asked: str, place: int) -> tuple[str, Tensor] | None:
        """Key and latents of the last used shot asked for like this, if possible of that place."""
        files = sorted(self._files(asked=asked), key=written)
        for path in sorted(files, key=lambda path: place_of(path) == place)[::-1]:
            latent = read(path)
            if latent is not None:
                self._use(path)
                return path.name.split(".")[2], latent
        return None

    def keep(self, place: int, asked: str, key: str, latent_1CTHW: Tensor) -> None:
        """Write a finished shot, whole or not at all; a full disk is logged and stops nothing."""
        fresh = self.folder / f".{key}.{os.getpid()}.new"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            save_checkpoint(fresh, {"latent": latent_1CTHW})
            flush(fresh)
            name = f"{place}.{asked}.{key}.{checksum(fresh, key)}.safetensors"
            os.replace(fresh, self.folder / name)
            refresh(self.folder / name)
            stale = sorted(self._files(), key=written)[:-MOST]
            remove(path for path in stale if path not in self._used)
        except (OSError, ValueError) as error:
            logging.warning("Shot %d was not kept: %s", place + 1, error)
            remove([fresh])

    def _use(self, path: Path) -> None:
        self._used.add(path)
        refresh(path)

    def _files(self, asked: str = "*", key: str = "*") -> list[Path]:
        return list(self.folder.glob(f"[0-9]*.{asked}.{key}.*.safetensors"))


def read(path: Path) -> Tensor | None:
    """The latents in a file; None, and a warning, if it is not what was written."""
    try:
        key, told = path.name.split(".")[2:4]
        if checksum(path, key) != told:
            raise ValueError("its contents are not those that were written")
        return read_tensors(path, ["latent"])["latent"]
    except (OSError, ValueError) as error:
        logging.warning("The kept shot %s is damaged: %s", path.name, error)
        return None


def place_of(path: Path) -> int:
    return int(path.name.split(".")[0])


def refresh(path: Path) -> None:
    """Make a file the last used; by this clock, as the file system's own may tick in 10 ms."""
    now = time.time_ns()
    with suppress(OSError):  # deleted meanwhile, or somebody else's
        os.utime(path, ns=(now, now))


def written(path: Path) -> int:
    """When a file was written or last used, in nanoseconds."""
    try:
        return path.stat().st_mtime_ns
    except OSError:  # deleted meanwhile
        return 0
