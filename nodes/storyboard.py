"""Shot and Storyboard: a list of shots, and the film of them."""

from __future__ import annotations

from . import host
from .api import io
from .footage import video_of
from .host.duck import temporal_stride
from .host.facts import facts_of
from .kept_shots import KeptShots
from .latent_dicts import FPS, LONGEST
from .sampling import Stoppable
from .shots import CAMERAS, Board, Take, fill_shots, piece_of, runs_of, shots_report, starts_of
from .sockets import checkpoint_input, low_inputs, sampling_inputs, verb_outputs, window_inputs
from .types import Shot as ShotValue
from .types import ShotsWire
from .verbs import check_models, journaled, known_latents, window_latents


class Shot(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="PatchDiT_Shot",
            display_name="Shot",
            category="PatchDiT/storyboard",
            description="One shot of a storyboard: what it shows, for how long, and how it joins"
            " the shot before. Chain several and end in Storyboard.",
            search_aliases=["shot", "scene", "storyboard", "multi shot", "timeline prompt"],
            inputs=[
                io.String.Input(
                    "prompt",
                    default="",
                    multiline=True,
                    tooltip="What happens in this shot. Storyboard says the subject before it; a"
                    " prompt in small letters goes on with that sentence, {subject} puts it"
                    " elsewhere.",
                ),
                io.Float.Input(
                    "seconds",
                    default=2.0,
                    min=0.05,
                    max=LONGEST,
                    step=0.125,
                    round=0.001,
                    tooltip="Length; rounded to groups of four frames.",
                ),
                io.Combo.Input(
                    "camera",
                    options=list(CAMERAS),
                    default="as prompted",
                    tooltip="Said in words after the prompt; as prompted adds nothing.",
                ),
                io.Combo.Input(
                    "join",
                    options=["cut", "continue"],
                    default="cut",
                    tooltip="cut: begins anew; continue: goes on from the last frames of the shot"
                    " before. The first shot always begins anew.",
                ),
                io.Int.Input(
                    "seed",
                    default=-1,
                    min=-1,
                    max=0x7FFFFFFFFFFFFFFF,
                    control_after_generate=False,
                    tooltip="Noise of its own for another take of this shot; -1: the storyboard's,"
                    " which keeps shots alike.",
                ),
                io.Boolean.Input(
                    "lock",
                    default=False,
                    tooltip="Never make this shot again: what was last made of it is used,"
                    " whatever changes around it.",
                ),
                ShotsWire.Input("previous", optional=True, tooltip="The shots before this one."),
            ],
            outputs=[
                ShotsWire.Output(
                    display_name="shots", tooltip="The list with this shot at its end."
                )
            ],
        )

    @classmethod
    def execute(cls, prompt, seconds, camera, join, seed, lock, previous=()):
        own = None if seed < 0 else seed
        shot = ShotValue(prompt, seconds, camera, join == "continue", own, lock)
        return io.NodeOutput((*(previous or ()), shot))


class Storyboard(Stoppable, io.ComfyNode):
    @classmethod
    def define_schema(cls):
        model, _, _, *settings = sampling_inputs()
        return io.Schema(
            node_id="PatchDiT_Storyboard",
            display_name="Storyboard",
            category="PatchDiT/storyboard",
            description="Film a list of shots, with the same subject in all of them. Finished shots"
            " are kept on disk: changing one makes only that one again, and those that continue"
            " from it.",
            search_aliases=["storyboard", "multi shot", "long video", "film", "scenes"],
            inputs=[
                ShotsWire.Input("shots", tooltip="From the last Shot of the chain."),
                model,
                io.Clip.Input("clip", tooltip="The text encoder that belongs to the model."),
                io.Vae.Input("vae", tooltip="The autoencoder that belongs to the model."),
                io.String.Input(
                    "subject",
                    default="",
                    multiline=True,
                    tooltip="Who or what the film is about, said first in every shot's prompt.",
                ),
                io.String.Input(
                    "negative", default="", multiline=True, tooltip="What to avoid in all shots."
                ),
                io.Int.Input(
                    "width", default=64, min=16, max=8192, step=16, tooltip="Pixels across."
                ),
                io.Int.Input(
                    "height", default=64, min=16, max=8192, step=16, tooltip="Pixels down."
                ),
                io.Float.Input(
                    "fps",
                    default=0.0,
                    min=0.0,
                    max=120.0,
                    step=1.0,
                    tooltip="Frames per second of the film; 0: as the model makes them.",
                ),
                *settings,
                io.String.Input(
                    "name",
                    default="storyboard",
                    tooltip="Finished shots are kept under this name: one for each film.",
                ),
                *window_inputs()[:2],
                checkpoint_input(),
                *low_inputs(),
            ],
            outputs=outputs(),
        )

    @classmethod
    def execute(cls, shots, fps, name, **settings):
        kept = KeptShots(host.journal_folder(), name)
        board = board_of(settings)
        takes = journaled(
            settings["checkpoint"], lambda journal: fill_shots(shots, board, kept, journal)
        )
        return io.NodeOutput(*film(takes, board, fps or board.made_fps))


def outputs() -> list:
    _, video, seams, report = verb_outputs()
    video.tooltip = "The whole film."
    seams.tooltip = "Frames at which a shot goes on from the one before, for Seam Report; no cuts."
    latents = io.Latent.Output(
        display_name="latent",
        tooltip="A list: one latent for each run of shots that flow into each other.",
        is_output_list=True,
    )
    return [latents, video, seams, report]


def board_of(settings: dict) -> Board:
    """What the shots share, from the node's inputs."""
    check_models(settings, settings["vae"])
    model, stride = settings["model"], temporal_stride(settings["vae"])
    window = window_latents(model, settings["window"], stride=stride)
    known = known_latents(settings, window, stride)
    if known >= window:
        raise ValueError(
            f"Setting context is {known} of the window's {window} latent frames; make the context"
            " shorter or the window longer."
        )
    names = "model", "clip", "vae", "subject", "negative", "seed", "steps", "cfg"
    values = {name: settings[name] for name in names}
    values |= {name: settings[name] for name in ("model_low", "boundary") if name in settings}
    size = settings["height"], settings["width"]
    fps = facts_of(model).fps
    return Board(**values, size=size, made_fps=fps, window=window, context=known)


def film(takes: list[Take], board: Board, fps: float) -> tuple:
    """The LATENTs of the runs, VIDEO, seams and report."""
    runs = runs_of(takes)
    pieces = tuple(piece_of(run, board, fps) for run in runs)
    starts = starts_of(takes, board, fps)
    joins = sorted({start for start, take in zip(starts, takes, strict=False) if take.continues})
    joins = [join for join in joins if join < starts[-1]]  # the last shot may have no frame to show
    latents = [{"samples": run, FPS: board.made_fps} for run in runs]
    video = video_of(board.vae, pieces, fps, board.size, None)
    report = shots_report(takes, board, fps, starts)
    return latents, video, ", ".join(map(str, joins)), report
