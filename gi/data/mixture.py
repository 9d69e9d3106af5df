"""Several sets of training samples taken in turns, such as pairs with large and with small motion."""
from torch.utils.data import Dataset

from gi.data.sample import Sample
from gi.errors import InputError


class Mixture(Dataset):
    """Sample i is of part i % N of the N `parts`; where the shortest part ends, so does the mixture.

    Like its parts it is asked for samples or for (epoch, index) pairs, see `gi.data.pairs`. A sample's name begins with
    that of its part. Size and number of keyframes must be the same in all. Raises InputError without any part.
    """

    def __init__(self, *, parts: dict[str, Dataset]):
        if not parts:
            raise InputError("parts: there are none, expected at least one data set")
        self.parts = parts

    def __len__(self) -> int:
        return len(self.parts) * min(len(part) for part in self.parts.values())  # type: ignore[arg-type]

    def __getitem__(self, index: int | tuple[int, int]) -> Sample:
        epoch, index = index if isinstance(index, tuple) else (0, index)
        if not 0 <= index < len(self):
            raise IndexError(f"sample {index} of {len(self)}")
        index, turn = divmod(index, len(self.parts))
        name, part = list(self.parts.items())[turn]
        sample = part[epoch, index]
        return sample | {"name": f"{name}/{sample['name']}"}
