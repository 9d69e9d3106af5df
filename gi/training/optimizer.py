"""Adam as one kernel for all parameters, and the scale of losses in fp16."""
from collections.abc import Iterable

import torch
from torch import Tensor, nn


def adam(
    parameters: Iterable[nn.Parameter], *, lr: float, betas: tuple[float, float], scaled: bool, weight_decay: float = 0
) -> torch.optim.Adam:
    """Adam, fused where the parameters' device can; with `weight_decay` AdamW.

    scaled: whether gradients are scaled, as for fp16: the fused kernel would undo that itself, after they were clipped.
    """
    parameters = list(parameters)
    fused = not scaled and all(p.device.type in ("cpu", "cuda", "mps") for p in parameters)
    optimizer = torch.optim.Adam(parameters, lr=lr, betas=betas, fused=fused, weight_decay=weight_decay,
                                 decoupled_weight_decay=True)

    # A checkpoint holds the settings of the run which wrote it. (Learning rates and betas follow when training starts.)
    kept = {name: value for name, value in optimizer.param_groups[0].items() if name not in ("params", "lr", "betas")}

    def keep_settings(_, state):
        return state | {"param_groups": [group | kept for group in state["param_groups"]]}

    optimizer.register_load_state_dict_pre_hook(keep_settings)
    optimizer.register_load_state_dict_post_hook(_lay_out)
    return optimizer


def _lay_out(optimizer):
    """Moments in their parameter's memory layout: the kernel assumes that they agree, and does not check."""
    for parameter, state in optimizer.state.items():
        for name, value in state.items():
            if value.shape == parameter.shape and value.stride() != parameter.stride():
                state[name] = torch.empty_like(parameter).copy_(value)


class JointScaler(torch.amp.GradScaler):
    """Scale of the losses in fp16 for `optimizers` that step in turn, changed once all of them have.

    Lightning updates it after each optimiser's step, but gradients that wait for the next one's were accumulated with
    the present scale. Each optimiser skips its step where its own gradients overflow, but step counts advance.
    """

    def __init__(self, device: str, *, optimizers: int):
        super().__init__(device)
        self._optimizers, self._stepped = optimizers, 0

    def update(self, new_scale: float | Tensor | None = None) -> None:
        self._stepped = (self._stepped + 1) % self._optimizers
        if self._stepped == 0:
            super().update(new_scale)
