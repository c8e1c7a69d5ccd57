"""The cost of a run: against FLOPs and memory as torch counts them, and against the clock."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest
import torch
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from patchdit.models import blockworld
from patchdit.models.blocks import KnownCache
from patchdit.models.config import TRANSFORMER_PRESETS, VAE_PRESETS, TransformerConfig
from patchdit.models.cost import (
    Run,
    Speed,
    call_flops,
    config_of_shapes,
    decode_bytes,
    largest,
    run_flops,
    sampling_bytes,
    sampling_seconds,
    text_flops,
)
from patchdit.models.device_speed import measure, speed_of
from patchdit.models.transformer import PatchDiT
from patchdit.models.video_vae import VideoVAE

SMALL = TransformerConfig(96, 384, 4, 3, text_width=64, text_length=24)
CONFIGS = {
    "plain": SMALL,
    "wide MLP, position table": replace(SMALL, mlp_width=600, position_features=8),
    "head of another size": replace(SMALL, in_channels=36, layers=2, text_length=7),
}


def matmul_attention(q_BNLH, k_BNSH, v_BNSH, mask=None):
    """The counter does not know the CPU's fused attention."""
    return (q_BNLH @ k_BNSH.transpose(-1, -2)).softmax(-1) @ v_BNSH


def counted(work) -> int:
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        work()
    return counter.get_total_flops()


def peak_of(work) -> int:
    """Bytes alive at once during `work`, of those made in it."""
    with torch.no_grad():
        work()
        with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
            work()
    events = profiler.profiler.kineto_results.events()  # pyright: ignore
    now = top = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        if event.name() == "[memory]":
            now += event.nbytes()  # pyright: ignore
            top = max(top, now)
    return top


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_flops_of_a_run_are_those_that_torch_counts(config):
    network = PatchDiT(config, attention=matmul_attention).eval()
    x_BCTHW = torch.randn(1, config.in_channels, 3, 4, 6)
    context = torch.randn(1, 5, config.text_width)

    def two_steps_two_prompts():
        for _ in range(2):
            text = network.text_keys_values(context)
            for step in (800.0, 400.0):
                network(x_BCTHW, torch.tensor([step]), text)

    run = Run(config, config.patch.tokens((3, 4, 6)), steps=2, passes=2)
    assert run.tokens == 18
    assert run_flops(run).total == pytest.approx(counted(two_steps_two_prompts), rel=0.01)


def test_known_tokens_are_paid_for_once():
    config = replace(SMALL, frame_timesteps=True, known_attends_known=True)
    network = PatchDiT(config, attention=matmul_attention).eval()
    x_BCTHW = torch.randn(1, 16, 4, 4, 4)
    context = torch.randn(1, 5, config.text_width)

    def three_steps():
        text, cache = network.text_keys_values(context), KnownCache()
        for step in (900.0, 600.0, 300.0):
            network(x_BCTHW, torch.tensor([[0.0, 0.0, step, step]]), text, cache=cache)

    run = Run(config, tokens=16, steps=3, passes=1, known=8)
    assert run_flops(run).total == pytest.approx(counted(three_steps), rel=0.01)
    forgetful = replace(run, config=SMALL)  # weights without that: known ones cost as others do
    assert run_flops(forgetful) == run_flops(replace(forgetful, known=0))
    linear = run_flops(forgetful).linear / run_flops(run).linear
    assert linear == pytest.approx(48 / 32, rel=0.05)  # three times 16, or 8 and three times 8


def test_closed_forms():
    config = TransformerConfig(8, 32, 2, 3, text_width=4, text_length=5)
    assert text_flops(config) == 2 * (5 * (4 * 8 + 64) + 3 * 2 * 5 * 64)
    call = call_flops(config, tokens=10, keys=20)
    token = 4 * 8 * 32 + 3 * (6 * 64 + 2 * 8 * 32)
    assert call.linear == 2 * (10 * token + 256 * 8 + 7 * 64)
    assert call.attention == 3 * 4 * 10 * 8 * (20 + 5)
    run = Run(config, 10, steps=4, passes=2, batch=3)
    one = run_flops(Run(config, 10, steps=1, passes=1))
    assert run_flops(run).linear == 24 * one.linear
    assert run_flops(run).text == 6 * one.text


def test_wan_1_3b_at_480p():
    """832x480, 81 frames: 21 x 30 x 52 tokens, the sequence length that Wan's authors name."""
    config = TRANSFORMER_PRESETS["wan2.1-1.3b"]
    tokens = config.patch.tokens((21, 60, 104))
    assert tokens == 32760
    call = call_flops(config, tokens, tokens)
    # Every parameter of the blocks is used once a token, but for those that see the text only.
    blocks = 30 * (6 * 1536**2 + 2 * 1536 * 8960)
    assert call.linear / (2 * tokens) == pytest.approx(blocks, rel=0.001)
    assert call.attention > call.linear  # why long videos are slow


@pytest.mark.parametrize("size", [(1, 3, 8, 8), (2, 5, 16, 16)], ids=str)
@pytest.mark.parametrize("mlp_width", [96, 384, 800])
def test_memory_of_a_step_is_what_torch_allocates(size, mlp_width):
    config = replace(SMALL, mlp_width=mlp_width)
    network = PatchDiT(config).eval()
    B, *latent = size
    x_BCTHW, t = torch.randn(B, 16, *latent), torch.full((B,), 500.0)
    context = torch.randn(B, 5, config.text_width)
    peak = peak_of(lambda: network(x_BCTHW, t, network.text_keys_values(context)))
    run = Run(config, config.patch.tokens(latent), 1, 1, B)
    assert peak / 1.25 < sampling_bytes(run) < peak * 1.25


@pytest.mark.parametrize("width", [16, 64])
def test_memory_of_decoding_is_what_torch_allocates_for_a_clip_of_any_length(width):
    config = replace(VAE_PRESETS["blockworld-mini"], decoder_width=width)
    vae = VideoVAE(config).eval()
    peaks = []
    for frames in (3, 9):
        latent = torch.randn(1, 16, frames, 8, 12)
        peaks.append(peak_of(lambda latent=latent: list(map(id, vae.decode_stream(latent)))))
    assert peaks[1] < 1.02 * peaks[0]
    assert peaks[0] / 1.35 < decode_bytes(config, 8, 12) < peaks[0] * 1.35


def test_more_of_anything_costs_more():
    run = Run(SMALL, 100, 10, 2)
    speed = Speed(1e9, 1e9, 1e9, 1e-6)
    for change in ({"tokens": 101}, {"batch": 2}):
        more = replace(run, **change)
        assert sampling_bytes(more) > sampling_bytes(run)
        assert sampling_seconds(more, speed) > sampling_seconds(run, speed)
    assert sampling_bytes(replace(run, steps=20)) == sampling_bytes(run)
    assert sampling_bytes(run, 2) < sampling_bytes(run, 4)


@pytest.mark.parametrize(
    "name", ["wan2.1-1.3b", "wan2.1-i2v-14b", "wan2.2-ti2v-5b", "wan2.1-vace-1.3b"]
)
def test_a_wan_config_is_read_off_the_shapes(name):
    config = TRANSFORMER_PRESETS[name]
    with torch.device("meta"):
        weights = PatchDiT(config).state_dict()
    shapes = {key: tuple(weight.shape) for key, weight in weights.items()}
    if config.vace_blocks and "vace_patch_embedding.weight" not in shapes:
        pytest.skip("VACE's own weights are not in the network yet")
    told = config_of_shapes(shapes)
    assert call_flops(told, 1000, 1000) == call_flops(config, 1000, 1000)
    assert text_flops(told) == text_flops(config)


def test_a_blind_half_computes_what_the_other_has_cached():
    config = replace(SMALL, frame_timesteps=True, known_attends_known=True)
    run = Run(config, tokens=16, steps=3, passes=2, known=8)
    one, none = (run_flops(replace(run, passes=1, known=known)) for known in (8, 0))
    both = run_flops(replace(run, blind=True))
    assert both.linear == one.linear + none.linear
    assert both.attention == one.attention + none.attention
    assert run_flops(run).total < both.total < run_flops(replace(run, known=0)).total
    assert sampling_bytes(replace(run, blind=True)) == sampling_bytes(replace(run, known=0))


def test_an_unknown_transformer_counts_by_its_weights():
    block = {"attn.qkv.weight": (192, 64), "attn.out.weight": (64, 64), "mlp.weight": (256, 64)}
    shapes = {f"transformer_blocks.{i}.{name}": s for i in range(5) for name, s in block.items()}
    shapes |= {"norm.weight": (64,)}
    config = config_of_shapes(shapes)
    assert (config.width, config.layers) == (64, 5)
    weights = 5 * 64 * (192 + 64 + 256)
    assert 5 * (8 * 64**2 + 2 * 64 * config.mlp_width) == pytest.approx(weights, rel=0.02)
    with pytest.raises(ValueError, match="no weight matrices"):
        config_of_shapes({"norm.weight": (64,)})


def test_largest_that_fits():
    for most in (0, 1, 7, 100):
        for limit in (0, 1, 6, 7, 99, 100, 1000):
            assert largest(lambda n, limit=limit: n <= limit, most) == min(limit, most)


def test_speed_is_measured_once(tmp_path, monkeypatch):
    file, cpu = tmp_path / "deep" / "speed.json", torch.device("cpu")
    start = time.perf_counter()
    first = speed_of(cpu, torch.float32, "this", file)
    assert time.perf_counter() - start < 10  # two when the machine is quiet
    assert min(first.linear, first.attention, first.traffic) > 1e7 and 0 < first.call < 0.1
    monkeypatch.setattr("patchdit.models.device_speed.measure", lambda *_: pytest.fail("again"))
    assert speed_of(cpu, torch.float32, "this", file) == first
    with pytest.raises(pytest.fail.Exception, match="again"):
        speed_of(cpu, torch.float32, "another", file)
    file.write_text("{broken")
    with pytest.raises(pytest.fail.Exception, match="again"):
        speed_of(cpu, torch.float32, "this", file)


def test_seconds_of_the_shipped_model():
    """Within a factor of 2 where nothing else runs; 5 here, for machines that do other things.

    CPU time of one thread, so that what others compute does not count.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        speed = measure(torch.device("cpu"), torch.float32)
        network = blockworld.load(blockworld.FOLDER).transformer
        x_BCTHW = torch.randn(1, 16, 5, 8, 8)
        times = []
        with torch.no_grad():
            text = network.text_keys_values(torch.randn(1, 80, network.config.text_width))
            for _ in range(7):
                start = time.process_time()
                network(x_BCTHW, torch.tensor([500.0]), text)
                times.append(time.process_time() - start)
    finally:
        torch.set_num_threads(threads)
    seconds = sampling_seconds(Run(network.config, 80, 1, 1), speed)
    print(f"estimated {1000 * seconds:.1f} ms, measured {1000 * min(times):.1f} ms")
    assert min(times) / 5 < seconds < min(times) * 5
