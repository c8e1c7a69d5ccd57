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
