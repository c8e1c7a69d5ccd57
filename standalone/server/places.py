"""The folders that the canvas may see, and paths that stay inside them."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

FORBIDDEN = re.compile(r'[\x00-\x1f\x7f\\:*?"<>|]')  # on some system a path's own signs

ANNOTATED = re.compile(r"(.*) \[(input|output|temp)\]", re.DOTALL)  # as canvases name files


class OutsideError(ValueError):
    """A path that does not stay inside its folder."""


@dataclass(frozen=True)
class Folders:
    """Where one preview host keeps things: `base` is laid out as ComfyUI's base directory is.

    `temp` is for what need not outlive the host.
    """

    base: Path
    temp: Path

    @property
    def user(self) -> Path:
        return self.base / "user" / "default"

    @property
    def by_type(self) -> dict[str, Path]:
        """The folders that nodes read and write, under the names that the canvas gives them."""
        return {"input": self.base / "input", "output": self.base / "output", "temp": self.temp}

    def find(self, name: str, kind: str = "input", subfolder: str = "") -> Path:
        """Where a node's file lies; "clip.mp4 [output]" names its own folder."""
        if match := ANNOTATED.fullmatch(name):
            name, kind = match.groups()
        if kind not in self.by_type:
            raise OutsideError(f"Type is {kind[:40]!r}; need input, output or temp.")
        return inside(self.by_type[kind], f"{subfolder}/{name}" if subfolder else name)

    def make(self) -> None:
        """Make what is missing."""
        names = ("workflows", "subgraphs")
        for folder in (*(self.user / name for name in names), *self.by_type.values()):
            folder.mkdir(parents=True, exist_ok=True)


def inside(root: Path, name: str) -> Path:
    """The path of `name` under `root`, links followed; an OutsideError if it leads out.

    Also refused, on every system: absolute names, "..", a drive, and signs that Windows forbids.
    """
    root = root.resolve()
    parts = name.split("/")
    if FORBIDDEN.search(name) or ".." in parts or not name.strip("/.") or name.startswith("/"):
        raise OutsideError(f"{name[:200]!r} is no path inside a folder; need a plain file name.")
    try:
        path = (root / name).resolve()
    except (OSError, RuntimeError, UnicodeError) as error:  # links in a ring, half a character
        raise OutsideError(f"{name[:200]!r} is no path that the disk knows.") from error
    if not path.is_relative_to(root):
        raise OutsideError(f"{name[:200]!r} leads out of its folder; need a file inside.")
    return path


@contextmanager
def emptied(folder: Path) -> Iterator[Path]:
    """A folder for a while: what is left in it from before goes first, and all of it in the end."""
    shutil.rmtree(folder, ignore_errors=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def drop_oldest(folder: Path, most: int) -> None:
    """Delete the files under a folder that were written longest ago, down to `most` bytes."""
    with suppress(OSError):  # one has gone, or Windows keeps what somebody watches: next time
        files = [(path, path.stat()) for path in folder.rglob("*") if path.is_file()]
        files.sort(key=lambda file: file[1].st_mtime_ns, reverse=True)
        for path, stat in files:
            most -= stat.st_size
            if most < 0:
                path.unlink()


def write_whole(path: Path, data: bytes) -> None:
    """Write a file so that a kill or a full disk leaves the old one or the new one, never half."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, partial = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=".partial")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except BaseException:
        os.unlink(partial)
        raise
