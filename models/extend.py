"""Growing a clip window by window: what is known in each window and what it leaves behind.

A sequence is one clip's latents: latent 0 is an image, latent j >= 1 stands for a group of frames
(see `timeline`). An image latent must not stand inside another sequence, so windows pass latents on
as they are and only the single image at their front is made anew (`still`), or given up
(backwards).
B is 1, C channels, T/H/W latent frames/rows/columns.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Fill = Callable[[Tensor, Tensor], Tensor]  # (latent, mask), 1 = generate -> latent, all known
Still = Callable[[Tensor], Tensor]  # latents of a clip -> its last frame as an image latent
Watch = Callable[[Tensor, slice], bool]  # (a filled window, its new latents) -> whether to go on


def usual_context(window: int) -> int:
    """Latent frames that a window of so many knows of the one before, if nobody says otherwise."""
    return max(window // 3, 1)


def go_on(window_BCTHW: Tensor, new: slice) -> bool:
    return True


def window_lengths(new: int, known: int, window: int, context: int) -> list[int]:
    """New latents of each window: the first follows `known` latents, later ones `context`.

    No window is longer than `window` latents, and they are about equally long.
    """
    if new < 1 or known < 1 or context < 1:
        raise ValueError(f"Got {new} new, {known} known and {context} context latents; need 1.")
    room, later = window - known, window - context
    if room < 1 or later < 1:
        raise ValueError(
            f"A window of {window} latent frames has no room after {max(known, context)} known"
            " ones: make the window longer or the context shorter."
        )
    if new <= room:
        return [new]
    windows = 1 + -(-(new - room) // later)
    lengths, left = [], new
    for i in range(windows):
        share = -(-left // (windows - i))
        needed = left - later * (windows - i - 1)  # more than that the others cannot hold
        lengths.append(min(max(share, needed), room if i == 0 else later))
        left -= lengths[-1]
    return lengths


def canvas(latent_BCTHW: Tensor, before: int, after: int) -> tuple[Tensor, Tensor]:
    """The latents with empty ones around them, and the mask_B1THW that says which to generate."""
    B, C, T, H, W = latent_BCTHW.shape
    whole = latent_BCTHW.new_zeros(B, C, before + T + after, H, W)
    whole[:, :, before : before + T] = latent_BCTHW
    mask = torch.ones_like(whole[:, :1])
    mask[:, :, before : before + T] = 0
    return whole, mask


def front_of(known_BCTHW: Tensor, new: int, window: int, context: int, still: Still) -> Tensor:
    """What of a clip begins the next window: all of it if the window has room, else its end."""
    if known_BCTHW.shape[2] + new <= window:
        return known_BCTHW
    return context_of(known_BCTHW, min(context, known_BCTHW.shape[2]), still)


def extend_forwards(
    front_BCTHW: Tensor,
    new: int,
    window: int,
    context: int,
    fill: Fill,
    still: Still,
    watch: Watch = go_on,
) -> Tensor:
    """The front of a clip and `new` latents after it; the front stays exactly as it was.

    Every window after the first begins with the last `context` latents of the one before, the first
    of them made an image. `watch` may end the chain; what is good so far is returned.
    """
    sequence, left = front_BCTHW, new
    for length in window_lengths(new, front_BCTHW.shape[2], window, context):
        last = fill(*canvas(front_BCTHW, 0, length))
        sequence = torch.cat((sequence, last[:, :, -length:]), 2)
        left -= length
        if not left or not watch(last, slice(-length, None)):
            break
        front_BCTHW = context_of(last, min(context, last.shape[2]), still)
    return sequence


def context_of(clip_BCTHW: Tensor, latents: int, still: Still) -> Tensor:
    """The last latents of a clip as the beginning of another: the first becomes an image."""
    dropped = clip_BCTHW.shape[2] - latents
    if dropped == 0:
        return clip_BCTHW
    image = still(clip_BCTHW[:, :, : dropped + 1])
    return torch.cat((image, clip_BCTHW[:, :, dropped + 1 :]), 2)


def extend_backwards(
    front_BCTHW: Tensor,
    new: int,
    window: int,
    context: int,
    fill: Fill,
    watch: Watch = go_on,
) -> Tensor:
    """`new` latents, the first an image, and the front of a suffix after them, as it was.

    A suffix has no image latent. Each window gives up the image latent of the one before it, which
    a group of frames replaces.
    """
    sequence, left = front_BCTHW, new
    for length in backward_lengths(new, front_BCTHW.shape[2], window, context):
        last = fill(*canvas(front_BCTHW, length, 0))
        sequence = torch.cat((last[:, :, :length], sequence), 2)
        left -= length
        if not left or not watch(last, slice(0, length)):
            break
        sequence, left = sequence[:, :, 1:], left + 1
        front_BCTHW = sequence[:, :, :context]
    return sequence


def backward_lengths(new: int, known: int, window: int, context: int) -> list[int]:
    """Latents that each window makes; all but the last lose their image latent to the next.

    ValueError where a window has no room for more than the image latent it loses.
    """
    lengths = window_lengths(new, known, window, context)
    if len(lengths) > 1 and window - context < 2:
        raise ValueError(
            f"A window of {window} latent frames has room for one before {context} known ones, and"
            " going backwards needs two: make the window longer or the context shorter."
        )
    while sum(lengths) - (len(lengths) - 1) < new:
        lengths = window_lengths(sum(lengths) + 1, known, window, context)
    return lengths


def bridge(
    front_BCTHW: Tensor,
    head_BCTHW: Tensor,
    new: int,
    window: int,
    context: int,
    fill: Fill,
    still: Still,
) -> Tensor:
    """The end of one clip, `new` latents, and the beginning of another (a suffix), in one sequence.

    Too long a bridge for one window grows from the front first; its last window sees both ends.
    """
    head = head_BCTHW[:, :, :context]
    context = min(context, front_BCTHW.shape[2])
    room = window - context - head.shape[2]
    if room < 1:
        raise ValueError(
            f"A window of {window} latent frames has no room between {context} and"
            f" {head.shape[2]} known ones: make the window longer or the context shorter."
        )
    sequence, early = front_BCTHW, max(new - room, 0)
    last = front_of(front_BCTHW, early or new + head.shape[2], window, context, still)
    if early:
        grown = extend_forwards(last, early, window, context, fill, still)
        sequence = torch.cat((sequence, grown[:, :, last.shape[2] :]), 2)
        last = context_of(grown, context, still)
    filled = fill(*gap(last, head, min(new, room)))
    made = filled[:, :, last.shape[2] : filled.shape[2] - head.shape[2]]
    return torch.cat((sequence, made, head_BCTHW), 2)


def gap(before_BCTHW: Tensor, after_BCTHW: Tensor, new: int) -> tuple[Tensor, Tensor]:
    """Two known ends with `new` empty latents between them, and the mask_B1THW to generate."""
    left, left_mask = canvas(before_BCTHW, 0, new)
    right, right_mask = canvas(after_BCTHW, 0, 0)
    return torch.cat((left, right), 2), torch.cat((left_mask, right_mask), 2)
