"""Perceptual loss of high receptive field (LaMa; original release), on features of a network trained to segment
ADE20K.
"""
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.resnet import Bottleneck, ResNet

from gi.weights.files import Frozen, WeightsFile, load_strict, read_weights

ADE20K_ENCODER = WeightsFile(
    name="ade20k",
    path="checkpoints/lama/ade20k/ade20k-resnet50dilated-ppm_deepsup/encoder_epoch_20.pth",
    origin="encoder_epoch_20.pth of the model ade20k-resnet50dilated-ppm_deepsup of "
    "github.com/CSAILVision/semantic-segmentation-pytorch",
    url="http://sceneparsing.csail.mit.edu/model/pytorch/ade20k-resnet50dilated-ppm_deepsup/encoder_epoch_20.pth",
    licence="BSD 3-Clause",
)


class PerceptualLoss(Frozen):
    """`weight` * sum over four stages of the mean squared difference between the features of prediction and image.

    Args:
        weights: the file encoder_epoch_20.pth; None leaves the network untrained, for tests.
        sha256: expected SHA-256 of that file, or its first digits.
    """

    file = ADE20K_ENCODER

    def __init__(self, *, weights: str | None = ADE20K_ENCODER.path, sha256: str | None = None, weight: float = 30.0):
        super().__init__()
        self.weight = weight
        self.encoder = DilatedResNet50()
        if weights is not None:
            load_strict(self.encoder, read_weights(weights, file=ADE20K_ENCODER, sha256=sha256), weights)
        self.freeze()

    def forward(self, prediction: Tensor, batch: dict, discriminated: object = None) -> Tensor:
        """`prediction` (N,3,H,W) in [0,1] and the batch's "image"; a scalar >= 0. No gradient reaches the image."""
        with torch.no_grad():
            image_features = self.encoder(batch["image"])
        pairs = zip(self.encoder(prediction), image_features, strict=True)
        return self.weight * torch.stack([F.mse_loss(a.float(), b.float()) for a, b in pairs]).sum()


class DilatedResNet50(ResNet):
    """ResNet-50 with a stem of three 3x3 convolutions, and dilation instead of stride in the last two stages.

    Parameter names are those of encoder_epoch_20.pth.
    """

    def __init__(self):
        super().__init__(Bottleneck, [3, 4, 6, 3], replace_stride_with_dilation=[False, True, True])
        del self.fc
        self.conv1, self.bn1 = nn.Conv2d(3, 64, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(64)
        self.conv2, self.bn2 = nn.Conv2d(64, 64, 3, padding=1, bias=False), nn.BatchNorm2d(64)
        self.conv3, self.bn3 = nn.Conv2d(64, 128, 3, padding=1, bias=False), nn.BatchNorm2d(128)
        shortcut = nn.Sequential(nn.Conv2d(128, 256, 1, bias=False), nn.BatchNorm2d(256))
        self.layer1[0] = Bottleneck(128, 64, downsample=shortcut)
        self.register_buffer("mean", torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1), persistent=False)

    def forward(self, rgb: Tensor) -> list[Tensor]:
        """`rgb` (N,3,H,W) in [0,1] -> features of the stages: 256, 512, 1024, 2048 channels at stride 4, 8, 8, 8."""
        x = (rgb - self.mean) / self.std
        for conv, norm in (self.conv1, self.bn1), (self.conv2, self.bn2), (self.conv3, self.bn3):
            x = F.relu(norm(conv(x)))
        x = self.maxpool(x)
        features = []
        for stage in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = stage(x)
            features.append(x)
        return features
