"""The nodes: thin ComfyUI V3 classes over models/, one file per verb."""

from .api import ComfyExtension, io
from .decode import DecodeVideo
from .denoise import DenoiseStep, FinishDenoising, StartDenoising
from .encode import EncodeVideo
from .extend import ExtendVideo, PrepareExtend
from .finish import FinishVideo
from .latent import EmptyVideoLatent
from .load import LoadBlockworld
from .patchify import PatchifyLatent, UnpatchifyLatent
from .sigmas import FlowSigmas


class PatchDiTExtension(ComfyExtension):
    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        return [
            LoadBlockworld,
            EmptyVideoLatent,
            EncodeVideo,
            DecodeVideo,
            PatchifyLatent,
            UnpatchifyLatent,
            FlowSigmas,
            StartDenoising,
            DenoiseStep,
            FinishDenoising,
            ExtendVideo,
            PrepareExtend,
            FinishVideo,
        ]
