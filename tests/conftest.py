"""Shared fixtures of the tests."""

import pytest
import torch


@pytest.fixture(autouse=True)
def _one_thread():
    """Keep sums in one order, so that tests compare bits where they claim to."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
