"""What ComfyUI's registry reads of the pack is all there, and installing it pins nothing."""

from __future__ import annotations

import re
import runpy
from pathlib import Path
from xml.etree import ElementTree

import pytest
from setuptools.config.pyprojecttoml import read_configuration

ROOT = Path(__file__).resolve().parents[1]
NAME = re.compile(r"[A-Za-z](?:[-_.]?[A-Za-z0-9])*")  # letters first, no two other signs in a row
RAW = "https://raw.githubusercontent.com/"
SYSTEMS = ("OS Independent", "Microsoft", "POSIX", "MacOS")
ACCELERATORS = {
    "GPU :: NVIDIA CUDA",
    "GPU :: AMD ROCm",
    "GPU :: Intel Arc",
    "GPU :: Apple Metal",
    "NPU :: Huawei Ascend",
}


@pytest.fixture(scope="module")
def config() -> dict:
    """pyproject.toml, refused where setuptools could not install by it."""
    return read_configuration(ROOT / "pyproject.toml")


def classifiers(config: dict, kind: str) -> list[str]:
    """What is said of one kind. One unknown entry makes the registry ignore all of its kind."""
    told = config["project"]["classifiers"]
    return [one.removeprefix(f"{kind} :: ") for one in told if one.startswith(f"{kind} ::")]


def test_the_pack_says_what_it_is(config):
    project = config["project"]
    assert NAME.fullmatch(project["name"]) and len(project["name"]) < 100
    assert re.fullmatch(r"\d+\.\d+\.\d+", project["version"])
    assert 40 < len(project["description"]) < 200
    assert (ROOT / project["license"]["file"]).read_text(encoding="utf-8")
    assert (ROOT / project["readme"]).is_file()
    assert project["requires-python"] == ">=3.10"


def test_the_pack_says_where_it_runs(config):
    systems = classifiers(config, "Operating System")
    assert systems and all(one.startswith(SYSTEMS) for one in systems)
    accelerators = set(classifiers(config, "Environment"))
    assert "GPU :: NVIDIA CUDA" in accelerators and accelerators <= ACCELERATORS
    (least,) = re.findall(r">=(\d+)\.(\d+)\.\d+", config["tool"]["comfy"]["requires-comfyui"])
    assert tuple(map(int, least)) >= (0, 21)


def test_the_pack_says_whose_it_is(config):
    comfy, urls = config["tool"]["comfy"], config["project"]["urls"]
    assert comfy["PublisherId"] and comfy["DisplayName"]
    repository = urls["Repository"]
    assert re.fullmatch(r"https://github\.com/[\w-]+/[\w.-]+", repository)
    assert {"Documentation", "Bug Tracker"} <= urls.keys()
    assert all(url.startswith(repository) for url in urls.values())


@pytest.mark.parametrize(("field", "shape", "most"), [("Icon", 1, 400), ("Banner", 21 / 9, 1000)])
def test_pictures_are_in_the_repository_and_of_the_shape_asked_for(config, field, shape, most):
    url, repository = config["tool"]["comfy"][field], config["project"]["urls"]["Repository"]
    owner = repository.removeprefix("https://github.com/")
    assert url.startswith(f"{RAW}{owner}/main/")
    path = ROOT / url.removeprefix(f"{RAW}{owner}/main/")
    assert path.stat().st_size < 30_000
    picture = ElementTree.parse(path).getroot()
    width, height = int(picture.get("width", 0)), int(picture.get("height", 0))
    assert picture.tag == "{http://www.w3.org/2000/svg}svg" and len(picture) > 50
    assert width <= most and width / height == pytest.approx(shape)
    drawn = runpy.run_path(str(ROOT / "docs" / "icon.py"))[field.lower()]()
    assert path.read_text(encoding="utf-8") == drawn, "run: python docs/icon.py"


def test_installing_changes_no_version_that_is_there(config):
    """Names alone: pip leaves what is installed already, whatever its version."""
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").split("\n")
    needed = [line for line in lines if line]
    assert {"torch", "opencv-python"} <= set(needed)
    assert all(NAME.fullmatch(line) for line in needed), needed
    assert config["project"]["dependencies"] == needed
    extras = config["project"]["optional-dependencies"].values()
    assert all(NAME.fullmatch(name) for names in extras for name in names)
