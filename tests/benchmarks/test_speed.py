"""The speed benchmark at toy sizes: its floor, its rows, and ComfyUI's own Wan where there is one.

No test here looks at how long anything took.
"""

import json
import sys
from dataclasses import replace

import pytest
import torch

from patchdit.benchmarks import speed, speed_cuda
from patchdit.benchmarks.speed_cuda import backends_of, floor_seconds, rows_on
from patchdit.benchmarks.speed_host import beside_comfyui, fastest_row, find_comfyui, host_row
from patchdit.benchmarks.speed_rows import STEPS, Row, linear_work, print_table, take_turns
from patchdit.models.config import TransformerConfig

TINY = TransformerConfig(64, 128, 2, 2, text_width=32, text_length=8)
CLIP = (1, 2, 4, 4)
CPU = torch.device("cpu")


def row(name="step/mini/80", against="diffusers", ours=10.0, theirs=20.0, **more):
    return Row(name, against, ours, theirs, ours / theirs, None, 1.0, 2.0, **more)


@pytest.mark.filterwarnings("ignore")
def test_every_line_of_the_cuda_rows_runs_on_the_cpu(monkeypatch):
    attended = []
    names = backends_of(CPU, TINY.head_width)
    assert list(names) == ["ours", "flash"]  # what a CPU has of torch's
    inner = names["flash"]

    def flash(*args):
        attended.append(args[0].dtype)
        return inner(*args)

    monkeypatch.setattr(speed_cuda, "backends_of", lambda *_: {**names, "flash": flash})
    rows = rows_on(CPU, TINY, CLIP, repeats=1, compiler="eager")
    expected = [f"cuda/1.3b/{way}/{b}" for way in ("eager", "compiled") for b in names]
    assert [r.name for r in rows] == expected
    assert set(attended) == {torch.bfloat16}
    for r in rows:
        assert r.target == 0.85 and r.against == "floor"
        assert r.of_floor == pytest.approx(r.theirs_ms / r.ours_ms) == 1 / r.ratio


def test_a_backend_that_breaks_leaves_the_others(monkeypatch, capsys):
    def broken(*_):
        raise RuntimeError("no kernel\nfor this")

    names = {"broken": broken, "ours": backends_of(CPU, TINY.head_width)["ours"]}
    monkeypatch.setattr(speed_cuda, "backends_of", lambda *_: names)
    monkeypatch.setattr(speed_cuda, "floor_seconds", lambda *_: 1.0)
    rows = rows_on(CPU, TINY, CLIP, ("cuda/1.3b/eager",), repeats=1)
    assert [r.name for r in rows] == ["cuda/1.3b/eager/ours"]
    assert "cuda/1.3b/eager/broken: skipped, no kernel\n" in capsys.readouterr().out


def test_the_floor_is_blocks_times_products_and_the_best_exact_attention(monkeypatch):
    seconds = iter([[2.0, 5.0, 3.0]])
    asked = []

    def turns(works, repeats):
        asked.append(len(works))
        return next(seconds)

    monkeypatch.setattr(speed_cuda, "take_turns", turns)
    backend = backends_of(CPU, TINY.head_width)["ours"]
    ways = {"ours": backend, "flash": backend, "sageattention": backend}
    assert floor_seconds(CPU, TINY, CLIP, ways, 1) == TINY.layers * (2.0 + 3.0)
    assert asked == [3]  # the matrix products, and not what rounds to 8 bits


def test_linear_work_is_all_that_a_block_has(monkeypatch):
    """Self q k v o, cross q o and the MLP; the text's keys and values are known from before."""
    from patchdit.models.transformer import PatchDiT

    work, flops = linear_work(TINY, 8, CPU, torch.float32)
    network = PatchDiT(TINY)
    text = network.text_keys_values(torch.zeros(1, 8, 32))
    seen = []
    for linear in network.blocks[0].modules():
        if isinstance(linear, torch.nn.Linear):
            linear.register_forward_hook(
                lambda m, _, out: seen.append(2.0 * out.shape[1] * m.weight.numel())
            )
    network(torch.zeros(1, 16, *CLIP[1:]), torch.ones(1), text)
    assert sum(seen) == flops and len(seen) == len(work()) == 8


def test_works_take_turns():
    calls = []
    times = take_turns([lambda: calls.append("a"), lambda: calls.append("b")], 2)
    assert "".join(calls) == "ababab" and len(times) == 2


def test_no_cuda_is_said_once_and_only_if_asked(monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert speed_cuda.cuda_rows(("step",), 1) == [] and capsys.readouterr().out == ""
    for wanted in ("", "cuda", "cuda/1.3b/eager"):
        assert speed_cuda.cuda_rows((wanted,), 1) == []
        assert "skipped" in capsys.readouterr().out


@pytest.mark.parametrize("theirs", [9.0, 40.0])
def test_the_faster_of_the_two_is_the_one_with_the_greater_ratio(theirs):
    first = replace(row(target=0.9), of_floor=0.8)
    second = row("step/mini/80/comfyui", "comfyui", 10.0, theirs)
    made = fastest_row(first, second)
    assert made.against == ("comfyui" if theirs < 20 else "diffusers")
    assert made.ratio == max(first.ratio, second.ratio)
    assert (made.name, made.of_floor, made.target) == ("step/mini/80/fastest", 0.8, 0.9)
    assert made.most_ratio == 0.65


def test_no_comfyui_is_a_reason_and_no_row(monkeypatch, capsys, tmp_path):
    monkeypatch.setenv("COMFYUI_PATH", str(tmp_path))
    assert host_row("step/mini/80", 1, 0.0) is None
    assert "COMFYUI_PATH is not the folder of a ComfyUI" in capsys.readouterr().out


def test_a_comfyui_that_cannot_start_is_a_reason_and_no_row(monkeypatch, capsys, tmp_path):
    (tmp_path / "comfy" / "ldm" / "wan").mkdir(parents=True)
    monkeypatch.setenv("COMFYUI_PATH", str(tmp_path))
    monkeypatch.setenv("COMFYUI_PYTHON", sys.executable)
    assert host_row("step/mini/80", 1, 0.0) is None
    assert "did not run: ModuleNotFoundError: No module named 'comfy" in capsys.readouterr().out


def test_comfyuis_own_wan_computes_the_same():
    """The run itself compares outputs, and fails if they differ."""
    comfyui = find_comfyui()
    if comfyui is None:
        pytest.skip("COMFYUI_PATH is not the folder of a ComfyUI.")
    took = beside_comfyui(comfyui, TINY, (2, 2, 4, 4), 1)
    assert took.keys() == {"ours", "theirs", "theirs_mb"}
    assert took["ours"] > 0 and took["theirs"] > 0


def test_json_keeps_its_form(monkeypatch, tmp_path):
    """The old names come first and unchanged, beside diffusers; the new ones follow theirs."""
    monkeypatch.setattr(speed, "step_row", lambda name, repeats: row(name))
    monkeypatch.setattr(
        speed, "host_row", lambda name, repeats, mb: row(f"{name}/comfyui", "comfyui")
    )
    file = tmp_path / "speed.json"
    monkeypatch.setattr(sys, "argv", ["speed.py", "--rows", "step/mini", "--json", str(file)])
    speed.main()
    rows = json.loads(file.read_text())["rows"]
    minis = [name for name in STEPS if "mini" in name]
    assert [r["name"] for r in rows] == [
        each for name in minis for each in (name, f"{name}/comfyui", f"{name}/fastest")
    ]
    old = "name against ours_ms theirs_ms ratio of_floor ours_peak_mb theirs_peak_mb"
    assert " ".join(rows[0]).startswith(old)


def test_the_table_shows_aims(capsys):
    print_table([replace(row(target=0.92), of_floor=0.9), row(most_ratio=0.65)])
    lines = capsys.readouterr().out.splitlines()
    assert "0.90 (0.92)" in lines[-2] and "0.50 (0.65)" in lines[-1]
