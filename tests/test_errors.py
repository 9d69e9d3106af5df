"""Errors keep their type and their one line on the way from where they happen."""
import pytest
from torch.utils.data import DataLoader, Dataset

from gi.config import allow, instantiate
from gi.errors import InputError, MissingFile

allow(__name__)


class Broken(Dataset):
    def __len__(self):
        return 1

    def __getitem__(self, index):
        raise MissingFile("a.png: no such file, expected for the sample a")


class Reader:
    def __init__(self):
        raise MissingFile("weights.pth: no such file")


@pytest.mark.parametrize("workers", [0, 1])
def test_error_of_a_data_worker(workers):
    with pytest.raises(MissingFile) as caught:
        next(iter(DataLoader(Broken(), num_workers=workers)))
    assert str(caught.value) == "a.png: no such file, expected for the sample a"


def test_error_of_a_constructor_named_in_a_configuration():
    with pytest.raises(MissingFile) as caught:
        instantiate({"target": f"{__name__}.Reader"}, "model.params.flow")
    assert str(caught.value) == "model.params.flow: weights.pth: no such file"


def test_missing_files_are_bad_input():
    assert issubclass(MissingFile, InputError)
