"""Runs that two models share: one takes the steps at high noise, the other those at low noise."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from safetensors.torch import save_file

from patchdit.models.flow import start
from patchdit.models.journal import Journal
from patchdit.models.transformer import PatchDiT
from patchdit.nodes import host
from patchdit.nodes.between_steps import LoadDenoiseState
from patchdit.nodes.denoise import DenoiseStep, FinishDenoising, StartDenoising
from patchdit.nodes.extend import ExtendVideo
from patchdit.nodes.host.duck import Model
from patchdit.nodes.loop import LoopVideo
from patchdit.nodes.pin import ImageToVideo
from patchdit.nodes.reframe import Reframe
from patchdit.nodes.remix import RemixVideo
from patchdit.nodes.run_files import save_denoising
from patchdit.nodes.sampling import advance, begin, sample
from patchdit.nodes.stitch import StitchVideos
from patchdit.nodes.storyboard import Shot, Storyboard
from patchdit.nodes.types import Denoising
from patchdit.standalone.host import InterruptProcessingException, Session, use_session

from .conftest import TRANSFORMER
from .test_denoise import EMPTY
from .test_fill import CONFIGS, network_model
from .test_resume import state_files

SIGMAS = torch.tensor([1.0, 0.95, 0.9, 0.6, 0.3, 0.0])


@pytest.fixture
def low(parts):
    network = deepcopy(parts.transformer)
    with torch.no_grad():
        network.head.head.weight.mul_(1.5)
    return host.make_model(network, parts.vae)


@pytest.fixture
def calls(model, low):
    """Which model was called at which timestep, in order."""
    seen = []
    handles = [
        each.network.register_forward_pre_hook(
            lambda _, args, name=name: seen.append((name, round(float(args[1].max()))))
        )
        for name, each in (("high", model), ("low", low))
    ]
    yield seen
    for handle in handles:
        handle.remove()


def begun(model, low, prompts, boundary=0.9, solver="unipc", seed=1):
    late = {"model_low": low, "boundary": boundary}
    return StartDenoising.execute(
        model, *prompts, EMPTY, SIGMAS, seed, 1.0, solver, "", **late
    ).args[0]


def finished(run):
    return FinishDenoising.execute(run).args[0]["samples"]


@pytest.mark.parametrize(
    ("boundary", "at", "until", "spans"),
    [
        (0.9, 0, 5, [("high", 3), ("low", 5)]),  # a step at the boundary is the high one's
        (0.9, 0, 3, [("high", 3)]),
        (0.9, 2, 4, [("high", 3), ("low", 4)]),
        (0.9, 3, 5, [("low", 5)]),
        (1.0, 0, 5, [("high", 1), ("low", 5)]),
        (0.0, 0, 5, [("high", 5)]),
        (0.9, 2, 2, []),
    ],
)
def test_who_takes_which_steps(boundary, at, until, spans):
    state = start(EMPTY["samples"], None, SIGMAS, 1)
    run = Denoising("high", [], [], 1.0, state, model_low="low", boundary=boundary)
    assert run.spans(at, until) == spans
    alone = replace(run, model_low=None)
    assert alone.spans(at, until) == ([("high", until)] if at < until else [])


@pytest.mark.parametrize("solver", ["euler", "unipc"])
def test_steps_one_by_one_are_one_run(model, low, prompts, calls, solver):
    run = begun(model, low, prompts, solver=solver)
    whole = finished(run)
    expected = [("high", 1000), ("high", 950), ("high", 900), ("low", 600), ("low", 300)]
    assert calls == expected
    for _ in range(5):
        run = DenoiseStep.execute(run, 1).args[0]
    assert torch.equal(finished(run), whole) and calls == expected * 2
    assert not torch.equal(whole, finished(begun(model, None, prompts, solver=solver)))


def test_the_same_model_twice_is_that_model(model, prompts):
    assert torch.equal(
        finished(begun(model, model, prompts)), finished(begun(model, None, prompts))
    )


def halves(parts, high="high", low="low"):
    return [Model(parts.transformer, parts.vae, noise_half=half) for half in (high, low)]


def test_high_without_low_and_swapped_halves(parts, prompts):
    high, low = halves(parts)
    begun(high, low, prompts)
    begun(low, None, prompts)  # for a run that begins at low noise
    with pytest.raises(ValueError, match=r"is the high-noise half .* to model_low"):
        begun(high, None, prompts)
    with pytest.raises(ValueError, match="swapped"):
        begun(low, high, prompts)


def test_two_models_that_do_not_belong_together(parts, model, prompts):
    plain = replace(TRANSFORMER, frame_timesteps=False, known_attends_known=False)
    others = [
        network_model(parts, CONFIGS["wan"]),
        network_model(parts, CONFIGS["vace"]),
        Model(PatchDiT(plain), parts.vae),
        Model(PatchDiT(replace(TRANSFORMER, in_channels=48, out_channels=48)), parts.vae),
    ]
    for other in others:
        with pytest.raises(ValueError, match=r"model_low .* differ .* connect two halves"):
            begun(model, other, prompts)


def test_journal_keys_are_of_both_models(model, low, prompts, tmp_path):
    def key(model_low, boundary=0.9):
        run = begun(model, model_low, prompts, boundary)
        return advance(run, 5, Journal(tmp_path)).keys  # pyright: ignore

    keys = [key(None), key(low), key(model), key(low, 0.5)]
    assert len(set(keys)) == 4 and key(low) == keys[1]


@pytest.mark.parametrize("at", [2, 3, 4])
def test_a_cancelled_run_has_lost_no_step(model, low, prompts, tmp_path, calls, at):
    """The journal writes at most every 5 s; what was done since is written when a run stops."""
    given = model, *prompts, 1.0, EMPTY, SIGMAS, 1, "unipc"
    late = {"model_low": low, "boundary": 0.9}
    whole = sample(begin(*given, **late))["samples"]

    def report(node, value, total):
        if value == at:
            session.interrupt.set()

    session = Session(on_progress=report)
    with use_session(session), pytest.raises(InterruptProcessingException):
        sample(begin(*given, **late), Journal(tmp_path, 1e6))
    assert len(state_files(tmp_path)) == 1
    done = len(calls)
    assert torch.equal(sample(begin(*given, **late), Journal(tmp_path, 1e6))["samples"], whole)
    assert len(calls) - done == 10 - done


def test_a_run_that_fails_at_its_first_step_writes_nothing(model, prompts, tmp_path):
    class Broken(Exception):
        pass

    def fail(*_):
        raise Broken

    handle = model.network.register_forward_pre_hook(fail)
    with pytest.raises(Broken):
        sample(begin(model, *prompts, 1.0, EMPTY, SIGMAS, 1), Journal(tmp_path, 0))
    handle.remove()
    assert state_files(tmp_path) == []


def test_a_saved_run_goes_on_with_both(model, low, prompts, tmp_path):
    with use_session(Session(output_directory=tmp_path)):
        run = begun(model, low, prompts)
        path = save_denoising(advance(run, 2), "state")
        again = LoadDenoiseState.execute(path.name, model, model_low=low, boundary=0.9).args[0]
        assert torch.equal(finished(again), finished(run))


@pytest.fixture
def settings(model, low, vae, prompts):
    return {
        "vae": vae, "fps": 8.0, "model": model, "positive": prompts[0], "window": 17,
        "negative": prompts[1], "seed": 5, "steps": 3, "cfg": 1.0, "context": 0,
        "generate_fps": 0.0, "checkpoint": False, "model_low": low, "boundary": 0.7,
    }  # fmt: skip


VERBS = {  # what each is given beside the settings
    "extend": (ExtendVideo, {"seconds": 0.5}),
    "bridge": (StitchVideos, {"seconds": 1.0, "mode": "bridge"}),
    "transform": (StitchVideos, {"seconds": 1.0, "mode": "transform"}),
    "loop": (LoopVideo, {"seconds": 1.0}),
    "reframe": (Reframe, {"width": 64, "height": 32, "feather": 0}),
    "image": (ImageToVideo, {"seconds": 1.0}),
    "noise": (RemixVideo, {"method": "noise", "strength": 1.0}),
    "flow edit": (RemixVideo, {"method": "flow edit", "strength": 1.0}),
    "storyboard": (Storyboard, {"width": 32, "height": 32, "context": 5, "negative": ""}),
}


@pytest.mark.parametrize("verb", VERBS)
def test_verbs_share_their_runs(settings, calls, prompts, parts, verb, tmp_path, monkeypatch):
    """Two windows of the storyboard: a later shot's run is shared as well."""
    monkeypatch.setattr(host, "journal_folder", lambda: tmp_path)
    clip = torch.rand(1 if verb == "image" else 9, 32, 32, 3)
    node, own = VERBS[verb]
    given = {
        "video": clip,
        "video_a": clip,
        "video_b": clip,
        "source": prompts[1],
        **settings,
        **own,
    }
    if verb == "storyboard":
        (first,) = Shot.execute("a ball", 1.0, "still", "cut", -1, False).args
        (shots,) = Shot.execute("it falls", 1.0, "still", "continue", -1, False, first).args
        given |= {"shots": shots, "clip": host.make_clip(parts.text, parts.tokenizer)}
    sockets = node.GET_SCHEMA().inputs
    defaults = {s.id: s.default for s in sockets if getattr(s, "default", None) is not None}
    ids = {socket.id for socket in sockets}
    node.execute(**{**defaults, **{name: value for name, value in given.items() if name in ids}})
    assert {name for name, _ in calls} == {"high", "low"}
    assert all((name == "high") == (timestep >= 700) for name, timestep in calls)
    runs = sum(a == "high" and b == "low" for (a, _), (b, _) in pairwise(calls))
    assert runs == (2 if verb == "storyboard" else 1)


def lora_file(path, network, seed):
    """A LoRA of rank 2 on one layer; and what it adds to the weight there."""
    generator = torch.Generator().manual_seed(seed)
    weight = network.blocks[0].self_attn.q.weight
    up, down = (torch.randn(len(weight), 2, generator=generator) for _ in "ud")
    name = "diffusion_model.blocks.0.self_attn.q"
    save_file({f"{name}.lora_B.weight": up, f"{name}.lora_A.weight": down.T.contiguous()}, path)
    return up @ down.T


def test_each_half_carries_its_own_lora(model, low, prompts, parts, tmp_path):
    """A shared run is the high half's steps with its LoRA, then the low half's with another."""
    with_lora, by_hand = [], []
    for seed, half in enumerate((model, low)):
        path = tmp_path / f"{seed}.safetensors"
        added = lora_file(path, half.network, seed)
        with_lora.append(host.add_lora(half, path, 0.5))
        network = deepcopy(half.network)
        with torch.no_grad():
            network.blocks[0].self_attn.q.weight.add_(0.5 * added)
        by_hand.append(host.make_model(network, parts.vae))
    shared = finished(begun(*with_lora, prompts))
    run = DenoiseStep.execute(begun(by_hand[0], None, prompts), 3).args[0]
    expected = finished(replace(run, model=by_hand[1]))
    torch.testing.assert_close(shared, expected, atol=1e-4, rtol=0)
    others = [(model, low), (with_lora[0], low), (model, with_lora[1]), with_lora[::-1]]
    for pair in others:
        assert (finished(begun(*pair, prompts)) - shared).abs().max() > 1e-3


def test_begin_takes_the_boundary_of_wan_by_default(model, low, prompts):
    run = begin(model, *prompts, 1.0, EMPTY, SIGMAS, 1, model_low=low)
    assert run.spans(0, 5) == [(model, 3), (low, 5)] and run.boundary == 0.875


def test_a_boundary_of_0_is_the_models_own(parts, prompts):
    high, low = (network_model(parts, CONFIGS["wan"]) for _ in range(2))
    assert begun(high, low, prompts, 0.0).boundary == 0.9
    assert begun(high, low, prompts, 0.5).boundary == 0.5


def test_a_run_saved_with_its_own_boundary_knows_it_by_either_number(model, low, prompts, tmp_path):
    with use_session(Session(output_directory=tmp_path)):
        path = save_denoising(begun(model, low, prompts, 0.0), "state")
        for boundary in (0.0, 0.875):
            late = {"model_low": low, "boundary": boundary}
            assert LoadDenoiseState.execute(path.name, model, **late).args[0].boundary == 0.875
        with pytest.raises(ValueError, match="boundary"):
            LoadDenoiseState.execute(path.name, model, model_low=low, boundary=0.5)
