"""The nodes: thin ComfyUI V3 classes over models/, one file per verb; their work lies beside.

    denoise, between_steps    a run, step by step, from sampling; editing, run_files
    extend                    extension: a clip and what is to come
    loop, stitch              joining: two ends and the time between; transforming: A becomes B
    pin                       pinning: into a LATENT; around_pins: the video around
    remix, reframe            remixing; reframing
    storyboard                shots, kept_shots
    select_, edit_ and show_patches    patched, patch_views
    seam_report               models/seams; drift, its watch over a chain

All verbs read a clip by footage, denoise its windows and put the whole together by verbs, and share
their inputs and outputs in sockets. latent_dicts, sound and video are what lies on wires; types are
wires of our own. host is ComfyUI, or what stands in for it.
"""

from . import host
from .api import ComfyExtension, io
from .between_steps import EditDenoising, LoadDenoiseState, SaveDenoiseState
from .decode import DecodeVideo
from .denoise import DenoiseStep, FinishDenoising, StartDenoising
from .edit_patches import MergePatches, RenoisePatches, ReplacePatches
from .empty_latent import EmptyVideoLatent
from .encode import EncodeVideo
from .estimate_cost import EstimateCost
from .extend import ExtendVideo, PrepareExtend
from .finish import FinishVideo
from .load import LoadBlockworld
from .load_video import LoadVideoModel, LoadVideoVAE
from .loop import LoopVideo, PrepareLoop
from .lora import LoadVideoLora
from .patchify import PatchifyLatent, UnpatchifyLatent
from .pin import ImageToVideo, PinFrames
from .reframe import PrepareReframe, Reframe
from .remix import PrepareRemix, RemixVideo
from .replacements import register
from .seam_report import SeamReport
from .select_patches import SelectPatches
from .show_patches import ShowPatches
from .sigmas import FlowSigmas
from .stitch import PrepareStitch, StitchVideos
from .storyboard import Shot, Storyboard
from .tell_known import TellKnown


class PatchDiTExtension(ComfyExtension):
    async def on_load(self) -> None:
        await host.replace_nodes(register)

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        return [
            LoadBlockworld,
            LoadVideoModel,
            LoadVideoLora,
            LoadVideoVAE,
            EmptyVideoLatent,
            EncodeVideo,
            DecodeVideo,
            PatchifyLatent,
            UnpatchifyLatent,
            SelectPatches,
            ReplacePatches,
            RenoisePatches,
            MergePatches,
            ShowPatches,
            FlowSigmas,
            StartDenoising,
            DenoiseStep,
            FinishDenoising,
            EditDenoising,
            SaveDenoiseState,
            LoadDenoiseState,
            PinFrames,
            ImageToVideo,
            TellKnown,
            ExtendVideo,
            PrepareExtend,
            StitchVideos,
            PrepareStitch,
            LoopVideo,
            PrepareLoop,
            Reframe,
            PrepareReframe,
            RemixVideo,
            PrepareRemix,
            Shot,
            Storyboard,
            FinishVideo,
            SeamReport,
            EstimateCost,
        ]
