"""PatchifyLatent and UnpatchifyLatent."""

from __future__ import annotations

import pytest
import torch

from patchdit.nodes.patchify import PatchifyLatent, UnpatchifyLatent


@pytest.mark.parametrize("patch", [(1, 2, 2), (3, 1, 4), (1, 4, 8)])
def test_exact_inverse_with_everything_carried(patch):
    latent = {"samples": torch.randn(2, 16, 3, 4, 8), "video_fps": 12.0}
    before = latent["samples"].clone()
    patches, tokens = PatchifyLatent.execute(latent, *patch).args
    assert tokens == patches.tokens_BLP.shape[1] == 96 // (patch[0] * patch[1] * patch[2])
    (back,) = UnpatchifyLatent.execute(patches).args
    assert torch.equal(back["samples"], before) and back["video_fps"] == 12.0
    assert torch.equal(latent["samples"], before)


def test_first_frames_are_the_first_tokens():
    samples = torch.randn(1, 16, 3, 4, 4)
    whole = PatchifyLatent.execute({"samples": samples}, 1, 2, 2).args[0].tokens_BLP
    prefix = PatchifyLatent.execute({"samples": samples[:, :, :2]}, 1, 2, 2).args[0].tokens_BLP
    assert torch.equal(whole[:, :8], prefix)


def test_sizes_off_the_grid():
    with pytest.raises(ValueError, match="3x5x4"):
        PatchifyLatent.execute({"samples": torch.zeros(1, 16, 3, 5, 4)}, 1, 2, 2)


def test_what_a_mask_frees_is_selected_and_becomes_whole_patches():
    mask = torch.zeros(2, 1, 3, 4, 8)
    mask[0, 0, 1, 1, 3] = 0.25
    latent = {"samples": torch.randn(2, 16, 3, 4, 8), "noise_mask": mask}
    patches, _ = PatchifyLatent.execute(latent, 1, 2, 2).args
    assert patches.selected_BL.dtype == torch.bool
    assert patches.selected_BL.nonzero().tolist() == [[0, 8 + 1]]
    (back,) = UnpatchifyLatent.execute(patches).args
    whole = torch.zeros(2, 1, 3, 4, 8)
    whole[0, 0, 1, 0:2, 2:4] = 1
    assert torch.equal(back["noise_mask"], whole) and mask.sum() == 0.25
    again, _ = PatchifyLatent.execute(back, 1, 2, 2).args
    assert torch.equal(again.selected_BL, patches.selected_BL)


def test_without_a_mask_nothing_is_said():
    patches, _ = PatchifyLatent.execute({"samples": torch.zeros(1, 16, 1, 4, 4)}, 1, 2, 2).args
    assert patches.selected_BL is None
    assert "noise_mask" not in UnpatchifyLatent.execute(patches).args[0]


def test_masks_that_count_pixel_frames_select_too():
    mask_FHW = torch.zeros(9, 32, 64)
    mask_FHW[5, 0, 0] = 1
    latent = {"samples": torch.zeros(1, 16, 3, 4, 8), "noise_mask": mask_FHW}
    patches, _ = PatchifyLatent.execute(latent, 1, 2, 2).args
    assert patches.selected_BL.nonzero().tolist() == [[0, 16]]
