"""Journal, run_key, digests and saved runs: what is on disk is believed only if it is whole."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import time
from dataclasses import fields, replace
from fractions import Fraction
from functools import partial

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from patchdit.models import digests
from patchdit.models.digests import digest, digest_weights
from patchdit.models.flow import DenoiseState, denoise, shifted_sigmas, start
from patchdit.models.journal import Journal, run_key
from patchdit.models.saved_run import DIGEST_KEY, RUN_KEY, SavedRun, can_save, load_run, save_run
from patchdit.models.state_files import STATE_KEY
from patchdit.models.tensor_files import read_metadata

KEY, OTHER = "0" * 31 + "1", "0" * 31 + "2"


def halve(x, sigma):
    """A denoiser that any run can be taken further with."""
    return x / 2


def state_after(steps, solver="unipc"):
    mask = torch.ones(1, 1, 2, 2, 2)
    mask[:, :, 0] = 0
    latent = torch.arange(16.0).reshape(1, 2, 2, 2, 2)
    return denoise(start(latent, mask, shifted_sigmas(5), 3, solver=solver), halve, steps)


def same(a: DenoiseState, b: DenoiseState) -> bool:
    return digest(a) == digest(b)


def files(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("solver", ["euler", "unipc"])
@pytest.mark.parametrize("steps", [0, 3, 5])
def test_a_state_comes_back_bit_for_bit(tmp_path, solver, steps):
    state = state_after(steps, solver)
    Journal(tmp_path).save(KEY, state)
    again = Journal(tmp_path).load(KEY)
    assert again is not None and same(again, state)
    for field in fields(DenoiseState):
        ours, theirs = getattr(again, field.name), getattr(state, field.name)
        assert torch.equal(ours, theirs) if torch.is_tensor(ours) else type(ours) is type(theirs)
    assert torch.equal(denoise(again, halve).x, denoise(state, halve).x)


def test_a_run_has_one_file_its_latest(tmp_path):
    journal = Journal(tmp_path / "new" / "folder")
    assert journal.load(KEY) is None and not journal.folder.exists()
    for steps in (1, 2, 2):
        journal.save(KEY, state_after(steps))
    journal.save(OTHER, state_after(4))
    assert len(files(journal.folder)) == 2
    assert [state.step for k in (KEY, OTHER) if (state := journal.load(k))] == [2, 4]


def test_killed_between_two_files_the_later_state_counts(tmp_path):
    journal = Journal(tmp_path)
    journal.save(KEY, state_after(3))
    (newest,) = tmp_path.iterdir()
    held = newest.read_bytes()
    journal.save(KEY, state_after(1))
    newest.write_bytes(held)
    found = journal.load(KEY)
    assert len(files(tmp_path)) == 2 and found is not None and found.step == 3


def cut(path):
    path.write_bytes(path.read_bytes()[:-7])


def flip(path):
    content = bytearray(path.read_bytes())
    content[-9] ^= 1
    path.write_bytes(content)


def empty(path):
    path.write_bytes(b"")


def of_another_run(path):
    journal = Journal(path.parent)
    journal.save(OTHER, state_after(4))
    (other,) = path.parent.glob(f"{OTHER}.*")
    other.replace(path.parent / other.name.replace(OTHER, KEY))
    path.unlink()


@pytest.mark.parametrize("damage", [cut, flip, empty, of_another_run])
def test_what_is_damaged_or_foreign_is_set_aside(tmp_path, damage, caplog):
    journal = Journal(tmp_path)
    journal.save(KEY, state_after(3))
    (path,) = tmp_path.iterdir()
    damage(path)
    assert journal.load(KEY) is None
    assert "set aside" in caplog.text
    (left,) = files(tmp_path)
    assert left.startswith(KEY) and left.endswith(".damaged")
    journal.save(KEY, state_after(2))
    found = journal.load(KEY)
    assert found is not None and found.step == 2


def test_half_written_files_are_never_read(tmp_path):
    journal = Journal(tmp_path)
    journal.save(KEY, state_after(3))
    (path,) = tmp_path.iterdir()
    path.rename(tmp_path / f"{KEY}.99.new")
    (tmp_path / f".{KEY}.99.new.99.part").write_bytes(b"half")
    assert journal.load(KEY) is None


def test_old_leftovers_go_when_a_journal_is_opened_and_nothing_else(tmp_path):
    hours = {  # and whether they stay
        f"{KEY}.a.safetensors": (15 * 24, False),
        f"{KEY}.b.safetensors": (13 * 24, True),
        f"{KEY}.a.damaged": (15 * 24, False),
        f"{KEY}.7.new": (2, False),
        f".{KEY}.7.new.7.part": (2, False),
        f"{KEY}.8.new": (0.5, True),
        "mine.safetensors": (9999, True),
        KEY: (9999, True),
    }
    for name, (age, _) in hours.items():
        (tmp_path / name).touch()
        at = time.time() - age * 3600
        os.utime(tmp_path / name, (at, at))
    Journal(tmp_path)
    assert files(tmp_path) == sorted(name for name, (_, stays) in hours.items() if stays)


def test_states_are_written_now_and_then_and_at_the_end(tmp_path):
    rare, every = Journal(tmp_path / "rare", 1e6), Journal(tmp_path / "every", 0)
    for steps in (1, 2, 3):
        rare.keep(KEY, state_after(steps))
        every.keep(KEY, state_after(steps))
    assert rare.load(KEY) is None
    found = every.load(KEY)
    assert found is not None and found.step == 3
    rare.keep(KEY, state_after(5), last=True)
    found = rare.load(KEY)
    assert found is not None and found.step == 5


def test_time_is_counted_from_the_last_write(tmp_path, monkeypatch):
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    journal, written = Journal(tmp_path, 5), []
    for seconds in (2, 2, 2, 2, 2, 2, 2):
        now[0] += seconds
        journal.keep(KEY, state_after(1 + (len(written) % 4)))
        written.append(journal._written == now[0])
    assert written == [False, False, True, False, False, True, False]


def test_finish_forgets_what_was_touched_and_no_other(tmp_path):
    Journal(tmp_path).save(OTHER, state_after(1))
    journal = Journal(tmp_path)
    journal.save(KEY, state_after(1))
    journal.finish()
    assert journal.load(KEY) is None and [n[:32] for n in files(tmp_path)] == [OTHER]
    journal.load(OTHER)
    journal.finish()
    assert not tmp_path.exists()


def test_a_full_disk_stops_no_run(tmp_path, full_disk, caplog):
    journal = Journal(tmp_path)
    with full_disk():
        journal.save(KEY, state_after(2))
    assert "Step 2 was not written" in caplog.text
    assert files(tmp_path) == [] and journal.load(KEY) is None


def test_a_folder_that_cannot_be_is_a_warning(tmp_path, caplog):
    (tmp_path / "file").touch()
    Journal(tmp_path / "file").save(KEY, state_after(2))
    assert "was not written" in caplog.text


def other(value):
    """A value of the same kind that is another."""
    if torch.is_tensor(value):
        flat = value.clone().reshape(-1)
        flat[-1] = flat[-1] + 1 if value.dtype == torch.uint8 else flat[-1] + 1e-3
        return flat.reshape(value.shape)
    if isinstance(value, str):
        return value + "?"
    if isinstance(value, int):
        return value + 1
    if value is None:
        return torch.ones(1)
    return value._replace(t=value.t + 1)  # PatchSize


def test_a_key_depends_on_everything_that_the_outcome_does():
    state = state_after(3)
    base = ("weights", ([torch.ones(2, 3), {"pooled_output": None}], 4.0), state, 5)
    prompts = (
        ([torch.ones(2, 3), {"pooled_output": None}], 4.5),
        ([torch.ones(3, 2), {"pooled_output": None}], 4.0),
        ([torch.ones(2, 3).double(), {"pooled_output": None}], 4.0),
        ([torch.ones(2, 3), {"pooled_output": 0}], 4.0),
        ([torch.ones(2, 3), {"strength": None}], 4.0),
    )
    keys = [run_key(*base), run_key("other", *base[1:]), run_key(*base[:3], 4)]
    keys += [run_key(base[0], each, state, 5) for each in prompts]
    for field in fields(DenoiseState):
        value = getattr(state, field.name)
        changed = (*value[:-1], other(value[-1])) if field.name == "history" else other(value)
        keys.append(run_key(*base[:2], replace(state, **{field.name: changed}), 5))
    assert len(set(keys)) == len(keys)
    assert run_key(*base) == run_key(*base[:2], state_after(3), 5)


def closure(multiplier):
    return lambda args: args * multiplier


class Adapter:
    def __init__(self, **values):
        self.__dict__.update(values)


def test_functions_and_objects_count_by_what_they_hold():
    assert digest(closure(2)) == digest(closure(2)) != digest(closure(3))
    assert digest(Adapter(a=1)) == digest(Adapter(a=1)) != digest(Adapter(a=2))
    assert digest(Adapter(a=1).__init__) != digest(Adapter(a=2).__init__)
    assert digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1}) != digest({"a": 2, "b": 1})
    assert digest([1, [2]]) != digest([[1], 2]) and digest((1,)) != digest([1])
    assert digest(torch.float16) != digest(torch.bfloat16)
    linear = torch.nn.Linear(2, 2)
    before = digest(linear)
    linear.weight.data[0, 0] += 1
    assert digest(linear) != before
    circle = Adapter()
    vars(circle)["me"] = circle
    assert digest(circle) == digest(circle)


class Slotted:
    __slots__ = ("a",)

    def __init__(self, a):
        self.a = a


def with_default(n):
    def work(*, by=n):
        return by

    return work


@pytest.mark.parametrize(
    "make",
    [
        lambda n: partial(max, n),
        lambda n: partial((min, max)[n], 1),
        np.float32,
        lambda n: np.full(3, n),
        Fraction,
        Slotted,
        with_default,
    ],
)
def test_what_has_no_attributes_counts_by_what_it_holds(make):
    assert digest(make(0)) == digest(make(0)) != digest(make(1))


SCRIPT = """
import torch, uuid
from patchdit.models.digests import digest
class Patch:
    def __init__(self): self.id, self.names, self.at = uuid.uuid4(), {"b", "a", "c"}, object()
    def __call__(self, x): return x * 2
def closed(n):
    return lambda x: x + n
print(digest([Patch(), Patch().__call__, closed(3), {"k": torch.arange(3)}, torch.float32]))
"""


def test_another_process_says_the_same():
    said = set()
    for seed in ("1", "2"):
        env = {**os.environ, "PYTHONHASHSEED": seed, "OMP_NUM_THREADS": "1"}
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT], capture_output=True, text=True, env=env, check=True
        )
        said.add(done.stdout)
    assert len(said) == 1


def test_weights_count_by_name_shape_type_and_values(monkeypatch):
    weights = {"a": torch.randn(300, 7), "b": torch.zeros(5)}
    for whole in (digests.WHOLE, 0):
        monkeypatch.setattr(digests, "WHOLE", whole)
        base = digest_weights(weights.items())
        assert base == digest_weights(reversed(list(weights.items())))
        for change in (
            {"a": weights["a"] + 1e-3},
            {"a": weights["a"].reshape(7, 300)},
            {"a": weights["a"].double()},
            {"b": torch.tensor([0, 0, 0, 0, 1.0])},
        ):
            assert digest_weights({**weights, **change}.items()) != base
        assert digest_weights([("a", weights["a"]), ("c", weights["b"])]) != base
    one = weights["a"].clone()
    one[0, 1] += 1  # not among the sampled
    assert digest_weights({**weights, "a": one}.items()) == base


def test_any_type_and_layout_of_weights_can_be_read():
    odd = {
        "fp8": torch.randn(99).to(torch.float8_e4m3fn),
        "bf16": torch.randn(99, 3).bfloat16().T,
        "bool": torch.ones(3) > 0,
        "none": torch.zeros(0, 4),
        "scalar": torch.tensor(2.0),
        "meta": torch.zeros(3, device="meta"),
    }
    assert digest(odd, sample=True) == digest(odd, sample=True)
    assert len(digest_weights(odd.items())) == 64


GUIDE = {
    "positive": [[torch.randn(1, 3, 4), {"pooled_output": None, "areas": (1, 2.5, "x", True)}]],
    "negative": [],
    "cfg": 4.5,
    "rest": {"video_fps": 12.0},
}


def test_a_saved_run_comes_back(tmp_path):
    path = tmp_path / "run.safetensors"
    save_run(path, SavedRun(state_after(3), GUIDE, "abc"))
    run = load_run(path)
    assert same(run.state, state_after(3)) and run.fingerprint == "abc"
    assert digest(run.guide) == digest(GUIDE)
    assert files(tmp_path) == ["run.safetensors"]


def test_what_can_be_saved():
    assert can_save(GUIDE) and not can_save({"hooks": object()}) and not can_save([{1: 2}])


def rewritten(path, of=RUN_KEY, without=None, **changes):
    """The file with other values in its metadata, and whole but for that."""
    metadata = read_metadata(path)
    values = {**json.loads(metadata[of]), **changes}
    values.pop(without, None)
    save_file(load_file(path), path, {**metadata, of: json.dumps(values)})


def with_metadata(path, **changes):
    metadata = {**read_metadata(path), **{f"patchdit.{name}": v for name, v in changes.items()}}
    kept = {name: text for name, text in metadata.items() if text is not None}
    save_file(load_file(path), path, kept)


def without_cfg(path):
    guide = json.loads(read_metadata(path)[RUN_KEY])["guide"]
    del guide["dict"]["cfg"]
    rewritten(path, guide=guide)


DAMAGED = "run.safetensors is damaged: its values are not those saved; save it again.$"


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (cut, "run.safetensors is not a whole safetensors file"),
        (empty, "run.safetensors is not a whole safetensors file"),
        (flip, "run.safetensors is damaged: .* save it again"),
        (lambda path: rewritten(path, version=1), "saved by another version .*format 1"),
        (lambda path: rewritten(path, version="x"), "saved by another version .*format 'x'"),
        (lambda path: rewritten(path, of=STATE_KEY, step=4), DAMAGED),
        (lambda path: rewritten(path, of=STATE_KEY, step=9), DAMAGED),
        (lambda path: rewritten(path, of=STATE_KEY, step="1"), DAMAGED),
        (lambda path: rewritten(path, of=STATE_KEY, without="step"), DAMAGED),
        (lambda path: rewritten(path, fingerprint="other"), DAMAGED),
        (lambda path: rewritten(path, without="version"), DAMAGED),
        (lambda path: rewritten(path, without="guide"), DAMAGED),
        (without_cfg, DAMAGED),
        (lambda path: with_metadata(path, run="{"), DAMAGED),
        (lambda path: with_metadata(path, run="[]"), DAMAGED),
        (lambda path: with_metadata(path, run="3"), DAMAGED),
        (lambda path: with_metadata(path, state="{"), DAMAGED),
        (lambda path: with_metadata(path, state=None), DAMAGED),
        (lambda path: with_metadata(path, digest=None), DAMAGED),
        (lambda path: with_metadata(path, more="x"), DAMAGED),
        (lambda path: with_metadata(path, run=None), "holds no denoising run"),
        (lambda path: save_file({"x": torch.ones(2)}, path), "holds no denoising run"),
    ],
)
def test_other_files_are_refused_in_a_sentence(tmp_path, damage, said):
    path = tmp_path / "run.safetensors"
    save_run(path, SavedRun(state_after(3), GUIDE, "abc"))
    damage(path)
    with pytest.raises(ValueError, match=said):
        load_run(path)


def test_a_file_written_again_as_it_was_is_whole(tmp_path):
    """What the damaged ones above are refused for is their change, not that they were rewritten."""
    path = tmp_path / "run.safetensors"
    save_run(path, SavedRun(state_after(3), GUIDE, "abc"))
    rewritten(path)
    assert same(load_run(path).state, state_after(3))
    assert {RUN_KEY, STATE_KEY, DIGEST_KEY} == read_metadata(path).keys()


def test_going_on_is_logged(tmp_path, caplog):
    Journal(tmp_path).save(KEY, state_after(3))
    with caplog.at_level(logging.INFO):
        Journal(tmp_path).load(KEY)
    assert "after step 3 of 5" in caplog.text


def test_a_state_that_is_no_numbers_is_not_kept(tmp_path, caplog):
    journal, good = Journal(tmp_path), state_after(2)
    journal.save(KEY, good)
    bad = replace(state_after(3), x=torch.full_like(good.x, float("nan")))
    journal.save(KEY, bad)
    assert "no numbers" in caplog.text
    found = Journal(tmp_path).load(KEY)
    assert found is not None and same(found, good)
