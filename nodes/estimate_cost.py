"""EstimateCost: tokens, seconds and memory of a run, before anything runs.

B batch, C channels, T/H/W latent frames/rows/columns. Memory in GiB, 2^30 bytes.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from math import ceil

from ..models.cost import (
    Flops,
    Run,
    Speed,
    largest,
    run_flops,
    sampling_bytes,
    sampling_seconds,
)
from ..models.device_speed import speed_of
from ..models.timeline import STRIDE, pixel_frames
from . import host
from .api import io
from .host import device as machine
from .host.duck import temporal_stride
from .host.facts import patch_of, stride_of
from .host.native import whole_frames
from .latent_dicts import Latent, latent_length, mask_of, samples_of

GIB = 2**30


class EstimateCost(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="PatchDiT_EstimateCost",
            display_name="Estimate Cost",
            category="PatchDiT/measure",
            description="Tokens, seconds and peak memory of a run, before anything runs; says which"
            " setting would fit where this one does not.",
            search_aliases=["vram estimate", "memory needed", "how long", "out of memory", "flops"],
            is_output_node=True,
            inputs=[
                io.Model.Input("model", tooltip="The model that will denoise; it is not run."),
                io.Int.Input(
                    "width", default=64, min=16, max=8192, step=16, tooltip="Pixels across."
                ),
                io.Int.Input(
                    "height", default=64, min=16, max=8192, step=16, tooltip="Pixels down."
                ),
                io.Int.Input(
                    "frames",
                    default=17,
                    min=1,
                    max=8193,
                    step=4,
                    tooltip="Length in frames, 1 + 4k of them: those that are denoised at once,"
                    " so a verb's window.",
                ),
                io.Int.Input("steps", default=20, min=1, max=1000, tooltip="Denoising steps."),
                io.Float.Input(
                    "cfg",
                    default=4.0,
                    min=0.0,
                    max=100.0,
                    step=0.1,
                    tooltip="Guidance of the run: at 1 each step looks at one prompt, else at two.",
                ),
                io.Vae.Input(
                    "vae", optional=True, tooltip="To estimate the memory for decoding as well."
                ),
                io.Latent.Input(
                    "latent",
                    optional=True,
                    tooltip="The latent to denoise: its size and mask count in place of width,"
                    " height and frames.",
                ),
            ],
            outputs=[
                io.String.Output(display_name="report", tooltip="All of it, to read."),
                io.Int.Output(display_name="tokens", tooltip="Tokens of one video."),
                io.Float.Output(
                    display_name="seconds", tooltip="Time for all denoising steps on this device."
                ),
                io.Float.Output(
                    display_name="gigabytes",
                    tooltip="Peak memory in GiB, of sampling or of decoding, whichever is more.",
                ),
            ],
        )

    @classmethod
    def execute(cls, model, width, height, frames, steps, cfg, vae=None, latent=None):
        estimate = estimate_run(model, (width, height, frames), steps, cfg, vae, latent)
        report = estimate.report()
        if estimate.warning:
            logging.warning("Estimate Cost: %s", estimate.warning)
        values = report, estimate.run.tokens, estimate.seconds, estimate.peak / GIB
        return io.NodeOutput(*values, ui={"text": (report,)})


@dataclass(frozen=True)
class Estimate:
    """The cost of one run on one device, memory in bytes."""

    run: Run
    shape: tuple[int, ...]  # B, C, T, H, W of the latent
    stride: int  # pixels per latent row and column
    device: str
    speed: Speed
    seconds: float
    weights: int
    work: int
    decode: int | None
    room: int | None
    warning: str
    group: int = STRIDE  # pixel frames per latent frame

    @property
    def peak(self) -> int:
        return max(self.weights + self.work, self.decode or 0)

    def report(self) -> str:
        """Lines to read."""
        run, flops = self.run, run_flops(self.run)
        B, _, T, H, W = self.shape
        size = f"{W * self.stride}x{H * self.stride}, {pixel_frames(T, self.group)} frames"
        known = f", {run.known:,} of them known" if run.known else ""
        many = f", {B} videos" if B > 1 else ""
        decode = "" if self.decode is None else f"; decoding {gib(self.decode)}"
        room = "unknown" if self.room is None else gib(self.room)
        lines = [
            f"{size}{many}: {T} latent frames, {run.tokens:,} tokens{known}",
            f"{run.steps} steps, {run.passes} prompt{'s' * (run.passes > 1)} a step:"
            f" {shares(flops)}",
            f"Time: about {duration(self.seconds)} on {self.device}"
            f" ({self.speed.linear / 1e9:,.0f} GFLOP/s measured)",
            f"Memory: weights {gib(self.weights)} + work {gib(self.work)} ="
            f" {gib(self.weights + self.work)}{decode}; there is room for {room}",
        ]
        return "\n".join([*lines, self.warning or "It fits."] if self.room else lines)


def estimate_run(
    model, size: tuple[int, int, int], steps: int, cfg: float, vae=None, latent=None
) -> Estimate:
    """The cost of denoising (width, height, frames) in pixels, or `latent` where there is one."""
    told = machine.describe(model)
    told = replace(told, config=replace(told.config, patch=patch_of(model)))
    stride = told.stride if vae is None else host.spatial_stride(vae)
    group = stride_of(model) if vae is None else temporal_stride(vae)
    shape = latent_size(size, stride, told.config.out_channels, latent, group)
    passes = 1 if cfg == 1 else 2
    known = 0 if latent is None else known_tokens(latent, told.config.patch, group)
    mask = None if latent is None else mask_of(latent, shape, group)
    blind = cfg > 1 and known > 0 and mask is not None and whole_frames(mask)
    tokens = told.config.patch.tokens(shape[2:])
    run = Run(told.config, tokens, steps, passes, shape[0], known, blind)
    name = machine.device_name(machine.compute_device())
    speed = speed_of(machine.compute_device(), told.dtype, name, machine.speed_file())

    def memory(shape: tuple[int, ...], known: int = 0) -> tuple[int, int | None]:
        tokens = told.config.patch.tokens(shape[2:])
        planned = Run(told.config, tokens, steps, passes, shape[0], known, blind and known > 0)
        decode = None if vae is None else machine.decode_memory(vae, shape)
        return sampling_bytes(planned, told.dtype.itemsize), decode

    work, decode = memory(shape, known)
    room = machine.room(model)

    def fits(shape: tuple[int, ...]) -> bool:
        sampling, decoding = memory(shape)
        return max(told.weight_bytes + sampling, decoding or 0) <= (room or 0)

    peak = max(told.weight_bytes + work, decode or 0)
    warning = "" if room is None or peak <= room else what_fits(shape, stride, fits, group)
    seconds = sampling_seconds(run, speed, told.dtype.itemsize)
    weights = told.weight_bytes
    told_all = run, shape, stride, name, speed, seconds, weights, work, decode, room, warning
    return Estimate(*told_all, group)


def latent_size(
    size: tuple[int, int, int],
    stride: int,
    channels: int,
    latent: Latent | None,
    group: int = STRIDE,
) -> tuple[int, ...]:
    """B, C, T, H, W of the latent; sides that end within a cell count it whole.

    A cell is `stride` pixels wide and high and `group` frames long.
    """
    if latent is not None:
        return tuple(samples_of(latent).shape)
    width, height, frames = size
    return 1, channels, latent_length(frames, group), ceil(height / stride), ceil(width / stride)


def known_tokens(latent: Latent, patch: tuple[int, int, int], group: int = STRIDE) -> int:
    """Tokens of one video that the noise mask keeps whole; 0 without a mask."""
    samples = samples_of(latent)
    mask = mask_of(latent, tuple(samples.shape), group)
    if mask is None:
        return 0
    T, H, W = samples.shape[2:]
    if T % patch[0] or H % patch[1] or W % patch[2]:
        return 0
    cells = mask[0, 0].unflatten(2, (-1, patch[2])).unflatten(1, (-1, patch[1]))
    cells = cells.unflatten(0, (-1, patch[0]))
    return int((cells.amax((1, 3, 5)) == 0).sum())


def what_fits(
    shape: tuple[int, ...],
    stride: int,
    fits: Callable[[tuple[int, ...]], bool],
    group: int = STRIDE,
) -> str:
    """One sentence: it will not fit, and the largest length, size or batch that would."""
    B, C, T, H, W = shape
    ways = []
    frames = largest(lambda t: fits((B, C, t, H, W)), T - 1)
    if frames:
        ways.append(f"{pixel_frames(frames, group)} frames at this size")

    def scaled(columns: int) -> tuple[int, int]:
        return 2 * max(1, round(columns * H / W)), 2 * columns

    columns = largest(lambda n: fits((B, C, T, *scaled(n))), max(W // 2 - 1, 0))
    if columns:
        h, w = scaled(columns)
        ways.append(f"{w * stride}x{h * stride} at this length")
    videos = largest(lambda b: fits((b, C, T, H, W)), B - 1)
    if videos:
        ways.append(f"a batch of {videos}")
    if not ways:
        return (
            "It will not fit, at any size or length, because the weights alone take the room:"
            " use smaller weights (fp8 or GGUF) or let ComfyUI move part of them out (--lowvram)."
        )
    return f"It will not fit; what would: {', or '.join(ways)}."


def gib(size: float) -> str:
    return f"{size / GIB:.1f} GiB" if size >= GIB / 2 else f"{size / 2**20:.1f} MiB"


def duration(seconds: float) -> str:
    """Seconds in the units that one thinks in."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def shares(flops: Flops) -> str:
    """FLOPs, and what they are spent on."""
    parts = {"linear": flops.linear, "attention": flops.attention, "text": flops.text}
    told = ", ".join(f"{name} {value / flops.total:.0%}" for name, value in parts.items())
    size, unit = (
        (flops.total / 1e12, "TFLOP") if flops.total >= 1e12 else (flops.total / 1e9, "GFLOP")
    )
    return f"{size:,.1f} {unit} ({told})"
