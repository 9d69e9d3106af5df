"""The regulariser against blur: features of the prediction should occur in another frame of the video."""
import logging
from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from torchvision.models import vgg19

from gi.errors import MissingFile
from gi.flow.warp import area_means
from gi.heap import release_freed
from gi.weights.files import Frozen, load_strict, of_torchvision, read_weights

log = logging.getLogger(__name__)
# torchvision's names end with the first digits
VGG19 = of_torchvision("vgg19", "vgg19-dcbb9e9d.pth", "dcbb9e9d", folder="internal")
LAYERS = {"relu3_4": 18, "relu4_2": 23}  # how many of torchvision's layers lead there
_ENTRIES = 2**20  # of the distance matrix that are computed together
_ACTIVATIONS = 2**21  # of a layer that are computed together
_CAFFE = 103.939, 116.779, 123.68  # mean blue, green, red


class Ambiguity(Frozen):
    """`weight` * contextual loss (Mechrez et al.) between the last stage's prediction and another frame's known pixels.

    VGG-19 sees both with the other frame's hole in grey. The paper states the mean distance of each feature of the
    prediction to the nearest one of the other frame, after relu3_4; the release has the contextual loss after relu4_2,
    followed here. The paper's product with the mask of the hole would look at what is not known.

    Memory is bounded: for a million distances at a time, some 30 MB, and for two million activations of a layer of the
    network, some 60 MB, whatever the size of the images. Both are computed in rows, and again for gradients.

    Args:
        form: "contextual", or "nearest", the paper's.
        layer: whose activations are compared.
        leave_out_hole: whether features that lie wholly in the grey hole, which match each other anyway, do not count.
        normalisation: of images as the weights expect them: torchvision's, or the release's ("caffe").
        weights: torchvision's VGG-19. Without this file the term logs a warning and has weight 0. None leaves the
            network untrained, for tests.
        sha256: expected SHA-256 of that file, or its first digits.
    """

    file = VGG19

    def __init__(self, *, weight: float = 0.1, form: Literal["contextual", "nearest"] = "contextual",
                 layer: Literal["relu3_4", "relu4_2"] = "relu4_2", leave_out_hole: bool = False,
                 normalisation: Literal["torchvision", "caffe"] = "torchvision", weights: str | None = VGG19.path,
                 sha256: str | None = None):
        super().__init__()
        self.weight, self.form, self.leave_out_hole, self.normalisation = weight, form, leave_out_hole, normalisation
        with torch.device("meta"):  # not the classifier's 500 MB
            self.features = vgg19().features[:LAYERS[layer]]
        if weight:
            self._load(weights, sha256)
        else:
            self.features = nn.Sequential()
        self.freeze()

    def _load(self, weights, sha256):
        try:
            state = None if weights is None else read_weights(weights, file=VGG19, sha256=sha256)
        except MissingFile as error:
            log.warning("ambiguity: left out, %s", error)
            self.weight, self.features = 0.0, nn.Sequential()
            return
        self.features.to_empty(device="cpu")
        if state is None:
            for part in self.features:
                if isinstance(part, nn.Conv2d):
                    part.reset_parameters()
        else:
            known = {f"features.{name}" for name in self.features.state_dict()}
            load_strict(self, {name: value for name, value in state.items() if name in known}, weights)

    def forward(self, prediction: Sequence[Tensor], batch: dict, discriminated: object = None) -> Tensor:
        """`prediction`: stages (B,3,H,W) in [0,1]; of the batch the other frame, "sources" (B,1,3,H,W) and
        "source_masks" (B,1,1,H,W). A scalar >= 0; no gradient reaches the other frame.
        """
        reference, hole = batch["sources"][:, 0], batch["source_masks"][:, 0]
        predicted = self.extract(prediction[-1] * (1 - hole) + 0.5 * hole)
        with torch.no_grad():
            target = self.extract(reference * (1 - hole) + 0.5 * hole)
        if predicted.device.type == "cpu":
            release_freed()
            if predicted.requires_grad:  # the same between the backward passes of distances and network
                predicted.register_hook(lambda gradient: release_freed())
        known = None
        if self.leave_out_hole:
            known = area_means(hole, predicted.shape[-2:]) < 1
        return self.weight * feature_loss(predicted, target, form=self.form, known=known)

    def extract(self, image: Tensor) -> Tensor:
        """(B,3,H,W) in [0,1] -> features (B,C,h,w), h = H/4 or H/8."""
        if self.normalisation == "caffe":
            x = 255 * image.flip(1) - image.new_tensor(_CAFFE).view(3, 1, 1)
        else:
            mean, std = (image.new_tensor(values).view(3, 1, 1)
                         for values in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
            x = (image - mean) / std
        return in_strips(self.features, x)


def in_strips(network: nn.Sequential, x: Tensor) -> Tensor:
    """The output of VGG's first layers for (B,C,H,W), computed some rows at a time to bound the memory."""
    ends = [i for i, part in enumerate(network) if isinstance(part, nn.MaxPool2d)]
    for start, end in zip([0, *(end + 1 for end in ends)], [*ends, len(network)], strict=True):
        x = _block(network[start:end], x, pool=end in ends)
    return x


def _block(layers, x, *, pool):
    """3x3 convolutions and ReLUs, and a pooling by 2 behind them, in strips of rows: (B, C, H, W) -> (B, c, h, w).

    A strip has one row more on each side for each convolution, and drops them at the end, as they are wrong where the
    frame continues. Nothing within a strip is kept for gradients but its rows of `x`.
    """
    convolutions = [part for part in layers if isinstance(part, nn.Conv2d)]
    margin, height = len(convolutions), x.shape[-2]
    rows = max(2, _ACTIVATIONS // (len(x) * convolutions[-1].out_channels * x.shape[-1]) // 2 * 2)

    def strip(x, above, length):
        x = layers[:-1](x)[..., above:above + length, :]
        return layers[-1](F.max_pool2d(x, 2) if pool else x)  # ReLU last, as pooling leaves a quarter of the values

    strips = []
    for top in range(0, height - height % 2 if pool else height, rows):
        length, first = min(rows, height - top), max(0, top - margin)
        strips.append(checkpoint(strip, x[..., first:top + length + margin, :], top - first, length,
                                 use_reentrant=False, preserve_rng_state=False))
    return torch.cat(strips, dim=-2)


def feature_loss(drawn: Tensor, target: Tensor, *, form: str = "contextual", known: Tensor | None = None) -> Tensor:
    """The loss on feature maps (B,C,h,w), a scalar. known: bool (B,1,h,w), which of them count; None for all."""
    with torch.autocast(drawn.device.type, enabled=False):
        drawn, target = drawn.float(), target.float()
        if form == "contextual":
            mean = target.mean(dim=(0, 2, 3), keepdim=True)
            drawn, target = drawn - mean, target - mean
        drawn, target = (F.normalize(x, dim=1).flatten(2) for x in (drawn, target))
        losses = []
        for i in range(len(drawn)):
            a, b = drawn[i], target[i]
            if known is not None and (keep := known[i].flatten()).any():
                a, b = a[:, keep], b[:, keep]
            losses.append(_contextual(a, b) if form == "contextual" else _nearest(a, b))
        return torch.stack(losses).mean()


def cosine_distances(a: Tensor, b: Tensor) -> Tensor:
    """(C,I), (C,J) of unit length -> (I,J), each in [0, 2]."""
    return 1 - a.T @ b


def _contextual(a, b):
    best = [checkpoint(_row_maxima, rows, b, use_reentrant=False) for rows in _rows(a, b)]
    return -torch.stack(best).amax(dim=0).mean().log()


def _row_maxima(rows, b):
    """For each column, its largest similarity to one of the rows."""
    distances = cosine_distances(rows, b)
    relative = distances / (distances.amin(dim=1, keepdim=True) + 1e-5)
    return torch.softmax(2 * (1 - relative), dim=1).amax(dim=0)


def _nearest(a, b):
    return torch.cat([checkpoint(lambda rows: cosine_distances(rows, b).amin(dim=1), rows, use_reentrant=False)
                      for rows in _rows(a, b)]).mean()


def _rows(a, b):
    return a.split(max(1, _ENTRIES // b.shape[1]), dim=1)
