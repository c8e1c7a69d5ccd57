"""Stop here and decode: a run ends with what it predicts, and nothing takes it for a whole one."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace

import pytest
import torch

from patchdit.models.journal import Journal
from patchdit.nodes import host
from patchdit.nodes.denoise import DenoiseStep, FinishDenoising
from patchdit.nodes.editing import edit_run
from patchdit.nodes.extend import ExtendVideo
from patchdit.nodes.host.stopping import Stops
from patchdit.nodes.sampling import (
    Stoppable,
    advance,
    begin,
    latent_of,
    open_journal,
    sample,
)
from patchdit.standalone.host import Session, executing, use_session

from .test_denoise import EMPTY, finish, known_start, sigmas_of, start
from .test_extend import extend, noise, settings
from .test_storyboard import board, shot

__all__ = ["board", "extend", "settings"]  # fixtures

NODE = "7"


@contextmanager
def stopping(after: int, folder=None, node: str = NODE):
    """A node that runs and is told to stop when so many steps are done; gives all it reports."""
    told: list[tuple[float, float]] = []

    def report(reporting, value, total):
        told.append((value, total))
        if len(told) == after:
            session.to_stop.add(node)

    session = Session(on_progress=report)
    if folder is not None:
        session = replace(session, output_directory=folder)
    with use_session(session), executing(NODE):
        yield told


def files(folder) -> list:
    return list((folder / ".patchdit").glob("*.safetensors"))


@pytest.mark.parametrize("solver", ["euler", "unipc"])
def test_the_result_is_what_the_step_predicts_with_what_is_kept(model, prompts, solver):
    latent = known_start(torch.randn(1, 16, 3, 4, 4), 1)
    run = begin(model, *prompts, 4.0, latent, sigmas_of(latent, 6), 1, solver)
    third = advance(run, 3)
    with stopping(3) as told:
        (stopped,) = FinishDenoising.execute(run).args
    assert told == [(1, 6), (2, 6), (3, 6)]
    assert torch.equal(stopped["samples"], latent_of(third, third.state.x0)["samples"])
    kept = host.finish_latent(model, host.prepare_latent(model, latent))[:, :, :1]
    assert torch.equal(stopped["samples"][:, :, :1], kept)


def test_all_nodes_after_a_stopped_step_have_nothing_left_to_do(model, prompts):
    run = start(model, prompts, steps=6)
    with stopping(2) as told:
        after, predicted, left = DenoiseStep.execute(run, 4).args
        again, same, still = DenoiseStep.execute(edit_run(after, cfg=2.0), 1).args
        end = finish(again)
    assert len(told) == 2 and left == still == 0
    assert torch.equal(predicted["samples"], DenoiseStep.execute(run, 2).args[1]["samples"])
    assert torch.equal(end["samples"], predicted["samples"])
    assert torch.equal(same["samples"], predicted["samples"])


def test_a_step_that_is_done_when_the_stop_comes_ends_the_run_too(model, prompts):
    run = start(model, prompts, steps=6)
    with stopping(2):
        assert DenoiseStep.execute(run, 2).args[2] == 0


def test_a_run_that_is_done_was_not_stopped(model, prompts):
    run = start(model, prompts)
    whole = finish(run)["samples"]
    with stopping(4):
        assert torch.equal(finish(run)["samples"], whole)
        assert not host.was_stopped()


def test_another_node_goes_on(model, prompts):
    run = start(model, prompts)
    with stopping(1, node="8") as told:
        finish(run)
        assert len(told) == 4 and not host.was_stopped()


def test_later_windows_take_one_step(model, prompts):
    given = [(model, *prompts, 1.0, EMPTY, sigmas_of(EMPTY, 5), seed) for seed in (1, 2, 3)]
    with stopping(7) as told:
        windows = [sample(begin(*each))["samples"] for each in given]
    assert [value for value, _ in told] == [1, 2, 3, 4, 5, 1, 2, 1]
    assert torch.equal(windows[0], sample(begin(*given[0]))["samples"])
    first = advance(begin(*given[2]), 1)
    assert torch.equal(windows[2], latent_of(first, first.state.x0)["samples"])


def test_the_next_run_goes_on_from_the_step(model, prompts, tmp_path):
    """As one that was never stopped, and then leaves nothing behind."""
    run = start(model, prompts, steps=6)
    whole = finish(run)["samples"]
    with stopping(3, tmp_path):
        FinishDenoising.execute(run, True)
        assert len(files(tmp_path)) == 1
    with stopping(0, tmp_path) as told:
        (again,) = FinishDenoising.execute(run, True).args
    assert [value for value, _ in told] == [4, 5, 6]
    assert torch.equal(again["samples"], whole)
    assert files(tmp_path) == []


def test_finishing_a_stopped_step_leaves_its_journal(model, prompts, tmp_path):
    run = start(model, prompts, steps=6)
    with stopping(3, tmp_path):
        after = DenoiseStep.execute(run, 5, True).args[0]
    with stopping(0, tmp_path), executing("8"):
        FinishDenoising.execute(after, True)
        assert len(files(tmp_path)) == 1


def test_windows_before_the_stop_are_kept_for_the_next_run(model, prompts, tmp_path, monkeypatch):
    at_the_end = lambda self, key, state, last: last and self.save(key, state)  # noqa: E731
    monkeypatch.setattr(Journal, "keep", at_the_end)
    given = [(model, *prompts, 1.0, EMPTY, sigmas_of(EMPTY, 4), seed) for seed in (1, 2, 3)]
    whole = [sample(begin(*each))["samples"] for each in given]

    def windows():
        journal = open_journal()
        made = [sample(begin(*each), journal)["samples"] for each in given]
        journal.finish()
        return made

    with stopping(6, tmp_path):
        windows()
        assert len(files(tmp_path)) == 2  # not the third, which only looks like a beginning
    with stopping(0, tmp_path) as told:
        again = windows()
    assert [value for value, _ in told] == [4, 3, 4, 1, 2, 3, 4]
    assert all(torch.equal(a, b) for a, b in zip(again, whole, strict=True))
    assert files(tmp_path) == []


def test_an_extension_ends_with_the_window_that_was_stopped(extend):
    clip = noise(9)
    _, _, whole, _, _ = extend(clip, seconds=6.0, steps=4)
    with stopping(3):
        _, _, frames, _, report = extend(clip, seconds=6.0, steps=4)
    assert 9 < len(frames) < len(whole)
    assert torch.equal(frames[:9], clip)
    assert report.endswith("Stopped early: you stopped it.")


def test_no_take_follows_one_that_was_stopped(settings):
    with stopping(1):
        outputs = ExtendVideo.execute(video=noise(9), **{**settings, "seeds": "1, 2, 3"}).args
    assert [len(output) for output in outputs] == [1, 1, 1, 1]


def test_a_stopped_shot_is_not_kept_and_is_the_last(board):
    shots = [shot(), shot("rolls", join="continues"), shot("falls")]
    with stopping(3):  # each shot takes two steps
        report = board(*shots)[-1]
    assert report.startswith("2 shots, 2 made")
    assert board(*shots)[-1].startswith("3 shots, 2 made now and 1 kept")


def test_a_stop_counts_once_it_is_heeded_and_only_in_its_prompt():
    stops = Stops()
    stops.ask("a", "7")
    assert (stops.times("7"), stops.was_heeded("a", "7")) == (0, False)
    assert not stops.heed("a", "8") and not stops.heed("b", "7")
    assert stops.heed("a", "7") and stops.heed("a", "7") and stops.was_heeded("a", "7")
    assert stops.times("7") == 1
    stops.ask("b", "8")
    assert not stops.heed("b", "7") and not stops.was_heeded("a", "7")
    stops.ask("b", "7")
    assert stops.heed("b", "7")
    assert (stops.times("7"), stops.times("8")) == (2, 0)


def test_every_node_that_denoises_is_stoppable(node_classes):
    stoppable = [name for name, node in node_classes.items() if issubclass(node, Stoppable)]
    assert {name.removeprefix("PatchDiT_") for name in stoppable} == {
        "DenoiseStep", "FinishDenoising", "ExtendVideo", "StitchVideos", "LoopVideo", "Reframe",
        "RemixVideo", "Storyboard", "ImageToVideo",
    }  # fmt: skip
