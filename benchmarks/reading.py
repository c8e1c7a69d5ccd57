"""Reads a blockworld clip back from its pixels by plain computer vision, without any prompt."""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np

from patchdit.benchmarks.backdrops import background_likelihood, read_camera, read_environment
from patchdit.benchmarks.motions import read_motion, world_track
from patchdit.benchmarks.tracking import identify, subject_mask, track
from patchdit.training.blockworld import FPS
from patchdit.training.environments import ENVIRONMENTS


class Reading(NamedTuple):
    """What a clip shows, in the world's own words."""

    subject: str
    colour: str
    motion: str
    environment: str
    camera: str


def read(frames_FHWC: np.ndarray) -> Reading:
    """Read the main subject, its motion through the world, the place and the camera of a clip.

    frames_FHWC is uint8 RGB at 8 frames a second, at least 5 frames. Every attribute always gets an
    answer, the most likely one.
    """
    if frames_FHWC.ndim != 4 or frames_FHWC.shape[-1] != 3 or len(frames_FHWC) < 5:
        raise ValueError(f"Frames are {frames_FHWC.shape}; need (at least 5, height, width, 3).")
    cv2.setNumThreads(1)
    frames = frames_FHWC.astype(np.float32) / 255
    F, height, width = frames.shape[:3]
    environment = read_environment(frames)
    background = background_likelihood(frames, ENVIRONMENTS.index(environment))
    few = np.linspace(0, F - 1, 5).round().astype(int)
    subject, colour = identify(frames[few], background[few])
    path = track(frames, background, subject, colour)
    camera = read_camera(frames, subject_mask(path, height, width))
    times = (np.arange(F) - (F - 1) / 2) / FPS
    cameras = np.array([camera.at(t) for t in times])
    motion = read_motion(world_track(path, cameras, width, height), times)
    return Reading(subject, colour, motion, environment, camera.kind)
