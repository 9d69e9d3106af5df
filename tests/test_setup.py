"""Packaging: what setup.py declares is what the code uses."""
import ast
import os
import re
import subprocess
import sys
import zipfile

import pytest
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
    bounds = {requirement.name: requirement.specifier for requirement in map(Requirement, declared[0])}
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


@pytest.mark.slow
def test_installing_ships_every_module_and_template(root, tmp_path):
    files = [path for path in (root / "gi").rglob("*") if path.suffix in (".py", ".j2", ".css", ".yaml")]
    assert {".py", ".j2", ".css", ".yaml"} == {path.suffix for path in files}
    copy = tmp_path / "a folder"
    copy.mkdir()
    for name in ("setup.py", "pyproject.toml"):
        (copy / name).write_bytes((root / name).read_bytes())
    for path in files:
        target = copy / path.relative_to(root)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes())
    # Without isolation pip needs no network, but setuptools in this environment.
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "-w", tmp_path, copy]
    subprocess.run(command, check=True, cwd=tmp_path, stdout=subprocess.DEVNULL)
    wheel, = tmp_path.glob("*.whl")
    shipped = {name for name in zipfile.ZipFile(wheel).namelist() if name.startswith("gi/")}
    assert shipped == {path.relative_to(root).as_posix() for path in files}
