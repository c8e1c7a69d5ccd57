"""Stand-in for ComfyUI's `folder_paths`: the session's folders, model files, names of new files."""

from __future__ import annotations

import mimetypes
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from av.error import FFmpegError

from .host import session
from .schema import FolderType

MODELS = "PATCHDIT_MODELS"  # environment variable: a models folder elsewhere, such as ComfyUI's
MODEL_FILES = (".safetensors", ".sft", ".gguf", ".pt", ".pth", ".ckpt", ".bin")
OLD_NAMES = {"text_encoders": "clip", "diffusion_models": "unet"}


class FileError(ValueError):
    """A file could not be made."""


def get_input_directory() -> str:
    return str(session().input_directory.resolve())


def get_output_directory() -> str:
    return str(session().output_directory.resolve())


def get_temp_directory() -> str:
    return str(session().temp_directory.resolve())


def get_models_directory() -> str:
    """The folder "models" beside the input folder, or the one that PATCHDIT_MODELS names."""
    return os.environ.get(MODELS) or os.path.join(os.path.dirname(get_input_directory()), "models")


def get_filename_list(kind: str) -> list[str]:
    """Model files of a kind ("loras", "vae", "text_encoders", ...), by their path in its folder."""
    names = set()
    for root in _folders_of(kind):
        files = (path for path in root.rglob("*") if path.suffix.lower() in MODEL_FILES)
        names |= {path.relative_to(root).as_posix() for path in files if path.is_file()}
    return sorted(names)


def get_full_path_or_raise(kind: str, name: str) -> str:
    """The path of a file that `get_filename_list` names; else a ValueError says what there is."""
    known = get_filename_list(kind)
    if name not in known:
        raise ValueError(
            f"There is no {name!r} in {_folders_of(kind)[0]}; found"
            f" {', '.join(known[:20]) or 'nothing'}; {MODELS} can name another models folder."
        )
    return str(next(root / name for root in _folders_of(kind) if (root / name).is_file()))


def _folders_of(kind: str) -> list[Path]:
    names = [kind, OLD_NAMES[kind]] if kind in OLD_NAMES else [kind]
    return [Path(get_models_directory()) / name for name in names]


def get_directory(folder: str) -> str:
    """The session's folder of a FolderType."""
    return {
        FolderType.input: get_input_directory,
        FolderType.output: get_output_directory,
        FolderType.temp: get_temp_directory,
    }[FolderType(folder)]()


def get_annotated_filepath(name: str) -> str:
    """The path of "clip.mp4", or of "clip.mp4 [output]" where the name says another folder."""
    match = re.fullmatch(r"(.*) \[(input|output|temp)\]", name)
    name, folder = match.groups() if match else (name, "input")
    return os.path.join(get_directory(folder), name)


def list_input_files(kind: str) -> list[str]:
    """Names of the files in the input folder whose media type is `kind` ("video", "image")."""
    root = Path(get_input_directory())
    files = [path.name for path in root.iterdir() if path.is_file()] if root.is_dir() else []
    return sorted(name for name in files if (mimetypes.guess_type(name)[0] or "").startswith(kind))


def input_file_problem(name: str | None, kind: str) -> bool | str:
    """True, also for a name that a link will bring, or what to tell of a file that is not there."""
    if name is None:
        return True
    path = get_annotated_filepath(str(name))
    known = ", ".join(list_input_files(kind)[:20]) or f"no {kind}"
    return os.path.isfile(path) or f"there is no {kind} {path}; the input folder has: {known}."


def get_save_image_path(
    filename_prefix: str, output_dir: str, image_width: int = 0, image_height: int = 0
) -> tuple[str, str, int, str, str]:
    """Folder (made if missing), file name, first free counter, subfolder and prefix of a new file.

    Files are called name_00001_.ext; %width%, %height%, %year% ... in the prefix are filled in. A
    prefix that leaves `output_dir` is a ValueError.
    """
    prefix = _fill(filename_prefix, image_width, image_height)
    subfolder, name = os.path.split(os.path.normpath(prefix))
    root = Path(output_dir).resolve()
    folder = (root / subfolder).resolve()
    if not folder.is_relative_to(root):
        raise ValueError(f"Prefix {prefix!r} leaves the output folder {root}; need a path inside.")
    with explained(folder):
        folder.mkdir(parents=True, exist_ok=True)
    taken = re.compile(re.escape(name) + r"_(\d+)_", re.IGNORECASE)
    counters = [int(match[1]) for path in os.listdir(folder) if (match := taken.match(path))]
    return str(folder), name, max(counters, default=0) + 1, subfolder, prefix


@contextmanager
def new_file(path: str | Path) -> Iterator[str]:
    """Give a path beside `path` to write to; it becomes `path` only when all went well."""
    path = Path(path)
    partial = path.with_name(f".{path.stem}.partial{path.suffix}")
    try:
        with explained(path):
            yield str(partial)
            os.replace(partial, path)
    finally:
        if os.path.exists(partial):
            os.unlink(partial)


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn what the disk or the encoder says into a FileError about `path`."""
    try:
        yield
    except OSError as error:  # PyAV's errors are OSErrors too where the disk is to blame
        reason = error.strerror or error
        raise FileError(
            f"Cannot write {path} ({reason}); need a folder that is writable and has room."
        ) from error
    except FFmpegError as error:
        raise FileError(
            f"Cannot encode {path} ({error.strerror}); need a size, a frame rate and a sample rate"
            " that H.264 and AAC have."
        ) from error


def _fill(prefix: str, width: int, height: int) -> str:
    values = {"width": str(width), "height": str(height)}
    names = {"year": "%Y", "month": "%m", "day": "%d", "hour": "%H", "minute": "%M", "second": "%S"}
    values |= {name: time.strftime(code) for name, code in names.items()}
    for name, value in values.items():
        prefix = prefix.replace(f"%{name}%", value)
    return prefix
