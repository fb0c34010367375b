"""Shared fixtures. One thread: tests run side by side, and results must not depend on how sums are split."""

import pytest
import torch
from hypothesis import settings

settings.register_profile("reslab", deadline=None)  # a busy machine is not a failure
settings.load_profile("reslab")


@pytest.fixture(autouse=True)
def _one_thread_and_a_seed() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
