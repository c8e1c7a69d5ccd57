"""Shot and Storyboard: words, lengths, what is made, kept, locked and damaged."""

from __future__ import annotations

import os

import pytest
import torch

from patchdit.models.timeline import pixel_frames
from patchdit.nodes import host, shots, verbs
from patchdit.nodes.kept_shots import KeptShots
from patchdit.nodes.storyboard import Shot, Storyboard
from patchdit.nodes.types import Shot as ShotValue


def shot(prompt="bounces", seconds=1.0, camera="as prompted", join="cut", seed=-1, lock=False):
    """One Shot's inputs."""
    return {
        "prompt": prompt,
        "seconds": seconds,
        "camera": camera,
        "join": join,
        "seed": seed,
        "lock": lock,
    }


def chain(*inputs):
    listed = None
    for one in inputs:
        (listed,) = Shot.execute(previous=listed, **one).args
    return listed


@pytest.fixture
def board(model, vae, parts, tmp_path, monkeypatch):
    """Runs a storyboard of shots; `.made` lists the seeds of the windows that were denoised."""
    monkeypatch.setattr(host, "journal_folder", lambda: tmp_path)
    begin, made = verbs.begin, []
    monkeypatch.setattr(verbs, "begin", lambda *a, **k: made.append(a[6]) or begin(*a, **k))
    settings = {
        "model": model,
        "clip": host.make_clip(parts.text, parts.tokenizer),
        "vae": vae,
        "subject": "a red ball",
        "negative": "",
        "width": 32,
        "height": 32,
        "fps": 0.0,
        "seed": 5,
        "steps": 2,
        "cfg": 2.0,
        "name": "film",
        "window": 13,
        "context": 5,
        "checkpoint": False,
    }

    def run(*inputs, **changes):
        made.clear()
        return Storyboard.execute(shots=chain(*inputs), **(settings | changes)).args

    run.made = made
    run.settings = settings
    run.vae = vae
    run.folder = tmp_path / "storyboards" / "film"
    return run


def frames_of(video):
    return video.get_components().images


def test_a_chain_of_shots_is_a_list_and_no_shot_changes_an_earlier_list():
    first = chain(shot("one"))
    (second,) = Shot.execute(previous=first, **shot("two", join="continue", seed=3, lock=True)).args
    assert first == (ShotValue("one", 1.0, "as prompted", False, None, False),)
    assert second == (*first, ShotValue("two", 1.0, "as prompted", True, 3, True))


@pytest.mark.parametrize(
    ("prompt", "subject", "camera", "text"),
    [
        ("bounces at night", "a red ball", "as prompted", "a red ball bounces at night"),
        ("It snows", "A red ball", "zoom in", "A red ball. It snows, the camera zooms in"),
        ("at night {subject} rests", "a cube", "still", "at night a cube rests, static camera"),
        ("a cube", "", "pan left", "a cube, the camera pans left"),
        ("", "a cube", "as prompted", "a cube"),
        ("", "", "as prompted", ""),
    ],
)
def test_the_words_of_a_shot(prompt, subject, camera, text):
    assert shots.prompt_of(ShotValue(prompt, 1, camera, False, None, False), subject) == text


def test_lengths_are_whole_groups_of_frames():
    one = ShotValue("", 2.0, "still", False, None, False)
    assert shots.latents_of(one, False, 8.0) == 5 and pixel_frames(5) == 17
    assert shots.latents_of(one, True, 8.0) == 4
    short = ShotValue("", 0.05, "still", False, None, False)
    assert shots.latents_of(short, False, 8.0) == 1 and shots.latents_of(short, True, 8.0) == 1


def test_cuts_begin_anew_and_continuing_shots_share_a_sequence(board):
    latents, video, seams, report = board(
        shot("bounces"), shot("rests", join="continue"), shot("sinks", 0.5)
    )
    assert [latent["samples"].shape[2] for latent in latents] == [5, 2]
    assert frames_of(video).shape == (17 + 5, 32, 32, 3) and video.get_frame_rate() == 8
    assert seams == "9"  # the first frame after 1 + 4 * 2
    assert "1: frames 0 to 8, cut, made, seed 5: a red ball bounces" in report
    assert "2: frames 9 to 16, continues, made" in report
    assert "3: frames 17 to 21, cut" in report
    decoded = [host.decode_frames(board.vae, latent["samples"]) for latent in latents]
    whole = torch.cat([chunk for run in decoded for chunk in run])
    assert torch.equal(frames_of(video), whole)


def test_the_first_shot_never_continues_and_shots_that_are_alike_begin_alike(board):
    latents, *_ = board(shot("bounces", 0.5, join="continue"), shot("bounces", 0.5))
    assert torch.equal(latents[0]["samples"], latents[1]["samples"])
    other, *_ = board(shot("bounces", 0.5), shot("bounces", 0.5, seed=6))
    assert torch.equal(other[0]["samples"], latents[0]["samples"])
    assert not torch.allclose(other[1]["samples"], latents[0]["samples"])


def test_a_long_shot_is_made_in_windows_and_a_continuing_one_sees_the_one_before(board):
    (latent,), *_ = board(shot("bounces", 3.0), shot("rests", join="continue"), window=9)
    assert latent["samples"].shape[2] == 7 + 2  # windows of 3 latents, context 2
    assert len(board.made) == 1 + 4 + 2
    (other,), *_ = board(shot("sinks", 3.0), shot("rests", join="continue"), window=9)
    assert not torch.allclose(other["samples"][:, :, 7:], latent["samples"][:, :, 7:])


def test_a_shot_after_kept_ones_is_the_one_of_a_run_from_the_start(board):
    story = [shot("bounces", 3.0), *(shot(f"rests {i}", join="continue") for i in range(4))]
    last = shot("sinks", 2.0, join="continue")
    for again in (0, 3):  # kept ones alone before it; one that is made after kept ones, too
        board(*story, name=f"kept {again}")
        changed = [*story[: 4 - again], *(one | {"seed": 9} for one in story[4 - again :]), last]
        kept, *_ = board(*changed, name=f"kept {again}")
        assert len(board.made) < 4 + again
        (fresh,), *_ = board(*changed, name=f"fresh {again}")
        assert torch.equal(kept[0]["samples"], fresh["samples"])


def test_a_long_run_decodes_no_more_than_a_window_for_each_shot(board, monkeypatch):
    decoded, still = [], shots.last_frame_as_image
    monkeypatch.setattr(
        shots,
        "last_frame_as_image",
        lambda vae, latent: decoded.append(latent.shape[2]) or still(vae, latent),
    )
    story = [shot(f"rests {i}", join="continue") for i in range(6)]
    (latent,), *_ = board(*story)
    assert latent["samples"].shape[2] == 3 + 5 * 2 and len(decoded) == 5 and max(decoded) <= 4
    decoded.clear()
    board(*story)
    assert not decoded  # nothing goes on from what is kept


def test_only_what_changed_is_made_again_and_what_continues_from_it(board):
    story = [shot("bounces"), shot("rests", join="continue"), shot("sinks", 0.5)]
    first = board(*story)
    assert len(board.made) == 3
    again = board(*story)
    assert board.made == []
    assert all(
        torch.equal(a["samples"], b["samples"]) for a, b in zip(first[0], again[0], strict=True)
    )
    assert "0 made now and 3 kept" in again[3]
    board(story[0], story[1], shot("rises", 0.5))
    assert len(board.made) == 1
    changed = board(story[0], shot("circles", join="continue"), story[2])
    assert len(board.made) == 1
    assert torch.equal(changed[0][0]["samples"][:, :, :3], first[0][0]["samples"][:, :, :3])
    board(shot("grows"), story[1], story[2])
    assert len(board.made) == 2  # the first, and what continues from it
    board(*story)
    assert board.made == []  # every take is still there
    board(*story[2:], *story[:2])
    assert board.made == []  # whatever the order


@pytest.mark.parametrize(
    "changes",
    [
        {"steps": 3},
        {"cfg": 3.0},
        {"width": 48},
        {"subject": "a cube"},
        {"negative": "a cube"},
        {"seed": 6},
    ],
)
def test_all_that_determines_a_shot_counts(board, changes):
    board(shot(seconds=0.5))
    board(shot(seconds=0.5), **changes)
    assert len(board.made) == 1


def test_other_weights_count(board, plain_parts, vae):
    board(shot(seconds=0.5))
    network = plain_parts.transformer
    with torch.no_grad():
        next(network.parameters()).add_(0.1)
    board(shot(seconds=0.5), model=host.make_model(network, plain_parts.vae))
    assert len(board.made) == 1


def test_a_locked_shot_is_never_made_again_whatever_changes(board):
    story = [shot("bounces"), shot("rests", join="continue"), shot("sinks", 0.5)]
    first, *_ = board(*story)
    locked = [story[0], story[1] | {"lock": True}, story[2] | {"lock": True}]
    rerolled, _, _, report = board(locked[0] | {"seed": 9}, *locked[1:], steps=3, seed=77)
    assert board.made == [9]
    assert torch.equal(rerolled[0]["samples"][:, :, 3:], first[0]["samples"][:, :, 3:])
    assert not torch.allclose(rerolled[0]["samples"][:, :, :3], first[0]["samples"][:, :, :3])
    assert torch.equal(rerolled[1]["samples"], first[1]["samples"])
    assert "continues, locked" in report
    moved, *_ = board(locked[2], shot("rises", 0.5))
    assert torch.equal(moved[0]["samples"], first[1]["samples"])


def test_all_shots_locked_and_made_are_just_put_together(board):
    first, *_ = board(shot("bounces"), shot("sinks", 0.5))
    locked, video, *_ = board(shot("bounces", lock=True), shot("sinks", 0.5, lock=True))
    assert board.made == [] and len(frames_of(video)) == 9 + 5
    assert all(torch.equal(a["samples"], b["samples"]) for a, b in zip(first, locked, strict=True))


def test_the_last_take_of_a_locked_shot_counts(board):
    board(shot("bounces", 0.5))
    later, *_ = board(shot("bounces", 0.5), steps=3)
    for path in board.folder.iterdir():
        if path.stat().st_size and path.name.split(".")[2] != key_of(board, later):
            os.utime(path, (1, 1))
    locked, *_ = board(shot("bounces", 0.5, lock=True), steps=4)
    assert board.made == [] and torch.equal(locked[0]["samples"], later[0]["samples"])


def key_of(board, latents):
    """The key under which these latents lie."""
    for path in board.folder.iterdir():
        _, _, key, *_ = path.name.split(".")
        if torch.equal(KeptShots(board.folder.parents[1], "film").find(key), latents[0]["samples"]):
            return key
    raise AssertionError("nothing is kept")


def damage(board):
    for path in board.folder.iterdir():
        data = bytearray(path.read_bytes())
        data[-5] ^= 1
        path.write_bytes(data)


def test_a_damaged_file_is_made_again_unless_locked(board):
    first, *_ = board(shot("bounces", 0.5))
    damage(board)
    with pytest.raises(ValueError, match="Shot 1 is locked and what was kept of it is damaged"):
        board(shot("bounces", 0.5, lock=True))
    again, *_ = board(shot("bounces", 0.5))
    assert len(board.made) == 1 and torch.equal(again[0]["samples"], first[0]["samples"])
    board(shot("bounces", 0.5, lock=True))
    assert board.made == []


def test_a_full_disk_stops_nothing(board, monkeypatch):
    monkeypatch.setattr(
        "patchdit.nodes.kept_shots.save_checkpoint", lambda *a: (_ for _ in ()).throw(OSError())
    )
    latents, *_ = board(shot("bounces", 0.5))
    assert latents[0]["samples"].shape[2] == 2 and not list(board.folder.iterdir())


def test_only_so_many_takes_are_kept(tmp_path, monkeypatch):
    monkeypatch.setattr("patchdit.nodes.kept_shots.MOST", 3)
    kept = KeptShots(tmp_path, "film")
    for i in range(5):
        kept.keep(0, "a" * 24, f"{i}" * 24, torch.full((1, 1, 1, 1, 1), float(i)))
        os.utime(next(kept.folder.glob(f"*.{str(i) * 24}.*")), (i, i))
    assert [kept.find(f"{i}" * 24) is not None for i in range(5)] == [
        False,
        False,
        True,
        True,
        True,
    ]


def one_kept(kept, place, asked, key, at):
    kept.keep(place, asked * 24, key * 24, torch.full((1, 1, 1, 1, 1), float(at)))
    os.utime(next(kept.folder.glob(f"{place}.{asked * 24}.{key * 24}.*")), (at, at))


USES = {
    "find": lambda kept: kept.find("0" * 24),
    "find_asked": lambda kept: kept.find_asked("a" * 24, 0),
    "has": lambda kept: kept.has("a" * 24),
}


@pytest.mark.parametrize("use", USES.values(), ids=USES)
@pytest.mark.parametrize("same_run", [True, False])
def test_a_take_in_use_outlives_rerolls_of_others(tmp_path, monkeypatch, use, same_run):
    monkeypatch.setattr("patchdit.nodes.kept_shots.MOST", 3)
    kept = KeptShots(tmp_path, "film")
    one_kept(kept, 0, "a", "0", at=1)
    for i in range(1, 3):
        one_kept(kept, 1, "b", f"{i}", at=1 + i)
    assert use(kept)
    rerolls = 6 if same_run else 2  # of one run as many as may be
    for i in range(3, 3 + rerolls):
        later = kept if same_run else KeptShots(tmp_path, "film")
        later.keep(1, "b" * 24, f"{i}" * 24, torch.full((1, 1, 1, 1, 1), float(i)))
    assert later.find("1" * 24) is None  # the others' were the ones to go
    assert torch.equal(later.find("0" * 24), torch.full((1, 1, 1, 1, 1), 1.0))


def test_a_damaged_take_is_not_in_use(tmp_path):
    kept = KeptShots(tmp_path, "film")
    one_kept(kept, 0, "a", "0", at=1)
    (path,) = kept.folder.iterdir()
    path.write_bytes(path.read_bytes()[:-1])
    os.utime(path, (1, 1))
    assert kept.find("0" * 24) is None and kept.find_asked("a" * 24, 0) is None
    assert path.stat().st_mtime == 1


def test_looking_whether_a_shot_is_kept_leaves_its_last_take_the_last(tmp_path):
    kept = KeptShots(tmp_path, "film")
    for place, key, at in ((0, "3", 3), (1, "2", 2), (0, "1", 1), (1, "4", 4)):
        one_kept(kept, place, "a", key, at)
    for _ in range(3):
        assert kept.has("a" * 24)
        last = {place: kept.find_asked("a" * 24, place) for place in (0, 1)}
        assert {place: found[0][0] for place, found in last.items()} == {0: "3", 1: "4"}


def test_a_folder_of_somebody_elses_can_be_read_from(tmp_path, monkeypatch):
    kept = KeptShots(tmp_path, "film")
    one_kept(kept, 0, "a", "0", at=1)

    def denied(*_, **__):
        raise PermissionError

    monkeypatch.setattr("patchdit.nodes.kept_shots.os.utime", denied)
    assert kept.has("a" * 24) and kept.find("0" * 24) is not None
    assert kept.find_asked("a" * 24, 0) is not None


def test_rerolling_one_shot_never_deletes_a_locked_one(board, monkeypatch):
    monkeypatch.setattr("patchdit.nodes.kept_shots.MOST", 3)
    first, *_ = board(shot("bounces", 0.5), shot("sinks", 0.5))
    for seed in range(10, 16):
        again, *_ = board(shot("bounces", 0.5, seed=seed), shot("sinks", 0.5, lock=True))
        assert board.made == [seed]
        assert torch.equal(again[1]["samples"], first[1]["samples"])
    assert len(list(board.folder.iterdir())) == 3


def test_another_frame_rate_is_mixed_and_said(board):
    _, video, seams, report = board(shot("bounces"), shot("rests", join="continue"), fps=16.0)
    latents, plain, *_ = board(shot("bounces"), shot("rests", join="continue"))
    assert len(frames_of(video)) == 34 and len(frames_of(plain)) == 17 and seams == "18"
    assert torch.equal(frames_of(video)[:-1:2], frames_of(plain)[:])
    assert "Made at 8 fps, shown at 16" in report and latents[0]["video_fps"] == 8


def test_a_shot_too_short_to_be_seen_has_no_seam(board):
    _, video, seams, _ = board(shot("bounces", 1.5), shot("rests", 0.5, join="continue"), fps=1)
    assert len(frames_of(video)) == 2 and seams == ""


def test_a_killed_run_goes_on_with_the_identical_film(board, monkeypatch):
    story = [shot("bounces", 0.5), shot("rests", join="continue")]
    whole, *_ = board(*story, name="whole")
    counted = verbs.begin

    def dies(*arguments, **more):
        if len(board.made) == 1:
            raise RuntimeError("killed")
        return counted(*arguments, **more)

    monkeypatch.setattr(verbs, "begin", dies)
    with pytest.raises(RuntimeError, match="killed"):
        board(*story, checkpoint=True)
    monkeypatch.setattr(verbs, "begin", counted)
    again, *_ = board(*story, checkpoint=True)
    assert len(board.made) == 1  # the first shot was kept
    assert torch.equal(again[0]["samples"], whole[0]["samples"])


@pytest.mark.parametrize(
    ("listed", "changes", "message"),
    [
        ([shot(lock=True)], {}, "Shot 1 is locked but was never made"),
        ([shot("bounces", 0.5), shot("sinks", lock=True)], {}, "Shot 2 is locked but was never"),
        ([shot(seconds=0.0)], {}, "Shot 1 lasts 0 seconds"),
        ([shot(), shot(seconds=-1.0)], {}, "Shot 2 lasts -1 seconds"),
        ([shot(seconds=601.0)], {}, "Shot 1 lasts 601 seconds"),
        ([], {}, "shot list is empty"),
        ([shot()], {"width": 40}, "Setting width is 40"),
        ([shot()], {"name": "../up"}, "Setting name is '../up'"),
        ([shot()], {"name": ""}, "Setting name is ''"),
        ([shot()], {"context": 13}, "Setting context is 4"),
        ([shot()], {"window": 8}, "Setting window"),
        ([shot("round and round and " * 40)], {}, "Shot 1: "),
    ],
)
def test_bad_lists_and_settings_are_named_before_anything_is_made(board, listed, changes, message):
    with pytest.raises(ValueError, match=message):
        if listed:
            board(*listed, **changes)
        else:
            Storyboard.execute(shots=(), **(board.settings | changes))
    assert board.made == []


def test_a_locked_shot_of_another_size_is_named(board):
    board(shot("bounces", 0.5))
    with pytest.raises(ValueError, match="was made at 32x32"):
        board(shot("bounces", 0.5, lock=True), width=48)
