"""EstimateCost: what it gives, how fast, and what it says where a run does not fit."""

from __future__ import annotations

import time

import pytest
import torch

from patchdit.models.cost import Run, sampling_bytes
from patchdit.nodes.estimate_cost import EstimateCost, duration, known_tokens
from patchdit.nodes.host import device as machine
from patchdit.standalone.host import Session, use_session

SIZE = dict(width=64, height=64, frames=17, steps=4, cfg=4.0)


@pytest.fixture(autouse=True)
def own_folder(tmp_path):
    with use_session(Session(output_directory=tmp_path)):
        yield tmp_path


def estimate(model, **changes):
    return EstimateCost.execute(model, **{**SIZE, **changes})


def test_what_it_gives(model, vae, own_folder):
    out = estimate(model, vae=vae)
    report, tokens, seconds, gigabytes = out.args
    assert tokens == 5 * 4 * 4
    weights = sum(w.nbytes for w in model.network.state_dict().values())
    run = Run(model.network.config, tokens, 4, 2)
    decode = machine.decode_memory(vae, (1, 16, 5, 8, 8))
    assert gigabytes * 2**30 == pytest.approx(max(weights + sampling_bytes(run), decode))
    assert 0 < seconds < 600
    assert out.ui == {"text": (report,)}
    assert "64x64, 17 frames: 5 latent frames, 80 tokens" in report
    assert report.endswith("It fits.")
    assert (own_folder / ".patchdit" / "device_speed.json").is_file()


def test_it_is_cheap_once_the_device_is_known(model, vae):
    estimate(model, vae=vae)
    times = []
    for _ in range(5):
        start = time.process_time()
        estimate(model, vae=vae, frames=4097)
        times.append(time.process_time() - start)
    assert min(times) < 0.05


def test_a_latent_counts_in_place_of_the_size(model):
    latent = {"samples": torch.zeros(2, 16, 3, 4, 6)}
    report, tokens, *_ = estimate(model, latent=latent).args
    assert tokens == 3 * 2 * 3
    assert "48x32, 9 frames, 2 videos: 3 latent frames, 18 tokens" in report


def test_known_tokens_are_whole_patches_that_the_mask_keeps(model):
    mask = torch.zeros(1, 1, 3, 4, 6)
    mask[:, :, 2] = 1  # the last latent frame is made, and one cell of the first
    mask[..., 0, 0, 0] = 1
    latent = {"samples": torch.zeros(1, 16, 3, 4, 6), "noise_mask": mask}
    assert known_tokens(latent, (1, 2, 2)) == 2 * 6 - 1
    masked, free = (
        estimate(model, latent=latent),
        estimate(model, latent={**latent, "noise_mask": None}),
    )
    assert "18 tokens, 11 of them known" in masked.args[0]
    assert masked.args[2] < free.args[2]


def test_guidance_takes_two_prompts(model):
    one, two = estimate(model, cfg=1.0), estimate(model)
    assert "1 prompt a step" in one.args[0] and "2 prompts a step" in two.args[0]
    assert two.args[2] == pytest.approx(2 * one.args[2])


@pytest.mark.parametrize("frames", [41, 401])
def test_where_it_does_not_fit_it_names_what_would(model, monkeypatch, caplog, frames):
    peak = estimate(model, frames=33).args[3] * 2**30
    monkeypatch.setattr(machine, "room", lambda model: int(peak) + 1)
    assert estimate(model, frames=33).args[0].endswith("It fits.")
    report = estimate(model, frames=frames).args[0]
    assert "It will not fit; what would: 33 frames at this size, or " in report
    assert "It will not fit" in caplog.text
    size = report.rsplit(" or ", 1)[1].split(" ")[0]
    width, height = map(int, size.split("x"))
    assert width == height < 64
    again = estimate(model, frames=frames, width=width, height=height)
    assert again.args[0].endswith("It fits.")
    larger = estimate(model, frames=frames, width=width + 16, height=height + 16)
    assert "It will not fit" in larger.args[0]


def test_weights_alone_may_be_too_much(model, monkeypatch):
    monkeypatch.setattr(machine, "room", lambda model: 1000)
    assert "use smaller weights" in estimate(model).args[0]
    monkeypatch.setattr(machine, "room", lambda model: None)
    assert "room for unknown" in estimate(model).args[0]


def test_frames_are_1_plus_4k(model):
    with pytest.raises(ValueError, match="1 \\+ 4k frames; got 18, nearest 17 or 21"):
        estimate(model, frames=18)


def test_durations():
    told = [duration(s) for s in (0.04, 59.94, 60, 3599.6, 7322)]
    assert told == ["0.0 s", "59.9 s", "1 min 0 s", "1 h 0 min", "2 h 2 min"]
