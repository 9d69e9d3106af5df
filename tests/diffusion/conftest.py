import pytest

from tests.diffusion.svd import write_svd


@pytest.fixture(scope="session")
def svd_folder(tmp_path_factory):
    """SVD in small, with random weights; its autoencoder reduces by 2."""
    pytest.importorskip("diffusers")
    return write_svd(tmp_path_factory.mktemp("svd"))
