"""A run killed with SIGKILL at any step goes on after a restart and ends bit for bit the same."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from patchdit.models.journal import Journal
from patchdit.nodes import host
from patchdit.nodes.denoise import DenoiseStep, FinishDenoising, StartDenoising
from patchdit.nodes.sampling import advance, begin, open_journal, sample
from patchdit.standalone.host import InterruptProcessingException, Session, use_session

from .test_denoise import EMPTY, known_start, sigmas_of

ROOT = Path(__file__).resolve().parents[2]

CHILD = """
import importlib.util, sys, time
from pathlib import Path
root, weights, journal, out = map(Path, sys.argv[1:])
spec = importlib.util.spec_from_file_location(
    "patchdit", root / "__init__.py", submodule_search_locations=[str(root)])
package = importlib.util.module_from_spec(spec)
sys.modules["patchdit"] = package
spec.loader.exec_module(package)
import torch
from safetensors.torch import save_file
from patchdit.models import blockworld
from patchdit.models.journal import Journal
from patchdit.models.solvers import shifted_sigmas
from patchdit.nodes import host
from patchdit.nodes.sampling import begin, sample
from patchdit.standalone.host import Session, use_session

torch.manual_seed(0)  # of the known frame alone
parts = blockworld.load(weights)
parts.transformer.register_forward_pre_hook(lambda *_: time.sleep(0.02))
model, clip = (host.make_model(parts.transformer, parts.vae),
               host.make_clip(parts.text, parts.tokenizer))
prompts = [clip.encode_from_tokens_scheduled(clip.tokenize(t)) for t in ("a red ball", "")]
windows = []
def told(node, value, total):
    print(len(windows) * 8 + int(value), flush=True)
journal = Journal(journal, seconds=0)
with use_session(Session(on_progress=told)):
    for solver in ("euler", "unipc"):
        latent = {"samples": torch.randn(1, 16, 2, 4, 4), "noise_mask": torch.ones(1, 1, 2, 4, 4)}
        latent["noise_mask"][:, :, 0] = 0
        run = begin(model, *prompts, 4.0, latent, shifted_sigmas(8), 7, solver)
        windows.append(sample(run, journal))
save_file({str(i): w["samples"] for i, w in enumerate(windows)}, out)
journal.finish()
"""


def child(weights, journal, out) -> subprocess.Popen:
    """Two windows of 8 steps, telling the number of every step that is done and written."""
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    told = [sys.executable, "-c", CHILD, *map(str, (ROOT, weights, journal, out))]
    return subprocess.Popen(told, stdout=subprocess.PIPE, text=True, env=env)


def steps_of(process: subprocess.Popen, until: int = 99) -> list[int]:
    """The steps it tells of, up to one of them or to its end."""
    told = []
    assert process.stdout is not None
    for line in process.stdout:
        told.append(int(line))
        if told[-1] >= until:
            break
    return told


def test_kill_9_at_three_random_steps(weights, tmp_path):
    whole = child(weights, tmp_path / "unbroken", tmp_path / "whole.safetensors")
    assert steps_of(whole) == list(range(1, 17)) and whole.wait() == 0

    journal, out = tmp_path / "journal", tmp_path / "resumed.safetensors"
    killed_at = 0
    for kill_at in sorted(random.sample(range(1, 16), 3)):
        process = child(weights, journal, out)
        told = steps_of(process, kill_at)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL and not out.exists()
        redone = [step for step in told if step <= killed_at and step != 8]
        assert redone == [], f"killed after {killed_at}, began again with {told}"
        killed_at = told[-1]
    last = child(weights, journal, out)
    assert next(s for s in steps_of(last) if s != 8) > killed_at and last.wait() == 0
    expected, got = load_file(tmp_path / "whole.safetensors"), load_file(out)
    assert all(torch.equal(got[name], expected[name]) for name in ("0", "1"))
    assert not any(journal.glob("*.safetensors"))


class Killed(Exception):
    """Stands for a kill, in the same process."""


@pytest.fixture
def kill_after(parts):
    """`kill_after(calls)`: the network dies after so many calls; None: it lives again."""
    left: list[int | None] = [None]

    def hook(*_):
        if left[0] is not None:
            left[0] -= 1
            if left[0] < 0:
                raise Killed

    handle = parts.transformer.register_forward_pre_hook(hook)
    yield lambda calls: left.__setitem__(0, calls)
    handle.remove()


@pytest.fixture
def every_step(monkeypatch, tmp_path):
    """A session in tmp_path whose journal writes every step; gives the journal's folder."""
    monkeypatch.setattr(Journal, "keep", lambda self, key, state, last: self.save(key, state))
    with use_session(Session(output_directory=tmp_path)):
        yield tmp_path / ".patchdit"


def state_files(folder):
    return sorted(path.name for path in folder.glob("*.safetensors"))


@pytest.mark.parametrize("solver", ["euler", "unipc"])
@pytest.mark.parametrize("which", ["parts", "plain_parts"])
@pytest.mark.parametrize("step", range(5))
def test_any_step_solver_and_fill(request, prompts, every_step, solver, which, step):
    parts = request.getfixturevalue(which)
    model = host.make_model(parts.transformer, parts.vae)
    latent = known_start(torch.randn(1, 16, 3, 4, 4), 1)
    given = model, *prompts, 4.0, latent, sigmas_of(latent, 5), [3], solver
    run = begin(*given)
    whole = sample(run)
    journal = Journal(every_step, 0)
    part = advance(run, 5, journal)
    (key,) = part.keys
    journal.save(key, advance(run, step).state)
    assert torch.equal(sample(begin(*given), journal)["samples"], whole["samples"])
    journal.finish()
    assert state_files(every_step) == []
    assert torch.equal(part.state.x, advance(run, 5).state.x)


def test_several_windows_find_the_finished_ones_at_once(model, prompts, every_step, kill_after):
    given = [(model, *prompts, 1.0, EMPTY, sigmas_of(EMPTY, 3), seed) for seed in (1, 2)]
    whole = [sample(begin(*each))["samples"] for each in given]
    kill_after(4)
    with pytest.raises(Killed):
        for each in given:
            sample(begin(*each), open_journal())
    assert len(state_files(every_step)) == 2
    kill_after(2)
    journal = open_journal()
    again = [sample(begin(*each), journal)["samples"] for each in given]
    assert all(torch.equal(a, b) for a, b in zip(again, whole, strict=True))
    journal.finish()
    assert state_files(every_step) == []


def test_the_nodes_go_on_and_leave_nothing(model, prompts, every_step, kill_after):
    def graph(checkpoint):
        sigmas = sigmas_of(EMPTY, 6)
        run = StartDenoising.execute(model, *prompts, EMPTY, sigmas, 1, 1.0, "unipc", "").args[0]
        run = DenoiseStep.execute(run, 2, checkpoint).args[0]
        return FinishDenoising.execute(run, checkpoint).args[0]["samples"]

    whole = graph(False)
    assert not every_step.exists()
    kill_after(5)
    with pytest.raises(Killed):
        graph(True)
    assert len(state_files(every_step)) == 2
    kill_after(1)
    assert torch.equal(graph(True), whole)
    assert not every_step.exists()


def test_a_cancelled_run_goes_on(model, prompts, every_step, kill_after):
    def report(node, value, total):
        if value == 2:
            session.interrupt.set()

    given = model, *prompts, 1.0, EMPTY, sigmas_of(EMPTY, 4), 1
    whole = sample(begin(*given))["samples"]
    session = Session(on_progress=report)
    with use_session(session), pytest.raises(InterruptProcessingException):
        sample(begin(*given), Journal(every_step))
    kill_after(2)
    assert torch.equal(sample(begin(*given), Journal(every_step))["samples"], whole)


def test_another_seed_prompt_or_weight_begins_afresh(parts, model, prompts, every_step):
    def keys(model=model, prompts=prompts, seed=1, cfg=4.0, steps=2, samples=EMPTY["samples"]):
        latent = {"samples": samples}
        run = begin(model, *prompts, cfg, latent, sigmas_of(EMPTY, steps), seed)
        return advance(run, steps, Journal(every_step)).keys

    seen = [keys(), keys(seed=2), keys(prompts=prompts[::-1]), keys(cfg=3.0), keys(steps=3)]
    seen.append(keys(samples=torch.ones_like(EMPTY["samples"])))
    weight = next(parts.transformer.parameters())
    before = weight.data.clone()
    weight.data[-1] += 1
    seen.append(keys())
    weight.data.copy_(before)
    assert len(set(seen)) == len(seen) and keys() == seen[0]


def test_the_fingerprint_is_of_the_weights(parts, plain_parts):
    once, again = (host.make_model(parts.transformer, parts.vae) for _ in range(2))
    assert host.fingerprint(once) == host.fingerprint(again)
    assert len(host.fingerprint(once)) == 64
