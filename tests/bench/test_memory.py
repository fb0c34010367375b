"""The memory of tensors, counted as they come and go."""

import copy

import torch

from reslab.bench.memory import peak_of

BEFORE = torch.zeros(1000)


def test_what_is_alive_at_once_is_counted_in_bytes() -> None:
    def chain() -> None:
        x = torch.zeros(1000)
        for _ in range(5):
            x = x + 1  # the old one is alive until the new one is there

    assert peak_of(chain) == 8000
    assert peak_of(lambda: [torch.zeros(1000), torch.zeros(500)]) == 6000


def test_views_and_what_was_there_before_are_no_memory() -> None:
    assert peak_of(lambda: BEFORE.view(10, 100)[3:].add_(1)) == 0
    assert peak_of(lambda: (BEFORE + 1).view(-1)[::2]) == 4000


def test_what_a_backward_pass_needs_and_copies_are_counted() -> None:
    def backward() -> None:
        x = torch.zeros(1000, requires_grad=True)
        for _ in range(9):
            x = x.tanh()
        x.sum().backward()

    assert peak_of(backward) >= 10 * 4000
    with torch.inference_mode():
        x = torch.zeros(1000)
        assert 4000 <= peak_of(lambda: copy.deepcopy(x), [x]) < 4100
