"""What a run costs before it runs: operations, memory and seconds, by arithmetic alone.

A multiply-add counts as two floating-point operations (FLOPs). D width, M width of the MLP, L
tokens, S text tokens, T/H/W latent frames/rows/columns. Memory is in bytes.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from math import prod

from .config import TransformerConfig, VAEConfig
from .wan_layouts import count_blocks

IMAGE_TOKENS = 257  # CLIP vision features of one image
TEXT_TOKENS = 512  # that Wan's text encoders pad a prompt to, where the network does not
OPERATIONS = 120  # calls into torch that a block makes, views included


@dataclass(frozen=True)
class Speed:
    """What a device does in a second, measured, and what a call costs however little it does."""

    linear: float  # FLOPs of matrix products
    attention: float  # FLOPs of attention
    traffic: float  # bytes that elementwise operations read and write
    call: float  # seconds


@dataclass(frozen=True)
class Flops:
    """FLOPs of a run by what they are spent on."""

    linear: float
    attention: float
    text: float = 0.0

    @property
    def total(self) -> float:
        return self.linear + self.attention + self.text


@dataclass(frozen=True)
class Run:
    """A latent video to denoise: what of its size and settings decides the cost.

    `known` tokens of `tokens` are computed once where the weights were trained so, else they cost
    what all others do. `passes` is how many prompts a step looks at: 2 with guidance, the second of
    which is shown nothing known if `blind`.
    """

    config: TransformerConfig
    tokens: int
    steps: int
    passes: int = 2
    batch: int = 1
    known: int = 0
    blind: bool = False

    @property
    def halves(self) -> tuple[Run, Run]:
        """What a blind run is: one pass with what is known, and one without."""
        informed = replace(self, passes=1, blind=False)
        return informed, replace(informed, known=0)

    @property
    def cached(self) -> int:
        """Known tokens whose keys and values are computed once and kept."""
        return self.known if self.config.known_attends_known else 0


def context_length(config: TransformerConfig) -> int:
    """S: text tokens and image features that cross-attention looks at."""
    image = (config.image_positions or IMAGE_TOKENS) if config.image_width else 0
    return (config.text_length or TEXT_TOKENS) + image


def prompt_values(config: TransformerConfig) -> int:
    """How many numbers the keys and values are that all layers hold of one prompt."""
    return 2 * (config.layers + config.vace_blocks) * context_length(config) * config.width


def text_flops(config: TransformerConfig) -> float:
    """FLOPs that a prompt costs once in a run: its embedding, and keys and values of all layers."""
    D, S = config.width, context_length(config)
    text = config.text_length or TEXT_TOKENS
    embedding = text * (config.text_width * D + D * D)
    if config.image_width:
        embedding += (S - text) * config.image_width * (config.image_width + D)
    layers = config.layers + config.vace_blocks
    return 2.0 * (embedding + layers * 2 * S * D * D)


def call_flops(config: TransformerConfig, tokens: int, keys: int) -> Flops:
    """FLOPs of one call for one prompt in which `tokens` are computed and each sees `keys`.

    A layer's linear maps take 6 D^2 + 2 D M multiply-adds a token (queries, keys, values and output
    of self-attention, query and output of cross-attention, the MLP), attention 2 D for each key and
    each text token.
    """
    D, M = config.width, config.mlp_width
    cells = prod(config.patch)
    layers = config.layers + config.vace_blocks
    token = cells * D * (config.in_channels + config.vace_channels + config.out_channels)
    if config.position_features:
        token += 3 * config.position_features * D + D * D
    token += layers * (6 * D * D + 2 * D * M)
    if config.vace_blocks:
        token += (1 + config.vace_blocks) * D * D  # into the control's stream, and out of it
    timestep = config.frequency_width * D + 7 * D * D
    seen = keys + context_length(config)
    return Flops(2.0 * (tokens * token + timestep), 4.0 * layers * tokens * seen * D)


def run_flops(run: Run) -> Flops:
    """FLOPs of all steps for all prompts of a batch."""
    if run.blind:
        a, b = map(run_flops, run.halves)
        return Flops(a.linear + b.linear, a.attention + b.attention, a.text + b.text)
    steps = call_flops(run.config, run.tokens - run.cached, run.tokens)
    once = call_flops(run.config, run.cached, run.cached) if run.cached else Flops(0, 0)
    n = run.passes * run.batch
    return Flops(
        n * (run.steps * steps.linear + once.linear),
        n * (run.steps * steps.attention + once.attention),
        n * text_flops(run.config),
    )


def sampling_bytes(run: Run, value_bytes: int = 4) -> int:
    """Peak memory of a step besides the weights, with activations of `value_bytes` each.

    Of a block's values the most are alive either while queries and keys are turned by their
    positions (x, its norm, v, q, k and two parts of a rotation, all of width D: 7 D a token) or in
    the MLP (x, its norm, what is added, before and after GELU: 3 D + 2 M).
    Beside them stand two tables of angles in float32, the keys and values of the prompts and of
    known tokens, which a run keeps for every layer, and four latents of the sampler. Attention is
    assumed to keep no L x L matrix. Within a quarter of what torch's profiler sees on a CPU.
    """
    if run.blind:  # the blind half is the larger one
        run = replace(run, blind=False, known=0)
    config = run.config
    D, M = config.width, config.mlp_width
    layers = config.layers + config.vace_blocks
    tokens = run.tokens - run.cached
    live = tokens * max(7 * D, 3 * D + 2 * M) + run.tokens * (2 * D if run.cached else 0)
    streams = tokens * D * (1 if config.vace_blocks else 0)
    kept = run.passes * layers * 2 * D * (context_length(config) + run.cached)
    tables = tokens * 2 * 4 * config.head_width
    latents = 4 * 4 * run.tokens * prod(config.patch) * config.in_channels
    return run.batch * (value_bytes * (live + streams + kept) + latents) + tables


def decode_bytes(config: VAEConfig, rows: int, columns: int, value_bytes: int = 4) -> int:
    """Peak memory, besides the weights, of decoding one latent frame after another.

    It does not depend on the clip's length. A residual block holds its input, its normed input, a
    convolution's input with the two frames before it and its output: 4 times its frames, and 2
    more. Every convolution over time keeps the last two frames that it saw. What a backend takes to
    work in is not in it: torch on a CPU unfolds 3x3x3 convolutions of small clips, to three times
    as much.
    """
    widths = [config.decoder_width * m for m in reversed(config.width_multipliers)]
    growths = [*reversed(config.reductions[:-1]), (False, False)]
    cells, frames, c_in = rows * columns, 1, widths[0]
    over_time = 1 if config.factorised else 2  # convolutions of a residual block that see the past
    peak, past = 0, 2 * cells * (config.latent_channels + 2 * over_time * widths[0])
    for c_out, (space, time) in zip(widths, growths, strict=True):
        wide = max(c_in, c_out)
        peak = max(peak, cells * wide * (4 * frames + 2))
        past += 2 * cells * (c_in + c_out * (2 * config.blocks + 1)) * over_time // 2
        if time:
            past += 2 * cells * c_out
            frames *= 2
        if space:
            cells *= 4
        if space or time:
            peak = max(peak, 3 * cells * frames * c_out)
        c_in = c_out if config.grouped or not (space or time) else c_out // 2
    video = 3 * 3 * frames * cells * config.pixel_patch**2
    return value_bytes * (peak + past + video)


def sampling_seconds(run: Run, speed: Speed, value_bytes: int = 4) -> float:
    """Seconds of all steps: matrix products, attention, elementwise work and calls, added up.

    Elementwise work moves 45 D + 2 M values a token in each layer: norms, modulation, rotation of
    queries and keys, gates, GELU.
    """
    if run.blind:
        return sum(sampling_seconds(half, speed, value_bytes) for half in run.halves)
    config, flops = run.config, run_flops(run)
    layers = config.layers + config.vace_blocks
    calls = run.steps * run.passes
    values = calls * run.batch * (run.tokens - run.cached) * layers
    values *= 45 * config.width + 2 * config.mlp_width
    return (
        (flops.linear + flops.text) / speed.linear
        + flops.attention / speed.attention
        + values * value_bytes / speed.traffic
        + calls * layers * OPERATIONS * speed.call
    )


def config_of_shapes(shapes: Mapping[str, tuple[int, ...]]) -> TransformerConfig:
    """The config by which a transformer is counted, from the shapes of its weights.

    Wan's names say it all. Any other counts as the PatchDiT with as many weights in as many layers
    of the same width, the one that most of its weight matrices take in.
    """
    if {"patch_embedding.weight", "blocks.0.ffn.0.weight", "head.head.weight"} <= set(shapes):
        return _wan_config(shapes)
    matrices = {name: shape for name, shape in shapes.items() if len(shape) >= 2}
    if not matrices:
        raise ValueError("MODEL has no weight matrices to count; need a transformer for video.")
    widths = Counter(prod(shape[1:]) for shape in matrices.values())
    width = widths.most_common(1)[0][0]
    width += width % 2
    blocks = {match[0] for name in matrices if (match := re.search(r"^.*?\.\d+(?=\.)", name))}
    layers = max(len(blocks), 1)
    weights = sum(prod(shape) for shape in matrices.values())
    mlp_width = max(round((weights / layers - 8 * width**2) / (2 * width)), 0)
    return TransformerConfig(width, mlp_width, 1, layers)


def _wan_config(shapes: Mapping[str, tuple[int, ...]]) -> TransformerConfig:
    width, channels, *patch = shapes["patch_embedding.weight"]
    cells = prod(patch)

    image = shapes.get("img_emb.proj.0.weight", (0,))[0]
    control = shapes.get("vace_patch_embedding.weight", (0, 0))[1]
    return TransformerConfig(
        width,
        shapes["blocks.0.ffn.0.weight"][0],
        max(width // 128, 1),
        count_blocks(shapes, "blocks"),
        in_channels=channels,
        out_channels=shapes["head.head.weight"][0] // cells,
        patch=(patch[0], patch[1], patch[2]),  # pyright: ignore
        text_width=shapes["text_embedding.0.weight"][1],
        image_width=image,
        image_positions=shapes.get("img_emb.emb_pos", (1, 0, 0))[1],
        vace_blocks=count_blocks(shapes, "vace_blocks"),
        vace_channels=control,
    )


def largest(fits: Callable[[int], bool], most: int) -> int:
    """The largest n of 1..most that fits, 0 if none does; what fits below n must fit too."""
    low, high = 0, most
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(middle) else (low, middle - 1)
    return low
