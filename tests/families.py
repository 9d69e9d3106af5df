"""All model families as the configurations define them, and tiny versions of them for tests."""
import inspect
from pathlib import Path

import torch

from gi.config import instantiate, load_config
from gi.config.schema import find_target

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
MODELS = sorted(path.stem for path in CONFIGS.glob("*.yaml") if path.stem != "demo")
TINY = {"ngf": 8, "heads": 4, "n_latents": 16, "latent_width": 32, "width": 32}


def generator_node(name):
    return load_config([CONFIGS / f"{name}.yaml"]).model.params.generator


def tiny_node(name, **params):
    """The family's generator, small in every way that its constructor offers."""
    node = generator_node(name)
    offered = inspect.signature(find_target(node.target, name)).parameters
    small = {key: value for key, value in TINY.items() if key in offered}
    n_blocks = min(3, node.params.n_blocks)
    return {"target": node.target, "params": {**node.params, **small, "n_blocks": n_blocks, **params}}


def tiny_generator(name, seed=0, **params):
    """In eval mode, with weights large enough to let every input matter."""
    torch.manual_seed(seed)
    generator = instantiate(tiny_node(name, **params))
    for parameter in generator.parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=parameter[0].numel() ** -0.5)
    return generator.eval()


def random_inputs(b, t, height, width, seed=0):
    """target, sources, flows, flow_errors with holes."""
    random = torch.Generator().manual_seed(seed)
    frames = torch.rand(b, 1 + t, 3, height, width, generator=random)
    masks = torch.zeros(b, 1 + t, 1, height, width)
    masks[..., height // 4 : height // 2, width // 4 : width // 2] = 1
    frames = torch.cat([frames * (1 - masks), masks], dim=2)
    flows = 4 * torch.randn(b, t, 2, height, width, generator=random)
    errors = torch.rand(b, t, 1, height, width, generator=random)
    return frames[:, 0], frames[:, 1:], flows, errors
