"""Frozen networks behind FID and LPIPS, from local files: pytorch-fid and lpips would download theirs when built."""
import warnings
from collections.abc import Mapping
from typing import Literal

import lpips
import torch
import torch.nn.functional as F
from pytorch_fid.inception import FIDInceptionA, FIDInceptionC, FIDInceptionE_1, FIDInceptionE_2
from torch import Tensor, nn
from torchvision.models import inception_v3

from gi.errors import InputError
from gi.weights.files import Frozen, WeightsFile, load_strict, of_torchvision, read_weights

INCEPTION = WeightsFile(
    name="inception",
    path="checkpoints/metrics/pt_inception-2015-12-05-6726825d.pth",
    origin="pt_inception-2015-12-05-6726825d.pth of github.com/mseitzer/pytorch-fid",
    url="https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/pt_inception-2015-12-05-6726825d.pth",
    licence="Apache 2.0",
    sha256="6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2",
    hub=True,
)
VGG16 = of_torchvision("vgg16", "vgg16-397923af.pth",
                       "397923af8e79cdbb6a7127f12361acd7a2f83e06b05044ddf496e83de57a5bf0", folder="metrics")
ALEXNET = of_torchvision("alexnet", "alexnet-owt-7be5be79.pth",
                         "7be5be791159472b1fbf3c69796f7cb30dca7ad8466c2df70058c37116cdee02", folder="metrics")
_BACKBONES = {"vgg": VGG16, "alex": ALEXNET}
_LEAST = {"vgg": 16, "alex": 31}  # pixels a side; of smaller images, nothing is left in the last layer


class InceptionFeatures(Frozen):
    """Pool features of the Inception network that FID is defined with, pytorch-fid's.

    weights: its file; None leaves the network untrained, for tests. sha256: expected of a file that is not
    pytorch-fid's, or its first digits.
    """

    dimensions = 2048
    file = INCEPTION

    def __init__(self, *, weights: str | None = INCEPTION.path, sha256: str | None = None):
        super().__init__()
        self.network = inception_v3(weights=None, aux_logits=False, num_classes=1008, init_weights=False)
        for name, block in {
            # TensorFlow's pooling differs from torchvision's in these blocks.
            "Mixed_5b": FIDInceptionA(192, pool_features=32),
            "Mixed_5c": FIDInceptionA(256, pool_features=64),
            "Mixed_5d": FIDInceptionA(288, pool_features=64),
            "Mixed_6b": FIDInceptionC(768, channels_7x7=128),
            "Mixed_6c": FIDInceptionC(768, channels_7x7=160),
            "Mixed_6d": FIDInceptionC(768, channels_7x7=160),
            "Mixed_6e": FIDInceptionC(768, channels_7x7=192),
            "Mixed_7b": FIDInceptionE_1(1280),
            "Mixed_7c": FIDInceptionE_2(2048),
        }.items():
            setattr(self.network, name, block)
        if weights is not None:
            load_strict(self.network, read_weights(weights, file=INCEPTION, sha256=sha256), weights)
        self.network.fc = nn.Identity()  # what is left ends in the pool features
        self.freeze()

    @torch.no_grad()
    def forward(self, rgb: Tensor) -> Tensor:
        """`rgb` (N,3,H,W) in [0,1] -> (N,2048) float32."""
        with torch.autocast(rgb.device.type, enabled=False):
            x = F.interpolate(rgb.float(), size=(299, 299), mode="bilinear", align_corners=False)
            return self.network(2 * x - 1)


class LPIPS(Frozen):
    """Learned perceptual image patch similarity (Zhang et al., 2018), version 0.1, the lpips package's.

    Gradients flow to both images, so it serves as a loss too.

    net: backbone; the paper uses "vgg" for images and "alex" for video. weights: torchvision's file with it, at its
    usual place when "torchvision"; None leaves it untrained, for tests. The small layers on top come with the package.
    sha256: expected of a file that is not torchvision's, or first digits. Images have sides of `least_side` or more.
    """

    def __init__(self, *, net: Literal["vgg", "alex"] = "vgg", weights: str | None = "torchvision",
                 sha256: str | None = None):
        super().__init__()
        if net not in _BACKBONES:
            raise InputError(f"net of LPIPS: expected one of {', '.join(_BACKBONES)}, got {net!r}")
        self.least_side = _LEAST[net]
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", category=UserWarning, module="torchvision")  # of its old `pretrained`
            self.network = lpips.LPIPS(net=net, version="0.1", pnet_rand=True, verbose=False)
        if weights is not None:
            file, backbone = _BACKBONES[net], self.network.net
            path = file.path if weights == "torchvision" else weights
            # The package keeps torchvision's layers under their old numbers, in slices: slice2.5 is features.5.
            names = {f"features.{name.split('.', 1)[1]}": name for name in backbone.state_dict()}
            state = {names.get(name, name): value for name, value in
                     read_weights(path, file=file, sha256=sha256).items() if not name.startswith("classifier.")}
            load_strict(backbone, state, path)
        self.freeze()

    @classmethod
    def file_of(cls, params: Mapping) -> WeightsFile:
        return _BACKBONES[params.get("net", "vgg")]

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """a, b (N,3,H,W) in [0,1] -> (N,) float32, >= 0; 0 for equal images. Raises InputError for images with a side
        below 16 pixels (vgg) or 31 (alex).
        """
        if min(a.shape[-2:]) < self.least_side:
            raise InputError(f"LPIPS: expected images of at least {self.least_side} x {self.least_side} pixels, "
                             f"got {a.shape[-1]} x {a.shape[-2]}")
        with torch.autocast(a.device.type, enabled=False):
            return self.network(a.float(), b.float(), normalize=True).flatten()
