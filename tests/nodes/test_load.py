"""LoadBlockworld: good files, and every kind of bad one."""

from __future__ import annotations

import pickle
import shutil

import pytest
import torch
from safetensors.torch import save_file

from patchdit.models import blockworld
from patchdit.nodes import host, load
from patchdit.nodes.load import LoadBlockworld


@pytest.fixture
def own(weights, tmp_path, monkeypatch):
    """A folder of the user's own weights, listed as "mine"."""
    monkeypatch.setattr(host, "weights_folder", lambda: tmp_path)
    shutil.copytree(weights, tmp_path / "mine")
    return tmp_path / "mine"


def options():
    return LoadBlockworld.GET_NODE_INFO_V1()["input"]["required"]["weights"][1]["options"]


def test_loads_what_training_wrote(own, parts):
    assert options() == ["blockworld-mini", "mine"]
    model, clip, vae = LoadBlockworld.execute("mine").args
    for mine, theirs in ((clip.encoder, parts.text), (vae.first_stage_model, parts.vae)):
        assert all(
            torch.equal(a, b.half().float())  # files hold half the bits
            for a, b in zip(mine.state_dict().values(), theirs.state_dict().values(), strict=True)
        )
    assert host.prepare_latent(model, {"samples": torch.zeros(1, 16, 1, 4, 4)}).shape[1] == 16


def test_half_a_model_is_not_listed(own):
    (own / blockworld.NAMES["vae"]).unlink()
    assert options() == ["blockworld-mini"]
    with pytest.raises(ValueError, match=r"no model 'mine'.*found none"):
        LoadBlockworld.execute("mine")


class Trap:
    """Unpickling this would be noticed."""

    def __reduce__(self):
        return pytest.fail, ("a weights file was unpickled",)


def truncated(path):
    path.write_bytes(path.read_bytes()[:-100])


def cut_in_the_header(path):
    path.write_bytes(path.read_bytes()[:20])


def empty(path):
    path.write_bytes(b"")


def pickled(path):
    path.write_bytes(pickle.dumps(Trap()))


def torch_saved(path):
    torch.save({"weight": torch.zeros(2)}, path)


def foreign(path):
    save_file({"model.something.weight": torch.zeros(2, 2)}, str(path))


@pytest.mark.parametrize("part", ["transformer", "vae", "text"])
@pytest.mark.parametrize(
    "spoil", [truncated, cut_in_the_header, empty, pickled, torch_saved, foreign]
)
def test_bad_files_are_one_sentence(own, part, spoil):
    path = own / blockworld.NAMES[part]
    spoil(path)
    with pytest.raises(ValueError, match=path.name) as caught:
        LoadBlockworld.execute("mine")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("spoil", [truncated, empty, pickled])
def test_a_bad_vocabulary_is_one_sentence(own, spoil):
    path = own / blockworld.NAMES["tokenizer"]
    spoil(path)
    with pytest.raises(ValueError, match=path.name) as caught:
        LoadBlockworld.execute("mine")
    assert "\n" not in str(caught.value)


def test_the_shipped_folder_is_the_default():
    assert load.folder_of("blockworld-mini") == blockworld.FOLDER
