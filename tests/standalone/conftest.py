"""Fake nodes and small videos for the standalone host's tests."""

import signal
from fractions import Fraction

import numpy as np
import pytest
import torch

from patchdit.standalone.api import InputImpl, Types, io
from patchdit.standalone.core_nodes import CORE_NODES
from patchdit.standalone.host import ProgressBar, Session, throw_if_interrupted, use_session


class Number(io.ComfyNode):
    """A whole number, slowly: reports `steps` steps of progress."""

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="Number",
            display_name="A Number",
            inputs=[
                io.Int.Input("value", default=1, min=0, max=100, control_after_generate=True),
                io.Int.Input("steps", default=0),
                io.Combo.Input("mode", ["plain", "doubled"], optional=True),
            ],
            outputs=[io.Int.Output(), io.Custom("NUMBERS").Output(is_output_list=True)],
        )

    @classmethod
    def execute(cls, value, steps=0, mode="plain"):
        bar = ProgressBar(steps)
        for _ in range(steps):
            throw_if_interrupted()
            bar.update(1)
        value *= 2 if mode == "doubled" else 1
        return io.NodeOutput(value, list(range(value)))


class Add(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="Add",
            inputs=[
                io.Int.Input("a", force_input=True),
                io.MultiType.Input("b", [io.Int, io.Custom("NUMBERS")], optional=True),
            ],
            outputs=[io.Int.Output()],
        )

    @classmethod
    async def execute(cls, a, b=0):
        return io.NodeOutput(a + b)


class Choose(io.ComfyNode):
    """Asks only for the branch that it needs."""

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="Choose",
            inputs=[
                io.Boolean.Input("first", default=True),
                io.Int.Input("a", lazy=True, force_input=True),
                io.Int.Input("b", lazy=True, force_input=True),
            ],
            outputs=[io.Int.Output()],
        )

    @classmethod
    def check_lazy_status(cls, first, a, b):
        return ["a"] if first else ["b"]

    @classmethod
    def execute(cls, first, a=None, b=None):
        return io.NodeOutput(a if first else b)


class Show(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="Show",
            inputs=[io.AnyType.Input("value")],
            hidden=[io.Hidden.unique_id],
            is_output_node=True,
        )

    @classmethod
    def execute(cls, value):
        return io.NodeOutput(ui={"value": (value,), "id": (cls.hidden.unique_id,)})


class ShowAll(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="ShowAll",
            inputs=[io.AnyType.Input("values")],
            is_input_list=True,
            is_output_node=True,
        )

    @classmethod
    def execute(cls, values):
        return io.NodeOutput(ui={"values": (values,)})


class Fail(io.ComfyNode):
    """Raises, sets state on itself (which a node must not), or has somebody press Ctrl-C.

    Somebody impatient presses it twice; somebody greedy wants a petabyte.
    """

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="Fail",
            inputs=[io.Combo.Input("how", ["value", "bug", "state", "cancel", "stop", "greed"])],
            outputs=[io.Int.Output()],
        )

    @classmethod
    def execute(cls, how):
        if how == "state":
            cls.remembered = 1
        if how in ("cancel", "stop"):
            signal.raise_signal(signal.SIGINT)
        if how == "stop":
            signal.raise_signal(signal.SIGINT)
        throw_if_interrupted()
        if how == "greed":
            torch.empty(1 << 50)
        raise ValueError("need a kinder input.") if how == "value" else KeyError("defect")


FAKES = [Number, Add, Choose, Show, ShowAll, Fail]


@pytest.fixture
def classes():
    return {node.GET_SCHEMA().node_id: node for node in [*FAKES, *CORE_NODES]}


@pytest.fixture
def session(tmp_path):
    (tmp_path / "input").mkdir()
    folders = (tmp_path / name for name in ("input", "output", "temp"))
    with use_session(Session(*folders)) as value:
        yield value


def moving_bars(frames=9, height=32, width=48):
    """A grey ramp [F,H,W,3] that brightens over time, distinct in every frame."""
    time = np.linspace(0.1, 0.9, frames)[:, None, None, None]
    ramp = np.linspace(-0.1, 0.1, width)[None, None, :, None]
    return torch.from_numpy(np.broadcast_to(time + ramp, (frames, height, width, 3)).copy()).float()


def tone(seconds=1.125, rate=16000):
    wave = torch.sin(2 * torch.pi * 440 * torch.arange(round(seconds * rate)) / rate) * 0.5
    return {"waveform": wave.expand(1, 2, -1), "sample_rate": rate}


@pytest.fixture
def video():
    """Nine frames at 8 per second, with sound."""
    components = Types.VideoComponents(moving_bars(), Fraction(8), tone())
    return InputImpl.VideoFromComponents(components)


@pytest.fixture
def video_file(video, session):
    path = session.input_directory / "bars.mp4"
    video.save_to(str(path), metadata={"prompt": {"1": "é"}})
    return path
