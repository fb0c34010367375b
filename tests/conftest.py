"""Shared fixtures. One thread: tests run side by side, and results must not depend on how sums are split."""

import pytest
import torch


@pytest.fixture(autouse=True)
def _one_thread_and_a_seed() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
