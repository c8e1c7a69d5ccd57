"""Rows of PinFrames: does a pinned frame come out as well as the autoencoder alone shows it?

One frame of a held-out clip is pinned at the first, the middle or the last frame of an empty canvas
of 17 frames, which is denoised by what the nodes call. Measured is the decoded frame of the run's
own x after its last step, before FinishDenoising pastes the known latents back. Its PSNR is
compared with that of the image encoded and decoded by itself.
"""

from __future__ import annotations

from patchdit.benchmarks.verbs_rows import Row, mean, share
from patchdit.benchmarks.verbs_world import Bench, Filmed, defaults, describe, film, psnr
from patchdit.nodes import host
from patchdit.nodes.denoise import StartDenoising
from patchdit.nodes.empty_latent import EmptyVideoLatent
from patchdit.nodes.pin import PinFrames
from patchdit.nodes.sampling import advance, begin
from patchdit.nodes.verbs import Sampling

FRAMES = 17
PLACES = {"first": 0, "middle": 8, "last": FRAMES - 1}
MOST = 1.0  # dB
SHARE = 0.90


def pin_rows(bench: Bench) -> list[Row]:
    """The loss in dB at each place, and the share of clips in which it is at most 1 dB."""
    clips = [film(scene) for scene in bench.scenes(1, FRAMES)]
    rows = []
    for name, place in PLACES.items():
        works = [lambda c=clip, i=i, p=place: loss(bench, c, p, i) for i, clip in enumerate(clips)]
        losses = bench.each(f"pin {name} frame", works)
        rows.append(mean(f"pin {name} frame/PSNR below the VAE's own, dB", losses, MOST))
        within = [one <= MOST for one in losses]
        rows.append(share(f"pin {name} frame/clips within {MOST:g} dB", within, SHARE))
    return rows


def loss(bench: Bench, clip: Filmed, place: int, number: int) -> float:
    """dB by which a pinned frame is worse than the autoencoder makes it (negative: better)."""
    image_1HWC = clip.frames_FHWC[place : place + 1]
    size = {"width": clip.scene.width, "height": clip.scene.height}
    canvas, *_ = EmptyVideoLatent.execute(
        **defaults(EmptyVideoLatent) | size | {"length_in": "frames", "frames": FRAMES}
    ).args
    pin = {"latent": canvas, "vae": bench.vae, "images": image_1HWC, "frame": place}
    latent, *_ = PinFrames.execute(**defaults(PinFrames) | pin).args
    asked = {"cfg": defaults(StartDenoising)["cfg"], **bench.sampling(describe(clip.scene), number)}
    sampling = Sampling(bench.model, **asked)
    run = begin(
        bench.model,
        sampling.positive,
        sampling.negative,
        sampling.cfg,
        latent,
        sampling.sigmas(latent["samples"]),
        sampling.seed,
    )
    x_1CTHW = host.finish_latent(bench.model, advance(run, bench.steps).state.x)
    own = psnr(bench.decode(bench.encode(image_1HWC)), image_1HWC)
    return own - psnr(bench.decode(x_1CTHW)[place : place + 1], image_1HWC)
