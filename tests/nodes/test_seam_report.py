"""SeamReport: the table, the plot, the video handed on, and the stop."""

from __future__ import annotations

import inspect
from fractions import Fraction
from pathlib import Path

import av
import pytest
import torch
from av.error import FFmpegError

from patchdit.models.seams import judge, measure
from patchdit.nodes import seam_report
from patchdit.nodes.api import Input, InputImpl, Types
from patchdit.nodes.seam_report import BOUND, SeamReport, numbers, plot
from patchdit.nodes.video import LazyVideo

FIRST, PREVIOUS = "first segment", "previous segment"


def chain(*levels, frames=4):
    """Segments of flat grey, one after the other, each frame a little brighter than the last."""
    steps = torch.arange(frames) / 1000
    clip = torch.cat([level + steps for level in levels])
    return clip.view(-1, 1, 1, 1).expand(-1, 8, 8, 3).contiguous()


def run(video, seams="", loop=False, limit=0.0, reference=FIRST, fps=8.0):
    return SeamReport.execute(video, seams, loop, limit, reference, fps).args


def test_the_node_explains_itself():
    info = SeamReport.GET_NODE_INFO_V1()
    assert info["name"] == "PatchDiT_SeamReport" and info["category"].startswith("PatchDiT/")
    assert info["description"] and info["search_aliases"] and all(info["output_tooltips"])
    assert info["output_name"] == ["video", "report", "plot", "passes"]
    schema = SeamReport.GET_SCHEMA()
    execute = SeamReport.__dict__["execute"].__func__
    assert list(inspect.signature(execute).parameters)[1:] == [i.id for i in schema.inputs]
    assert all(options.get("tooltip") for _, options in info["input"]["required"].values())
    docs = Path(seam_report.__file__).parents[1] / "web" / "docs" / "PatchDiT_SeamReport.md"
    assert docs.read_text().startswith("# Seam Report")


def test_images_become_a_video_at_fps():
    clip = chain(0.2, 0.5)
    video, report, picture, passes = run(clip, "4", fps=12.5)
    assert torch.equal(video.get_components().images, clip)
    assert video.get_frame_rate() == Fraction(25, 2)
    assert "frame 4 (0.32 s)" in report and "0.2970" in report and passes is False
    assert picture.shape == (1, 600, 900, 3) and picture.min() >= 0 and picture.max() <= 1


def test_a_video_is_handed_on_as_it_came():
    audio = {"waveform": torch.rand(1, 2, 800), "sample_rate": 800}
    parts = Types.VideoComponents(chain(0.2), Fraction(4), audio)
    video = InputImpl.VideoFromComponents(parts)
    given, report, _, passes = run(video, "")
    assert given is video and passes is True
    assert "at 4 frames per second" in report


def test_a_lazy_video_is_measured_chunk_by_chunk():
    clip, asked = chain(0.2, 0.5), []

    def source():
        for first in range(0, 8, 2):
            asked.append(first)
            yield clip[first : first + 2]

    class OnlyChunks(LazyVideo):
        def get_components(self):
            raise AssertionError("the whole clip was asked for")

    video = OnlyChunks(source, (8, 8), 8, 8)
    given, report, _, _ = run(video, "4")
    assert given is video and asked == [0, 2, 4, 6]
    assert report == run(clip, "4")[1]


@pytest.mark.parametrize("text", ["3,5", " 3, 5 ", "3 5", "5,3,3", "3,,5,"])
def test_seams_are_read_in_any_order_and_spacing(text):
    report = run(chain(0.2, 0.3), text)[1]
    assert "frame 3" in report and "frame 5" in report and report.count("\n| frame ") == 2
    assert sorted(set(numbers(text))) == [3, 5] and numbers("") == []


def test_a_loop_that_does_not_close():
    assert run(chain(0.2), loop=True)[3] is True  # 0.003 back, within 1/255
    report, passes = run(chain(0.2, 0.5), "4", loop=True)[1::2]
    assert "wrap" in report and passes is False


def test_drift_stops_a_chain():
    clip = chain(0.3, 0.31, 0.36)
    run(clip, "4, 8", limit=0.07)
    run(clip, "4, 8", limit=0.0)
    with pytest.raises(
        ValueError, match=r"Segment 3 \(frames 8 to 11\) .* 6\.0% .* brightness"
    ) as e:
        run(clip, "4, 8", limit=0.055)
    assert "drift_limit" in str(e.value) and "first segment" in str(e.value)
    assert "\n" not in str(e.value)


def test_drift_from_the_previous_segment():
    clip = chain(0.3, 0.34, 0.38)
    run(clip, "4, 8", limit=0.05, reference=PREVIOUS)
    with pytest.raises(ValueError, match="from the first segment"):
        run(clip, "4, 8", limit=0.05)
    with pytest.raises(ValueError, match=r"Segment . .*from the previous segment"):
        run(clip, "4, 8", limit=0.03, reference=PREVIOUS)


def test_the_report_is_kept_when_the_chain_stops(caplog):
    with pytest.raises(ValueError):
        run(chain(0.3, 0.5), "4", limit=0.1)
    assert "drift from the first" in caplog.text


def test_inputs_are_not_changed():
    clip = chain(0.2, 0.4)
    before = clip.clone()
    run(clip, "4", loop=True)
    assert torch.equal(clip, before)


def columns(picture, colour, tolerance=0.12):
    """Pixel columns that hold `colour` (0..255) over most of a chart's height."""
    distance = (picture[0, :, :, :] - torch.tensor(colour) / 255).abs().amax(-1)
    return ((distance < tolerance).sum(0) > 300).nonzero().flatten().tolist()


def test_the_plot_shows_seams_where_they_are():
    report = judge(measure(chain(0.2, 0.2, 0.6)), [4, 8])
    assert [seam.passes for seam in report.seams] == [True, False]
    picture = plot(report, 8.0)
    good, bad = columns(picture, seam_report.GOOD), columns(picture, seam_report.BAD)
    width = 900 - 64 - 24
    assert good and all(abs(x - (64 + width * 4 / 12)) <= 2 for x in good)
    assert bad and all(abs(x - (64 + width * 8 / 12)) <= 2 for x in bad)


def test_the_plot_dashes_the_bound():
    picture = plot(judge(measure(chain(0.2, 0.2)), [4]), 8.0)
    near = ((picture[0, :, 64:876] - torch.tensor(BOUND) / 255).abs().amax(-1) < 0.15).float()
    share = near[460:570].mean(1).max().item()
    assert 0.3 < share < 0.7


@pytest.mark.parametrize("frames", [1, 2, 400])
@pytest.mark.parametrize("level", [0.0, 0.5, 1.0])
def test_the_plot_takes_any_clip(frames, level):
    clip = torch.full((frames, 2, 2, 3), level)
    seams = list(range(1, frames, 7))
    picture = plot(judge(measure(clip), seams, loop=frames > 1), 24.0)
    assert torch.isfinite(picture).all() and picture.std() > 0.05


class Unreadable(Input.Video):
    def get_components(self):
        raise FFmpegError(1, "broken")

    def save_to(self, *args, **kwargs): ...

    def as_trimmed(self, *args, **kwargs): ...


def test_a_file_is_decoded(tmp_path):
    path = tmp_path / "clip.mp4"
    parts = Types.VideoComponents(chain(0.2, 0.6).repeat(1, 4, 4, 1), Fraction(8))
    InputImpl.VideoFromComponents(parts).save_to(str(path))
    with av.open(str(path)) as container:
        assert sum(1 for _ in container.decode(video=0)) == 8
    video = InputImpl.VideoFromFile(str(path))
    given, report, _, passes = run(video, "4")
    assert given is video and passes is False and "frame 4 (0.50 s)" in report


@pytest.mark.parametrize(
    ("video", "settings", "said"),
    [
        (chain(0.2), {"seams": "two"}, "seams holds 'two'; .* 17, 41"),
        (chain(0.2), {"seams": "1.5"}, r"seams holds '1\.5'"),
        (chain(0.2), {"seams": "-2"}, "seams holds '-2'"),
        (chain(0.2), {"seams": "99"}, "Seam 99 lies outside a video of 4 frames"),
        (chain(0.2)[:1], {"loop": True}, "switch loop off"),
        (chain(0.2)[:0], {}, "no frames"),
        (chain(float("nan")), {}, "Frame 0 holds .* not numbers"),
        (Unreadable(), {}, "cannot be read"),
    ],
)
def test_bad_input_is_one_sentence(video, settings, said):
    with pytest.raises(ValueError, match=said) as caught:
        run(video, **settings)
    assert "\n" not in str(caught.value)
