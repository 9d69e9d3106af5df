"""Packaging, for what pyproject.toml cannot say. `REQUIRES` and `EXTRAS` are plain literals: scripts/_env.sh reads them
without running this file.
"""
import shutil
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

REQUIRES = [
    "torch>=2.11,<2.16",
    "torchvision>=0.26,<0.31",  # the releases that belong to the torch versions above
    "pytorch-lightning>=2.6,<2.7",
    "torchmetrics>=1.0",
    "omegaconf>=2.4",  # the first to bound what aliases of aliases in YAML expand to
    "pyyaml>=6",
    "numpy>=1.23",
    "pillow>=10.3",
    "av>=17",
    "opencv-python-headless>=4.6",  # headless: the plain package links libGL, which servers do not have
    "scikit-image>=0.20",
    "lpips>=0.1.4",
    "pytorch-fid>=0.3",
    "tensorboard>=2.10",
    "matplotlib>=3.6",
    "rich>=12",
    "safetensors>=0.4",
    "cachetools>=5",
    "jinja2>=3.1",
]
EXTRAS = {
    "diffusion": ["diffusers>=0.41", "transformers>=5.20", "peft>=0.21", "accelerate>=1.10"],  # `--method diffusion`
    "app": ["starlette>=1", "uvicorn>=0.40", "python-multipart>=0.0.20"],  # `gi app`, the page in the browser
    "test": ["pytest>=7", "ruff>=0.4", "mypy>=2.1,<3", "scipy>=1.9", "setuptools>=77", "httpx>=0.28",
             "playwright>=1.50"],
}
ALONG = "configs/*.yaml", "configs/*/*.yaml", "checkpoints/README.md", "checkpoints/ours_small.*"


class WithFiles(build_py):
    """Puts the files that come along into the package of a wheel, where gi/resources.py finds them."""

    def run(self) -> None:
        super().run()
        root = Path(__file__).resolve().parent
        for path in () if self.editable_mode else [path for pattern in ALONG for path in root.glob(pattern)]:
            place = Path(self.build_lib, "gi", path.relative_to(root))
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, place)


if __name__ == "__main__":
    setup(
        packages=find_packages(include=["gi", "gi.*"]),
        package_data={"gi.report": ["templates/*", "*.yaml"], "gi.app": ["page/*"]},
        install_requires=REQUIRES,
        extras_require=EXTRAS,
        cmdclass={"build_py": WithFiles},
    )
