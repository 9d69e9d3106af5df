"""The notebooks of examples/ run, with nothing but what is installed, and show what they say."""
import json

import matplotlib
import pytest

matplotlib.use("Agg")


def run(path):
    """The variables after the code cells of a notebook, one after the other."""
    names = {}
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        if cell["cell_type"] == "code":
            exec(compile("".join(cell["source"]), path.name, "exec"), names)
    return names


@pytest.mark.slow
@pytest.mark.parametrize("name", ["photo", "video"])
@pytest.mark.filterwarnings("ignore:.*non-interactive.*")
def test_a_notebook_runs(root, tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    names = run(root / "examples" / f"{name}.ipynb")
    best, *_, worst = names["scores"].values()
    assert best == max(names["scores"].values()) and best > worst + 8 and best > 20
    if name == "video":
        frames, masks, filled = (names[key] for key in ("frames", "masks", "results"))
        assert all((picture[mask == 0] == frame[mask == 0]).all() for frame, mask, picture
                   in zip(frames, masks, filled["keyframes"], strict=True))
    assert not list(tmp_path.iterdir())
