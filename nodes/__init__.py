"""The nodes: thin ComfyUI V3 classes over models/, one file per verb."""

from . import host
from .api import ComfyExtension, io
from .decode import DecodeVideo
from .denoise import DenoiseStep, FinishDenoising, StartDenoising
from .edit_patches import MergePatches, RenoisePatches, ReplacePatches
from .encode import EncodeVideo
from .estimate_cost import EstimateCost
from .extend import ExtendVideo, PrepareExtend
from .finish import FinishVideo
from .latent import EmptyVideoLatent
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
from .steps import EditDenoising, LoadDenoiseState, SaveDenoiseState
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
