"""Which subject a clip shows and where, by matching the drawings of all subjects to the pixels.

F frames, R radii, H/W pixels, P period and Q = P // 2 + 1 columns of a spectrum. Frames are float32
RGB in 0..1.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
import torch

from patchdit.benchmarks.shapes import misfits
from patchdit.training.sprites import COLOURS, REACH, SUBJECTS, place

_SPREAD = 0.1  # how far a pixel may lie from the drawing, in RGB units
_LOG_NORM = -1.5 * np.log(2 * np.pi * _SPREAD**2)
_CANDIDATES = 16  # places a frame that the track chooses from
_RADII = tuple(0.095 * 1.13**i for i in range(12))  # world units: 0.095 .. 0.36


@dataclass(frozen=True)
class Templates:
    """The drawings of one kind of subject, ready to be correlated with frames of one size."""

    mask: torch.Tensor  # [R, P, Q] complex: spectrum of alpha
    drawing: torch.Tensor  # [R, colours, 3, P, Q] complex: spectrum of alpha * colour
    energy: torch.Tensor  # [R, colours, H, W]: sum of alpha * colour^2 inside the frame


def _period(height: int, width: int) -> int:
    reach = 2 * int(np.ceil(REACH * _RADII[-1] * min(height, width))) + 2
    return int(np.ceil((max(height, width) + reach) / 32) * 32)


@lru_cache(maxsize=8)
def templates(kind: str, height: int, width: int) -> Templates:
    """Drawings of one kind at every radius and colour, their centre at pixel (0, 0)."""
    P, unit = _period(height, width), min(height, width)
    masks, drawings, energies = [], [], []
    inside = torch.zeros(P, P)
    inside[:height, :width] = 1
    inside = torch.fft.rfft2(inside)
    for radius in _RADII:
        alpha, colours = _draw(kind, radius * unit, P)
        masks.append(torch.fft.rfft2(alpha).conj())
        drawings.append(torch.fft.rfft2(alpha * colours).conj())
        energy = torch.fft.rfft2(alpha * (colours**2).sum(1)).conj()
        energies.append(torch.fft.irfft2(energy * inside, s=(P, P))[..., :height, :width])
    return Templates(torch.stack(masks), torch.stack(drawings), torch.stack(energies))


def _draw(kind: str, radius: float, P: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Alpha [P,P] and un-multiplied colours [colours,3,P,P], softened and rolled to the corner."""
    colours = []
    for colour in COLOURS:
        frame = np.zeros((P, P, 3), np.float32)
        alpha = place(frame, kind, colour, P // 2, P // 2, radius)
        soft = cv2.GaussianBlur(np.dstack([frame, alpha]), (0, 0), 0.5)
        colours.append(soft[..., :3] / np.maximum(soft[..., 3:], 1e-3))
        alpha = soft[..., 3]
    shift = (-(P // 2), -(P // 2))
    alpha = torch.from_numpy(np.where(alpha > 0.5, alpha, 0).astype(np.float32))
    colours = torch.from_numpy(np.stack(colours)).permute(0, 3, 1, 2)
    return alpha.roll(shift, (0, 1)), colours.roll(shift, (2, 3))


def match(frames_FHWC: np.ndarray, background_FHW: np.ndarray, kind: str, colours=slice(None)):
    """Log likelihood ratio [F, R, colours, H, W] of "the subject is here" to "background only"."""
    F, H, W = background_FHW.shape
    P, t = _period(H, W), templates(kind, H, W)
    image = torch.from_numpy(np.ascontiguousarray(frames_FHWC)).permute(0, 3, 1, 2)
    square = (image**2).sum(1) / (2 * _SPREAD**2) + torch.from_numpy(background_FHW) - _LOG_NORM
    spectrum = torch.fft.rfft2(image, s=(P, P)) / _SPREAD**2
    base = torch.fft.rfft2(square.float(), s=(P, P))[:, None, None] * t.mask[:, None]
    scores = []
    for f in range(F):
        product = (t.drawing[:, colours] * spectrum[f]).sum(2) - base[f]
        scores.append(torch.fft.irfft2(product, s=(P, P))[..., :H, :W])
    return torch.stack(scores) - t.energy[:, colours] / (2 * _SPREAD**2)


def identify(frames_FHWC: np.ndarray, background_FHW: np.ndarray) -> tuple[str, str]:
    """Shape and colour of the main subject.

    The drawing that explains most over the frames tells the colour and where each shape would be;
    which shape it is follows from `misfits`, which also knows blur.
    """
    totals, places = [], []
    for kind in SUBJECTS:
        scores = match(frames_FHWC, background_FHW, kind)
        totals.append(scores.amax((1, 3, 4)).sum(0))
        places.append(scores)
    index = int(torch.stack(totals).amax(0).argmax())
    colour = tuple(COLOURS)[index]
    states_KF3 = np.array([[_peak(score[:, index]) for score in scores] for scores in places])
    worst = sum(misfits(frame, colour, states_KF3[:, f]) for f, frame in enumerate(frames_FHWC))
    return SUBJECTS[int(np.argmin(worst))], colour


def _peak(score_RHW: torch.Tensor) -> tuple[float, float, float]:
    """Pixel x, pixel y and radius in pixels of the best place in a frame."""
    r, y, x = np.unravel_index(int(score_RHW.argmax()), score_RHW.shape)
    return float(x), float(y), _RADII[r] * min(score_RHW.shape[1:])


def track(frames_FHWC, background_FHW, kind: str, colour: str) -> np.ndarray:
    """Pixel x, pixel y and radius in pixels of a known subject in every frame: [F,3] float32.

    The smoothest of the likely paths: Viterbi over the best places of each frame.
    """
    index = tuple(COLOURS).index(colour)
    unit = min(background_FHW.shape[1:])
    scores = match(frames_FHWC, background_FHW, kind, slice(index, index + 1))[:, :, 0]
    radii = np.array(_RADII) * unit
    states, values = [], []
    for score in scores:
        value, place_ = score.flatten().topk(_CANDIDATES)
        r, y, x = np.unravel_index(place_.numpy(), score.shape)
        states.append(np.stack([x, y, radii[r]], -1))
        values.append(value.numpy() / 20)
    return np.float32(_viterbi(states, values, unit))


def _viterbi(states, values, unit: int) -> np.ndarray:
    total, back = values[0], []
    for before, now, value in zip(states[:-1], states[1:], values[1:], strict=True):
        step = np.square((now[:, None, :2] - before[None, :, :2]) / (0.06 * unit)).sum(-1)
        step += np.square(np.log(now[:, None, 2] / before[None, :, 2]) / 0.15)
        through = total[None] - step
        back.append(through.argmax(1))
        total = through.max(1) + value
    path = [int(total.argmax())]
    for choice in reversed(back):
        path.append(int(choice[path[-1]]))
    return np.stack([s[i] for s, i in zip(states, reversed(path), strict=True)])


def subject_mask(track_F3: np.ndarray, height: int, width: int) -> np.ndarray:
    """1.0 where the subject or the shadow on either side of it may be, [F,H,W] float32."""
    y, x = np.mgrid[:height, :width].astype(np.float32)
    cx, cy, r = (track_F3[:, i, None, None] for i in range(3))
    return np.float32((np.abs(x - cx) < 1.25 * r) & (np.abs(y - cy) < 1.3 * r))
