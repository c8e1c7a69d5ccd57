"""Schedules, solvers and runs: closed forms, parity with diffusers, exact resumption."""

import json
import pickle
from dataclasses import fields

import pytest
import torch
from safetensors.torch import load_file, save_file

from patchdit.models.config import PatchSize
from patchdit.models.flow import (
    FILLS,
    SOLVERS,
    denoise,
    denoise_step,
    edit,
    finish,
    noise_levels,
    start,
)
from patchdit.models.solvers import add_noise, euler, shift_for, shifted_sigmas
from patchdit.models.state_files import STATE_KEY, load_state, save_state
from patchdit.models.tensor_files import read_metadata

SHAPE = (2, 3, 3, 4, 4)


def towards(x, sigma):
    """A stand-in for a network: smooth in x and sigma, and not linear."""
    spread = sigma.reshape(*sigma.shape, *(1,) * (4 - sigma.ndim)).unsqueeze(1)
    return torch.sin(x) * (1 - 0.3 * spread) + 0.1


def latent(seed=0):
    return torch.randn(SHAPE, generator=torch.Generator().manual_seed(seed))


def known_frame():
    mask = torch.ones(2, 1, 3, 4, 4)
    mask[:, :, 0] = 0
    return mask


def test_the_official_schedule_has_its_published_values():
    sigmas = shifted_sigmas(5, 5.0, schedule="wan")
    expected = torch.tensor([0.9998, 0.9522, 0.8821, 0.7689, 0.5552, 0.0])
    torch.testing.assert_close(sigmas, expected, atol=5e-5, rtol=0)


def test_the_linear_schedule_is_the_closed_form():
    even = 1 - torch.arange(9) / 8
    torch.testing.assert_close(shifted_sigmas(8, 3.0), 3 * even / (1 + 2 * even))
    torch.testing.assert_close(shifted_sigmas(4, 3.0, denoise=0.5), shifted_sigmas(8, 3.0)[4:])


def test_the_shift_grows_with_the_square_root_of_the_tokens():
    assert (shift_for(1), shift_for(80), shift_for(320)) == (1.0, 6.0, 12.0)


@pytest.mark.parametrize("steps", [1, 2, 3, 20])
def test_unipc_equals_diffusers(steps):
    from diffusers import UniPCMultistepScheduler

    theirs = UniPCMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=5.0
    )
    theirs.set_timesteps(steps)
    sigmas = shifted_sigmas(steps, 5.0, schedule="diffusers")
    torch.testing.assert_close(theirs.sigmas, sigmas, atol=1e-6, rtol=0)
    state = start(torch.zeros(SHAPE), None, sigmas, 3, solver="unipc")
    x = state.noise
    for t, sigma in zip(theirs.timesteps, theirs.sigmas, strict=False):
        velocity = (x - towards(x, sigma.expand(2))) / sigma
        x = theirs.step(velocity, t, x, return_dict=False)[0]
    ours = finish(denoise(state, towards))
    torch.testing.assert_close(ours, x, atol=1e-5, rtol=0)
    if steps > 2:  # the last step and the first are Euler's
        plain = start(torch.zeros(SHAPE), None, sigmas, 3, solver="euler")
        assert (finish(denoise(plain, towards)) - x).abs().max() > 1e-3


def test_an_euler_step_is_x_minus_dt_times_v():
    x, x0 = latent(1), latent(2)
    out, history = euler(x, x0, [0.8, 0.5, 0.0], 0, (), torch.randn_like)
    torch.testing.assert_close(out, x - 0.3 * (x - x0) / 0.8)
    assert history == ()


@pytest.mark.parametrize("seed", [7, [7, 8]])
def test_an_lcm_step_is_the_prediction_with_fresh_noise(seed):
    """The generator that drew the run's noise goes on: its second draw, then its third."""
    seen = []
    generators = [torch.Generator().manual_seed(s) for s in ([7] if seed == 7 else seed)]
    shape = SHAPE if seed == 7 else (1, *SHAPE[1:])
    draws = [torch.cat([torch.randn(shape, generator=g) for g in generators]) for _ in range(3)]

    def look(x, sigma):
        seen.append(x)
        return towards(x, sigma)

    sigmas = torch.tensor([1.0, 0.75, 0.25, 0.0])
    state = denoise(start(latent(), None, sigmas, seed, solver="lcm"), look)
    first, second, third = seen
    assert torch.equal(first, draws[0])
    assert torch.equal(second, 0.25 * towards(first, torch.ones(2)) + 0.75 * draws[1])
    assert torch.equal(third, 0.75 * towards(second, torch.full((2,), 0.75)) + 0.25 * draws[2])
    assert torch.equal(finish(state), towards(third, torch.full((2,), 0.25)))


@pytest.mark.parametrize("fill", ["frames", "replace"])
def test_lcm_holds_what_is_known(fill):
    state = start(latent(), known_frame(), shifted_sigmas(4), 2, solver="lcm", fill=fill)
    state = denoise(state, towards, steps=2)
    level = 0.0 if fill == "frames" else 0.5
    held = (1 - level) * latent()[:, :, 0] + level * state.noise[:, :, 0]
    assert torch.equal(state.x[:, :, 0], held)


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("first", [1.0, 0.7])
def test_a_denoiser_that_knows_the_answer_is_followed_to_it(solver, first):
    answer, sigmas = latent(5), shifted_sigmas(6, 3.0) * first
    state = start(latent(), None, sigmas, 1, solver=solver)
    torch.testing.assert_close(state.x, (1 - first) * latent() + first * state.noise)
    run = denoise(state, lambda x, sigma: answer)
    torch.testing.assert_close(finish(run), answer, atol=1e-6, rtol=0)


def test_noise_of_a_seed_is_comfyuis_and_noise_of_a_list_belongs_to_its_item():
    sigmas = shifted_sigmas(2)
    whole = start(latent(), None, sigmas, 7).noise
    assert torch.equal(whole, torch.randn(SHAPE, generator=torch.manual_seed(7)))
    pair = start(latent(), None, sigmas, [7, 8]).noise
    alone = start(latent()[:1], None, sigmas, 8).noise
    assert torch.equal(pair[1:], alone)
    assert not torch.equal(pair[:1], pair[1:])


RUNS = [
    {"solver": solver, "fill": fill, "renoise": renoise}
    for solver in SOLVERS
    for fill in FILLS
    for renoise in (0, 2)
]


@pytest.mark.parametrize("options", RUNS, ids=lambda o: "-".join(map(str, o.values())))
@pytest.mark.parametrize("seed", [4, [4, 9]])
def test_single_steps_saved_and_loaded_equal_one_run_bit_for_bit(options, seed, tmp_path):
    state = start(latent(), known_frame(), shifted_sigmas(5, 3.0), seed, **options)
    whole = denoise(state, towards)
    path = tmp_path / "run.safetensors"
    for _ in range(5):
        save_state(state, path)
        state = denoise_step(load_state(path), towards)
    for field in fields(state):
        ours, theirs = getattr(state, field.name), getattr(whole, field.name)
        pairs = zip(ours, theirs, strict=True) if field.name == "history" else [(ours, theirs)]
        for a, b in pairs:
            assert torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b, field.name
    assert torch.equal(finish(state)[:, :, 0], latent()[:, :, 0])
    assert list(tmp_path.iterdir()) == [path]


def test_known_frames_are_clean_or_noised_as_the_fill_says():
    sigmas = shifted_sigmas(4)
    seen = []

    def look(x, sigma):
        seen.append((x, sigma))
        return towards(x, sigma)

    for fill in ("frames", "replace"):
        state = start(latent(), known_frame(), sigmas, 2, fill=fill)
        denoise(state, look, steps=2)
        x, sigma = seen[-1]
        level = 0.0 if fill == "frames" else 0.75
        held = (1 - level) * latent()[:, :, 0] + level * state.noise[:, :, 0]
        assert torch.equal(x[:, :, 0], held)
        expected = [[0.0, 0.75, 0.75]] * 2 if fill == "frames" else [0.75, 0.75]
        assert sigma.tolist() == expected


@pytest.mark.parametrize("solver", SOLVERS)
def test_a_native_fill_holds_nothing_until_the_end(solver):
    """On the way it is the run that knows nothing, at one level; what is shown is the latent."""
    mask = known_frame()
    mask[:, :, 2] = 0.3  # generated like the rest
    sigmas = shifted_sigmas(4)
    state = start(latent(), mask, sigmas, 2, solver=solver, fill="native")
    plain = start(latent(), None, sigmas, 2, solver=solver)
    for _ in range(4):
        assert noise_levels(state).shape == (2,)
        assert torch.equal(noise_levels(state), noise_levels(plain))
        state, plain = denoise_step(state, towards), denoise_step(plain, towards)
        assert torch.equal(state.x, plain.x)
        assert torch.equal(state.x0[:, :, 0], latent()[:, :, 0])
        assert torch.equal(state.x0[:, :, 1:], plain.x0[:, :, 1:])
    assert torch.equal(finish(state)[:, :, 0], latent()[:, :, 0])
    assert torch.equal(finish(state)[:, :, 1:], finish(plain)[:, :, 1:])
    assert not torch.equal(finish(plain)[:, :, 0], latent()[:, :, 0])


def test_editing_a_native_run_leaves_x_as_it_is():
    state = start(latent(), known_frame(), shifted_sigmas(4), 2, fill="native")
    state = denoise(state, towards, steps=2)
    for mask in (torch.ones(2, 1, 3, 4, 4), known_frame().flip(2)):
        assert torch.equal(edit(state, latent=latent(9), mask=mask).x, state.x)


def test_cells_of_a_patch_that_is_not_wholly_known_are_held_at_its_level():
    mask = torch.ones(2, 1, 3, 4, 4)
    mask[:, :, 1, 0:3, 0:2] = 0  # one whole patch and half of another
    state = denoise(start(latent(), mask, shifted_sigmas(4), 2), towards, steps=1)
    levels = noise_levels(state)
    assert levels.shape == (2, 3, 4, 4)
    assert levels[0, 1, 0, :2].tolist() == [0, 0]
    assert levels[0, 1, 2, :2].tolist() == [0.75, 0.75]
    half = (slice(None), slice(None), 1, 2, slice(0, 2))
    expected = 0.25 * latent()[half] + 0.75 * state.noise[half]
    assert torch.equal(state.x[half], expected)
    assert torch.equal(finish(denoise(state, towards))[half], latent()[half])


@pytest.mark.parametrize("fill", ["frames", "replace"])
@pytest.mark.parametrize("solver", ["euler", "unipc"])
def test_a_soft_cell_is_held_for_its_share_of_the_steps_and_then_set_free(fill, solver):
    mask = torch.ones(2, 1, 3, 4, 4)
    mask[:, :, 2] = 0.5
    state = start(latent(), mask, shifted_sigmas(4), 2, fill=fill, solver=solver)
    for step in range(4):
        assert state.known[:, :, 2].all() == (step < 2)
        if step in (1, 2):  # in x at the level of "replace"; freed at the level of the run
            level = 0.0 if fill == "frames" and step < 2 else state.sigmas[step]
            held = (1 - level) * latent()[:, :, 2] + level * state.noise[:, :, 2]
            assert torch.equal(state.x[:, :, 2], held)
        state = denoise_step(state, towards)
    assert torch.equal(finish(state)[:, :, 2], state.x[:, :, 2])
    assert not torch.equal(state.x[:, :, 2], latent()[:, :, 2])


@pytest.mark.parametrize("share", [0.4, 0.5, 0.6])
@pytest.mark.parametrize("fill", ["frames", "replace"])
def test_a_softer_mask_keeps_what_the_run_made_where_it_holds_nothing_now(fill, share):
    state = denoise(start(latent(), None, shifted_sigmas(4), 2, fill=fill), towards, steps=2)
    edited = edit(state, mask=torch.full((2, 1, 3, 4, 4), share))
    held = share < 0.5  # beyond half of the steps
    assert edited.held_at(2).all() == held and torch.equal(edited.x, state.x) != held


def test_setting_cells_free_forgets_the_history():
    mask = torch.ones(2, 1, 3, 4, 4)
    mask[:, :, 2] = 0.5
    state = start(latent(), mask, shifted_sigmas(4), 2, solver="unipc")
    held = []
    for _ in range(4):
        state = denoise_step(state, towards)
        held.append(bool(state.history))
    assert held == [True, False, True, True]


def test_a_nearly_kept_cell_ends_as_it_was():
    mask = torch.ones(2, 1, 3, 4, 4)
    mask[:, :, 2] = 0.01
    state = denoise(start(latent(), mask, shifted_sigmas(4), 2), towards)
    assert torch.equal(finish(state)[:, :, 2], latent()[:, :, 2])


def test_renoising_reaches_the_level_it_came_from():
    torch.manual_seed(0)
    x0, noise, fresh = torch.full((100_000,), 2.0), torch.randn(100_000), torch.randn(100_000)
    back = add_noise(0.7 * x0 + 0.3 * noise, fresh, 0.8, 0.3)
    assert back.mean().item() == pytest.approx(0.2 * 2.0, abs=0.01)
    assert back.std().item() == pytest.approx(0.8, abs=0.01)


def test_every_renoising_draws_new_noise():
    levels = []
    state = start(torch.zeros(SHAPE), None, torch.tensor([1.0, 0.5, 0.0]), 1, renoise=3)
    denoise_step(state, lambda x, sigma: levels.append(x) or torch.zeros_like(x))
    for i, one in enumerate(levels):
        assert one.std().item() == pytest.approx(1, abs=0.1)
        for other in levels[:i]:
            assert abs((one * other).mean().item()) < 0.2


def test_a_mask_of_one_row_serves_the_whole_batch():
    for fill in ("frames", "replace"):
        runs = [
            start(latent(), mask, shifted_sigmas(3), 1, fill=fill)
            for mask in (known_frame(), known_frame()[:1])
        ]
        levels = [noise_levels(state) for state in runs]
        assert torch.equal(*levels) and len(levels[0]) == 2
        assert torch.equal(*(finish(denoise(state, towards)) for state in runs))


def test_editing_forgets_the_history_and_frees_cells_at_the_present_level():
    state = start(latent(), known_frame(), shifted_sigmas(4), 1, solver="unipc")
    state = denoise(state, towards, steps=2)
    assert state.history
    assert edit(state).history == ()
    free = edit(state, mask=torch.ones(2, 1, 3, 4, 4))
    expected = 0.5 * latent()[:, :, 0] + 0.5 * state.noise[:, :, 0]
    assert torch.equal(free.x[:, :, 0], expected)
    assert torch.equal(free.x[:, :, 1:], state.x[:, :, 1:])
    changed = edit(state, latent=latent(9))
    assert torch.equal(changed.x[:, :, 0], latent(9)[:, :, 0])
    finer = torch.tensor([1.0, 0.75, 0.5, 0.4, 0.2, 0.0])
    assert edit(state, sigmas=finer).steps_left == 3
    for wrong, message in (
        ({"sigmas": shifted_sigmas(4, 3.0)}, r"noise level is 0\.5"),
        ({"mask": torch.ones(2, 1, 2, 4, 4)}, r"needs \(2, 1, 3, 4, 4\)"),
        ({"latent": latent()[:, :, :2]}, "needs"),
        ({"x": latent()[:, :, :2]}, "another shape"),
    ):
        with pytest.raises(ValueError, match=message):
            edit(state, **wrong)


def test_callback_sees_every_step_and_x0_is_its_prediction():
    seen = []
    state = start(latent(), known_frame(), shifted_sigmas(3), 1)
    assert torch.equal(state.x0, latent())
    denoise(state, towards, callback=lambda s: seen.append((s.step, s.x0)))
    assert [step for step, _ in seen] == [1, 2, 3]
    expected = towards(state.x, noise_levels(state))
    assert torch.equal(seen[0][1][:, :, 1:], expected[:, :, 1:])
    assert torch.equal(seen[0][1][:, :, 0], latent()[:, :, 0])


def test_bad_runs_are_refused_in_one_sentence():
    good = shifted_sigmas(3)
    bad = latent()
    bad[0, 0, 0, 0, 0] = float("nan")
    cases = [
        (lambda: start(bad, None, good, 1), "not numbers"),
        (lambda: start(latent()[0], None, good, 1), r"\(B,C,T,H,W\)"),
        (lambda: start(latent(), torch.ones(2, 1, 2, 4, 4), good, 1), r"needs \(2, 1, 3, 4, 4\)"),
        (lambda: start(latent(), None, good.flip(0), 1), "fall from at most 1 to 0"),
        (lambda: start(latent(), None, good[:-1], 1), "fall from at most 1 to 0"),
        (lambda: start(latent(), None, good, [1, 2, 3]), "3 seeds for a batch of 2"),
        (lambda: start(latent(), None, good, 1, solver="magic"), "euler, unipc, lcm"),
        (lambda: start(latent(), None, good, 1, fill="magic"), "frames, replace, native"),
        (lambda: start(latent(), 2 * known_frame(), good, 1), "outside 0 to 1"),
        (lambda: start(latent(), known_frame(), good, 1, patch=PatchSize(1, 3, 1)), "multiples"),
        (lambda: finish(start(latent(), None, good, 1)), "0 of 3 steps"),
        (lambda: denoise_step(denoise(start(latent(), None, good, 1), towards), towards), "done"),
        (lambda: shifted_sigmas(0), "at least 1 step"),
        (lambda: shifted_sigmas(3, 0.0), "a shift above 0"),
        (lambda: shifted_sigmas(3, denoise=0.0), "denoise above 0"),
        (lambda: shifted_sigmas(3, schedule="karras"), "linear, wan, diffusers"),
    ]
    for call, message in cases:
        with pytest.raises(ValueError, match=message):
            call()


def test_files_that_are_no_run_are_refused(tmp_path):
    path = tmp_path / "run.safetensors"
    save_state(start(latent(), None, shifted_sigmas(3), 1), path)
    whole = path.read_bytes()
    for content, message in (
        (whole[: len(whole) // 2], "not a whole safetensors file"),
        (pickle.dumps({"x": 1}), "pickle"),
        (b"hello", "not a whole safetensors file"),
        (whole.replace(b"patchdit.state", b"somebody.elses"), "holds no denoising run"),
        (whole.replace(b"random_state", b"random_stale"), "of another version"),
        (whole.replace(b"euler", b"eular"), "of another version"),
        (whole.replace(b'"{', b'"['), "unreadable patchdit.state"),
    ):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=message):
            load_state(path)
    with pytest.raises(ValueError, match="no file"):
        load_state(tmp_path / "absent.safetensors")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"step": 9}, "3 steps at step 9; need a whole number from 0 to 3: save"),
        ({"step": 4}, "3 steps at step 4; need"),
        ({"step": -2}, "3 steps at step -2; need"),
        ({"step": "1"}, "3 steps at step '1'; need"),
        ({"step": 1.0}, "3 steps at step 1.0; need"),
        ({"step": True}, "3 steps at step True; need"),
        ({"step": None}, "3 steps at step None; need"),
        ({"patch": [1, 2]}, r"patch \[1, 2\] and renoise 0; need"),
        ({"patch": [1, 0, 2]}, r"patch \[1, 0, 2\] and renoise 0; need"),
        ({"renoise": -1}, "renoise -1; need"),
        ({"solver": ["euler"]}, "of another version"),
        ([], "of another version"),
        (7, "of another version"),
    ],
)
def test_a_state_whose_numbers_cannot_be_is_refused(values, message, tmp_path):
    path = tmp_path / "run.safetensors"
    save_state(start(latent(), None, shifted_sigmas(3), 1), path)
    saved = json.loads(read_metadata(path)[STATE_KEY])
    values = saved | values if isinstance(values, dict) else values
    save_file(load_file(path), path, {STATE_KEY: json.dumps(values)})
    with pytest.raises(ValueError, match=f"^run.safetensors .*{message}"):
        load_state(path)


def test_a_state_at_its_first_and_at_its_last_step_is_whole(tmp_path):
    path = tmp_path / "run.safetensors"
    state = start(latent(), None, shifted_sigmas(3), 1)
    for steps in (0, 3):
        save_state(denoise(state, towards, steps), path)
        assert load_state(path).step == steps
