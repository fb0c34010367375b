"""Level 2 against torch and torchvision."""

import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F
import torchvision
from helpers import NoFloat64
from torch import Tensor, nn

from reslab.networks import zoo
from reslab.networks.counting import count_macs
from reslab.pytorch_lowlevel import resnet_lowlevel as lowlevel

DEPTHS = list(lowlevel.BLOCKS)


def twin(
    depth: int, dtype: torch.dtype = torch.float32, *, disturbed: bool = False
) -> tuple[nn.Module, lowlevel.Tensors, lowlevel.Tensors]:
    """Return torchvision's network and copies of its tensors; `disturbed`, its BatchNorms are not the
    fresh identity.
    """
    network: nn.Module = getattr(torchvision.models, f"resnet{depth}")().to(dtype)
    if not disturbed:
        return network, *lowlevel.from_state_dict(
            {name: value.clone() for name, value in network.state_dict().items()}, depth
        )
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, -0.5, 0.5)
            nn.init.uniform_(module.running_mean, -0.5, 0.5)  # type: ignore[arg-type]  # it is a tensor
            nn.init.uniform_(module.running_var, 0.5, 1.5)  # type: ignore[arg-type]  # it is a tensor
    params, stats = lowlevel.from_state_dict(
        {name: value.clone() for name, value in network.state_dict().items()}, depth
    )
    return network, params, stats


def relative(ours: Tensor, theirs: Tensor) -> float:
    return ((ours - theirs).abs().max() / theirs.abs().max()).item()


FAST = ((18, torch.float32), (50, torch.float64))


@pytest.mark.parametrize(
    ("depth", "dtype", "tolerance"),
    [
        pytest.param(depth, dtype, tolerance, marks=[] if (depth, dtype) in FAST else pytest.mark.slow)
        for depth in DEPTHS
        for dtype, tolerance in ((torch.float32, 1e-5), (torch.float64, 1e-12))
    ],
)
@pytest.mark.parametrize("training", [True, False])
def test_logits_are_torchvisions(depth: int, training: bool, dtype: torch.dtype, tolerance: float) -> None:
    network, params, stats = twin(depth, dtype, disturbed=not training)
    images = torch.randn(3, 3, 64, 64, dtype=dtype)
    with torch.no_grad():
        ours, _ = lowlevel.forward(params, stats, images, training=training)
        assert relative(ours, network.train(training)(images)) < tolerance


@pytest.mark.parametrize("depth", [18, pytest.param(50, marks=pytest.mark.slow)])
def test_gradients_by_hand_are_autograds(depth: int) -> None:
    network, params, stats = twin(depth, torch.float64, disturbed=True)
    images, labels = torch.randn(2, 3, 64, 64, dtype=torch.float64, requires_grad=True), torch.randint(1000, (2,))
    loss = F.cross_entropy(network(images), labels)
    loss.backward()
    with torch.no_grad():
        step = lowlevel.loss_and_gradients(params, stats, images, labels)
    assert step.loss.item() == pytest.approx(loss.item(), rel=1e-12)
    assert step.gradients.keys() == dict(network.named_parameters()).keys()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None
        assert ((step.gradients[name] - parameter.grad).norm() / parameter.grad.norm()).item() < 1e-9, name
    assert images.grad is not None and step.g_images is not None
    assert relative(step.g_images, images.grad) < 1e-9


@pytest.mark.slow
def test_v1_gradients_too() -> None:
    _, params, stats = twin(50, torch.float64)
    images, labels = torch.randn(2, 3, 64, 64, dtype=torch.float64), torch.randint(1000, (2,))
    name = "layer2.0.conv1.weight"  # the first 1×1, which takes the stride in v1

    def loss(weight: Tensor) -> Tensor:
        logits, _ = lowlevel.forward(params | {name: weight}, stats, images, training=True, stride_in="1x1")
        return lowlevel.cross_entropy(logits, labels)

    step = lowlevel.loss_and_gradients(params, stats, images, labels, stride_in="1x1")
    assert relative(step.gradients[name], torch.func.grad(loss)(params[name])) < 1e-9


def test_the_strides_placement_changes_the_answer_and_the_cost() -> None:
    _, params, stats = twin(50)
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        v1, v15 = (lowlevel.forward(params, stats, images, stride_in=stride_in)[0] for stride_in in ("1x1", "3x3"))
    assert relative(v1, v15) > 0.01
    with torch.device("meta"):
        macs = {
            s: count_macs(zoo.build("lowlevel/resnet50", stride_in=s), torch.empty(1, 3, 224, 224))
            for s in ("1x1", "3x3")
        }
    assert {s: round(value / 1e9, 3) for s, value in macs.items()} == {"1x1": 3.858, "3x3": 4.089}


@pytest.mark.parametrize(
    ("dtype", "base_rate", "steps"),
    [
        (torch.float64, 0.01, 2),
        pytest.param(torch.float64, 0.01, 10, marks=pytest.mark.slow),
        pytest.param(torch.float32, 1e-5, 10, marks=pytest.mark.slow),
    ],
)
def test_training_steps_are_those_of_torch_optim_sgd(dtype: torch.dtype, base_rate: float, steps: int) -> None:
    """Random images at a rate that is felt are chaos: torchvision with one thread leaves torchvision with two within
    ten float32 steps.

    So the steps are compared at such a rate in float64, and in float32 at one so small that torchvision agrees with
    itself.
    """
    network, params, stats = twin(18, dtype)
    optimizer = torch.optim.SGD(network.parameters(), lr=base_rate, momentum=0.9, weight_decay=1e-4)
    momenta = None
    for number in range(steps):
        images, labels = torch.randn(4, 3, 32, 32, dtype=dtype), torch.randint(1000, (4,))
        rate = base_rate / (number + 1)
        optimizer.param_groups[0]["lr"] = rate
        optimizer.zero_grad()
        F.cross_entropy(network(images), labels).backward()
        optimizer.step()
        step = lowlevel.loss_and_gradients(params, stats, images, labels, need_g_images=False)
        stats = step.stats
        params, momenta = lowlevel.sgd_step(params, step.gradients, momenta, learning_rate=rate)
        if number == 2:
            for name, buffer in network.named_buffers():
                assert torch.allclose(stats[name].double(), buffer.double(), rtol=1e-4, atol=1e-5), name
    moved = 0.0
    for name, parameter in network.named_parameters():
        if parameter.norm() > 1e-2:  # BatchNorm's biases start at 0 and have no size yet to be relative to
            assert ((params[name] - parameter).norm() / parameter.norm()).item() < 1e-4, name
        moved += (params[name] - parameter).norm().item() ** 2
    assert moved**0.5 < 1e-4 * sum(p.norm().item() ** 2 for p in network.parameters()) ** 0.5


def test_batchnorm_is_torchs_over_several_steps_and_tracks_the_unbiased_variance() -> None:
    theirs = nn.BatchNorm2d(3).double()
    nn.init.uniform_(theirs.weight)
    nn.init.uniform_(theirs.bias)
    stats = {f"bn.{name}": buffer.clone() for name, buffer in theirs.named_buffers()}
    biased = theirs.running_var.clone() if theirs.running_var is not None else torch.empty(0)
    for _ in range(4):
        x = 3 * torch.randn(2, 3, 2, 2, dtype=torch.float64) + 5
        mean, var = lowlevel.batch_statistics(x)
        assert torch.allclose(lowlevel.batch_norm(x, theirs.weight, theirs.bias, mean, var), theirs(x), atol=1e-12)
        stats |= lowlevel.track(stats, "bn", mean, var, count=8)
        biased = 0.9 * biased + 0.1 * var
        for name, buffer in theirs.named_buffers():
            assert torch.allclose(stats[f"bn.{name}"], buffer, atol=1e-12), name
    x = torch.randn(2, 3, 2, 2, dtype=torch.float64)
    ours = lowlevel.batch_norm(x, theirs.weight, theirs.bias, stats["bn.running_mean"], stats["bn.running_var"])
    assert torch.allclose(ours, theirs.eval()(x), atol=1e-12)
    assert theirs.running_var is not None
    assert not torch.allclose(biased, theirs.running_var, rtol=0.05)  # the common mistake is seen


def test_pieces_against_finite_differences() -> None:
    """Each written gradient g_x = Jᵀ·g against (f(x + εd) − f(x − εd)) / 2ε · g along random directions d."""
    double = {"dtype": torch.float64}
    x, w = torch.randn(2, 3, 6, 6, **double), torch.randn(4, 3, 3, 3, **double)  # type: ignore[call-overload]
    gamma, beta = torch.rand(3, **double) + 0.5, torch.randn(3, **double)  # type: ignore[call-overload]
    labels = torch.tensor([1, 0])
    mean, var = lowlevel.batch_statistics(x)
    features, wl, bl = torch.randn(2, 3, **double), torch.randn(5, 3, **double), torch.randn(5, **double)  # type: ignore[call-overload]

    def check(f: object, x: Tensor, backward: object) -> None:
        g = torch.randn_like(f(x))  # type: ignore[operator]
        d = torch.randn_like(x)
        numeric = ((f(x + 1e-6 * d) - f(x - 1e-6 * d)) / 2e-6 * g).sum()  # type: ignore[operator]
        assert ((backward(g) * d).sum() - numeric).abs() < 1e-6 * max(1, numeric.abs())  # type: ignore[operator]

    for stride in (1, 2):
        for implementation in (lowlevel.conv2d_backward, lowlevel.conv2d_backward_readable):
            check(
                lambda x, s=stride: lowlevel.conv2d(x, w, s), x, lambda g, s=stride, i=implementation: i(g, x, w, s)[0]
            )
            check(
                lambda w, s=stride: lowlevel.conv2d(x, w, s), w, lambda g, s=stride, i=implementation: i(g, x, w, s)[1]
            )

    def normalise(x: Tensor, gamma: Tensor = gamma, beta: Tensor = beta) -> Tensor:
        return lowlevel.batch_norm(x, gamma, beta, *lowlevel.batch_statistics(x))

    for position, (f, at) in enumerate(
        [(normalise, x), (lambda v: normalise(x, gamma=v), gamma), (lambda v: normalise(x, beta=v), beta)]
    ):
        check(f, at, lambda g, p=position: lowlevel.batch_norm_backward(g, x, gamma, mean, var)[p])
    check(lowlevel.relu, x, lambda g: lowlevel.relu_backward(g, lowlevel.relu(x)))
    check(
        lambda x: lowlevel.max_pool(x)[0], x, lambda g: lowlevel.max_pool_backward(g, lowlevel.max_pool(x)[1], x.shape)
    )
    check(lowlevel.global_average_pool, x, lambda g: lowlevel.global_average_pool_backward(g, x.shape))
    for position, (f, at) in enumerate(
        [
            (lambda v: lowlevel.linear(v, wl, bl), features),
            (lambda v: lowlevel.linear(features, v, bl), wl),
            (lambda v: lowlevel.linear(features, wl, v), bl),
        ]
    ):
        check(f, at, lambda g, p=position: lowlevel.linear_backward(g, features, wl)[p])
    check(
        lambda v: lowlevel.cross_entropy(v, labels),
        features,
        lambda g: g * lowlevel.cross_entropy_backward(features, labels),
    )


def test_a_block_against_finite_differences_and_its_skip_term() -> None:
    generator = torch.Generator().manual_seed(0)
    params, stats = lowlevel.initialise(18, generator=generator, num_classes=3)
    params = {name: value.double() for name, value in params.items()}
    for block in [next(lowlevel.blocks(18, "3x3")), *[b for b in lowlevel.blocks(18, "3x3") if b.name == "layer2.0"]]:
        x = torch.randn(2, 64, 4, 4, dtype=torch.float64)

        def f(x: Tensor, block: lowlevel.Block = block) -> Tensor:
            return lowlevel.residual_block(lowlevel.Pass(params, stats, training=True, keep=False), block, x)

        run = lowlevel.Pass(params, stats, training=True, keep=True)
        g = torch.randn_like(lowlevel.residual_block(run, block, x))
        _, vjp = torch.func.vjp(f, x)
        assert relative(lowlevel.residual_block_backward(run, block, g), vjp(g)[0]) < 1e-10
    zeroed = params | {"layer1.0.bn2.weight": torch.zeros(64, dtype=torch.float64)}  # F = 0: only the skip is left
    block = next(lowlevel.blocks(18, "3x3"))
    run = lowlevel.Pass(zeroed, stats, training=True, keep=True)
    x = torch.rand(2, 64, 4, 4, dtype=torch.float64) + 0.1
    g = torch.randn_like(lowlevel.residual_block(run, block, x))
    assert torch.equal(lowlevel.residual_block_backward(run, block, g), g)


@pytest.mark.slow
def test_pure_functions_work_under_grad_vmap_and_compile() -> None:
    """In float64: in float32 a ReLU's input that one order of sums makes positive and another negative changes a
    gradient by a step.
    """
    states = []
    for seed in range(2):
        params, stats = lowlevel.initialise(
            18, generator=torch.Generator().manual_seed(seed), num_classes=3, in_channels=1
        )
        states.append(({name: value.double() for name, value in params.items()}, stats))
    params, stats = ({name: torch.stack([state[i][name] for state in states]) for name in states[0][i]} for i in (0, 1))
    images, labels = torch.randn(4, 1, 32, 32, dtype=torch.float64), torch.tensor([0, 1, 2, 0])

    def loss(params: lowlevel.Tensors, stats: lowlevel.Tensors) -> Tensor:
        return lowlevel.cross_entropy(lowlevel.forward(params, stats, images, training=True)[0], labels)

    together = torch.func.vmap(torch.func.grad(loss))(params, stats)
    for index, (p, s) in enumerate(states):
        alone = lowlevel.loss_and_gradients(p, s, images, labels).gradients
        for name, gradient in alone.items():
            assert relative(together[name][index], gradient) < 1e-9, name
    by_hand = torch.func.vmap(lambda p, s: lowlevel.loss_and_gradients(p, s, images, labels).loss)(params, stats)
    assert by_hand.shape == (2,)
    compiled = torch.compile(lowlevel.forward, fullgraph=True, backend="eager")
    p, s = states[0]
    assert torch.allclose(
        compiled(p, s, images, training=True)[0],
        lowlevel.forward(p, s, images, training=True)[0],
        rtol=1e-12,
        atol=1e-12,
    )


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("layer1.0.bn2.weight", None, "'layer1.0.bn2.weight' is missing"),
        ("fc.bias", None, "'fc.bias' is missing"),
        ("layer9.weight", torch.zeros(1), "'layer9.weight' does not belong to a ResNet-18"),
        (
            "layer1.0.conv1.weight",
            torch.zeros(3, 3),
            r"'layer1.0.conv1.weight' has shape \(3, 3\); a ResNet-18 needs \(64, 64, 3, 3\)",
        ),
    ],
)
def test_a_state_dict_that_does_not_fit_is_refused_by_name(name: str, value: Tensor | None, message: str) -> None:
    state = dict(torchvision.models.resnet18().state_dict())
    if value is None:
        del state[name]
    else:
        state[name] = value
    with pytest.raises(ValueError, match=message):
        lowlevel.from_state_dict(state, 18)


def test_the_adapter_is_a_module_with_torchvisions_names() -> None:
    network = zoo.build("lowlevel/resnet18", stride_in="3x3")
    theirs = torchvision.models.resnet18()
    network.load_state_dict(theirs.state_dict(), strict=True)
    images = torch.randn(2, 3, 64, 64)
    for mode in (True, False):
        assert torch.allclose(network.train(mode)(images), theirs.train(mode)(images), atol=1e-5)
    for name, buffer in theirs.named_buffers():
        assert torch.allclose(network.get_buffer(name).double(), buffer.double(), atol=1e-6), name
    torch.manual_seed(5)
    first = zoo.build("lowlevel/resnet18").state_dict()["conv1.weight"]
    torch.manual_seed(5)
    assert torch.equal(first, zoo.build("lowlevel/resnet18").state_dict()["conv1.weight"])
    assert first.std().item() == pytest.approx((2 / (64 * 49)) ** 0.5, rel=0.05)


@pytest.mark.slow  # 10 s
def test_the_story_is_told() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "reslab.pytorch_lowlevel.resnet_lowlevel"],
        capture_output=True,
        encoding="utf-8",
        check=True,
    )
    assert "through the skip" in done.stdout
    loss = next(line for line in done.stdout.splitlines() if line.strip().startswith("loss")).split()
    assert loss[1][:14] == loss[2][:14]


def test_relu_is_flat_at_zero() -> None:
    x = torch.tensor([-1.0, 0.0, 2.0], requires_grad=True)
    lowlevel.relu(x).sum().backward()
    assert x.grad is not None and x.grad.tolist() == [0, 0, 1]


def test_half_precision_adds_up_in_float32() -> None:
    x = 300 + 8 * torch.randn(4, 2, 64, 64, generator=torch.Generator().manual_seed(0))
    var, mean = torch.var_mean(x.half().double(), (0, 2, 3), correction=0)
    found = lowlevel.batch_statistics(x.half())
    assert [each.dtype for each in found] == [torch.float16] * 2
    assert torch.allclose(found[0].double(), mean, rtol=1e-3) and torch.allclose(found[1].double(), var, rtol=1e-3)


def test_a_device_without_float64_is_given_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lowlevel, "_exact", lambda t: torch.float32)
    _, params, stats = twin(18, torch.float32, disturbed=False)
    with NoFloat64():
        step = lowlevel.loss_and_gradients(params, stats, torch.randn(2, 3, 32, 32), torch.tensor([1, 2]))
    assert step.loss.isfinite()


def test_a_file_that_counts_no_batches_has_tracked_none() -> None:
    state = {name: value for name, value in torchvision.models.resnet18().state_dict().items() if "tracked" not in name}
    _, stats = lowlevel.from_state_dict(state, 18)
    assert stats["bn1.num_batches_tracked"] == 0
