"""Runs inside*.py by the Python of a real ComfyUI, with its modules importable as its own."""


def test_inside_the_process_of_comfyui(inside):
    done = inside.process
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-3000:]
    assert " passed" in done.stdout
