"""The weights files that can be fetched by name: each is declared beside the network that reads it."""
from gi.errors import InputError
from gi.flow.estimate import RAFT_THINGS
from gi.internal.ambiguity import VGG19
from gi.losses.perceptual import ADE20K_ENCODER
from gi.metrics.features import ALEXNET, INCEPTION, VGG16
from gi.metrics.i3d import RGB_IMAGENET
from gi.weights.fetch import RequiredFile

FILES = {file.name: file
         for file in (RAFT_THINGS, ADE20K_ENCODER, INCEPTION, VGG16, ALEXNET, RGB_IMAGENET, VGG19)}


def file_named(name: str) -> RequiredFile:
    """A file by its short name, at its usual place. Raises InputError for other names."""
    if name not in FILES:
        raise InputError(f"{name}: no such file, expected {', '.join(FILES)}")
    return RequiredFile.at_default(FILES[name])
