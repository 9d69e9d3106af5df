"""Packaging: what setup.py declares is what the code uses."""
import ast
import os
import re
import shutil
import subprocess
import sys
import zipfile

import numpy as np
import pytest
from PIL import Image
from setuptools import find_packages

# Packages whose import name is not the name they are installed by.
INSTALLED_AS = {"cv2": "opencv-python-headless", "PIL": "pillow", "skimage": "scikit-image", "yaml": "pyyaml",
                "pytorch_lightning": "pytorch-lightning", "pytorch_fid": "pytorch-fid"}


@pytest.fixture(scope="module")
def declared(root):
    setup = ast.parse((root / "setup.py").read_text(encoding="utf-8"))
    values = {node.targets[0].id: ast.literal_eval(node.value) for node in setup.body if isinstance(node, ast.Assign)}
    return values["REQUIRES"], values["EXTRAS"]


def test_every_folder_with_code_is_a_package(root):
    folders = {path.parent.relative_to(root).as_posix().replace("/", ".") for path in (root / "gi").rglob("*.py")}
    assert folders == set(find_packages(str(root), include=["gi", "gi.*"]))


def test_every_import_is_declared(root, declared):
    requires, extras = declared
    names = {re.match(r"[\w-]+", line)[0].lower() for line in requires + sum(extras.values(), [])}
    for path in (root / "gi").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            modules += [node.module] if isinstance(node, ast.ImportFrom) and not node.level else []
            for module in {module.split(".")[0] for module in modules} - {"gi"} - set(sys.stdlib_module_names):
                assert INSTALLED_AS.get(module, module).lower() in names, f"{path.name} imports {module}"


def test_constraints_lie_within_the_bounds(root, declared):
    from packaging.requirements import Requirement
    requirements = map(Requirement, [*declared[0], *declared[1]["test"]])
    bounds = {requirement.name: requirement.specifier for requirement in requirements}
    lines = [line for line in (root / "constraints.txt").read_text().splitlines() if line and line[0] != "#"]
    assert lines
    for line in lines:
        name, version = line.split("==")
        assert bounds[name].contains(version)


@pytest.mark.parametrize("script", ["scripts/demo.sh", "scripts/test.sh", ".ci/run"])
def test_scripts_can_be_run(root, script):
    assert os.access(root / script, os.X_OK)
    subprocess.run(["bash", "-n", root / script], check=True)
    assert (root / script).read_text().startswith("#!/usr/bin/env bash\n")


@pytest.fixture(scope="module")
def wheel(root, tmp_path_factory):
    """Built from a copy, as pip leaves its work in the folder; without isolation, for which it would need a network."""
    folder = tmp_path_factory.mktemp("wheel")
    copy = folder / "a folder"
    for name in ("gi", "configs", "checkpoints"):
        shutil.copytree(root / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    for path in [path for path in root.iterdir() if path.is_file() and not path.name.startswith(".")]:
        shutil.copyfile(path, copy / path.name)
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "-w", folder, copy]
    subprocess.run(command, check=True, cwd=folder, stdout=subprocess.DEVNULL)
    return next(folder.glob("*.whl"))


@pytest.mark.slow
def test_the_wheel_has_every_module_and_what_comes_along(root, wheel):
    code = {path.relative_to(root).as_posix() for path in (root / "gi").rglob("*")
            if path.suffix in (".py", ".j2", ".css", ".yaml", ".js", ".html", ".svg")}
    along = {f"gi/{path.relative_to(root).as_posix()}" for path in (root / "configs").rglob("*.yaml")}
    weights = {f"gi/checkpoints/{name}" for name in ("README.md", "ours_small.md", "ours_small.safetensors")}
    with zipfile.ZipFile(wheel) as archive:
        assert {name for name in archive.namelist() if name.startswith("gi/")} == code | along | weights
        metadata, = (archive.read(name).decode() for name in archive.namelist() if name.endswith("/METADATA"))
    for line in ("License-Expression: MIT", "Author: GI contributors", "Requires-Python: >=3.10",
                 "Requires-Dist: torch", "Provides-Extra: test", "Description-Content-Type: text/markdown"):
        assert line in metadata


@pytest.mark.slow
def test_a_photo_and_a_video_with_the_wheel_alone(root, wheel, tmp_path):
    """In an environment without the project, which sees the packages of this one."""
    python = tmp_path / "env" / "bin" / "python"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "env"], check=True)
    packages, = (tmp_path / "env").glob("lib/python*/site-packages")
    others = [folder for folder in sys.path if folder.endswith("-packages")]  # without what .pth files there say
    (packages / "others.pth").write_text("\n".join(others))
    subprocess.run([sys.executable, "-m", "pip", "--python", python, "install", "--no-deps", "--no-index", "-q", wheel],
                   check=True)
    work = tmp_path / "work"
    (work / "frames").mkdir(parents=True)
    random = np.random.default_rng(0)
    picture = Image.fromarray(random.integers(0, 256, (9, 12, 3), dtype=np.uint8)).resize((96, 72), Image.BICUBIC)
    hole = np.zeros((72, 96), np.uint8)
    hole[30:42, 40:56] = 255
    Image.fromarray(hole).save(work / "hole.png")
    picture.save(work / "keyframe.png")
    for number in range(5):
        frame = picture.transform((96, 72), Image.AFFINE, (1, 0, number, 0, 1, 0))
        frame.paste((0, 0, 0), mask=Image.fromarray(hole))
        frame.save(work / "frames" / f"{number}.png")
    environment = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "GI_HOME")}
    environment |= {"OMP_NUM_THREADS": "1", "HOME": str(tmp_path)}

    def gi(*words, program=(tmp_path / "env" / "bin" / "gi",), status=0):
        done = subprocess.run([*program, *words], cwd=work, env=environment, capture_output=True, text=True)
        assert done.returncode == status, done.stderr
        return done.stdout + done.stderr

    def filled(path, frame):
        pixels, frame = (np.asarray(Image.open(work / name)) for name in (path, frame))
        assert (pixels[hole == 0] == frame[hole == 0]).all() and pixels[hole > 0].mean() > 30

    said = gi("inpaint", "--image", "frames/1.png", "--mask", "hole.png", "--keyframe", "keyframe.png", "--out",
              "out.png")
    assert said.endswith("out.png: 1 keyframe; hole.png: 2.78 % missing\nkeyframe.png: used\n")
    filled("out.png", "frames/1.png")
    gi("inpaint-video", "frames", "hole.png", "out", "--dilate", "0")
    filled("out/2.png", "frames/2.png")
    code = """
import gi, numpy as np
from PIL import Image
assert "env" in gi.__file__, gi.__file__
inpainter = gi.Inpainter.from_checkpoint()
Image.fromarray(inpainter(*map(Image.open, ("frames/1.png", "hole.png")))).save("python.png")
video = gi.VideoInpainter.from_checkpoint()
frames = [np.asarray(Image.open(f"frames/{number}.png")) for number in range(5)]
print(len(list(video(frames, [np.asarray(Image.open("hole.png"))] * 5))), "frames")
"""
    assert "5 frames" in gi("-c", code, program=(python,))
    filled("python.png", "frames/1.png")
    described = gi("test", "--base", "configs/small/ours_small.yaml", "--print-config")
    assert f"{packages}/gi/configs/small/common.yaml" in described
    assert "needs a clone" in gi("benchmark", "--help", status=2)


def test_conda_gets_what_setup_asks_for(root):
    """env.yaml leaves all of it to pip, in one place."""
    import yaml
    python, pip, packages = yaml.safe_load((root / "env.yaml").read_text(encoding="utf-8"))["dependencies"]
    assert re.fullmatch(r"python=3\.1[0-3]", python) and pip == "pip"
    assert packages == {"pip": ["-c constraints.txt", "-e .[test,diffusion,app]"]}
