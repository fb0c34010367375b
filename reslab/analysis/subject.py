"""The input of every analysis: a network, images, and mostly labels. They are checked here, and left unchanged."""

import inspect
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial, wraps
from typing import TYPE_CHECKING, Any, ParamSpec, Protocol, TypeVar, cast, overload

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64, Shaped
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.instancenorm import _InstanceNorm
from torch.utils._pytree import tree_leaves, tree_map

from reslab.analysis.declared import with_needs
from reslab.errors import MismatchError, UnseenError, Wording, WrongValueError, told, worded
from reslab.gates.following import shapes_of, sketched
from reslab.gates.inputs import Inputs, Output, Whole, cloned, in_dtype, is_written, outputs_by_name, tensors_of
from reslab.gates.making import made_view, view
from reslab.gates.view import View
from reslab.gates.wrapped import unwrapped
from reslab.sending import widened
from reslab.state import copied, preserve, whole_float32

P = ParamSpec("P")
R = TypeVar("R", covariant=True)
M = TypeVar("M", bound=nn.Module)

if TYPE_CHECKING:
    Images = Shaped[Tensor, "b ..."]
else:
    Images = Shaped[Tensor, "b ..."] | Inputs
"""What a network takes of a batch; several inputs, in a dict or a tuple, are one `Inputs` inside of an analysis."""

Classes = Int64[Tensor, "b"]
"""A class for each image."""

Labels = Shaped[Tensor, "b ..."]
"""A class for each image, or whatever the loss takes."""

Loss = Callable[[Any, Labels], Float[Tensor, ""]]
"""A function of outputs (mostly logits `[B, classes]`) and labels `[B]` that returns a number; the mean cross-entropy
by default.
"""


class Careful(Protocol[P, R]):
    """A function of a network with an additional argument `output`, which selects one of the network's outputs. Its
    images may also be a dict or a tuple of the network's inputs.
    """

    @overload
    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R: ...

    @overload
    def __call__(self, *args: Any, output: Output, **kwargs: Any) -> R: ...

    @overload
    def __call__(
        self, network: nn.Module, images: Mapping[str, Any] | tuple[Any, ...], *args: Any, **kwargs: Any
    ) -> R: ...


def analysis(
    name: str,
    says: str,
    *,
    needs: tuple[str, ...] = (),
    images: int | None = None,
    trained: bool = False,
    summary: tuple[str, ...] = (),
    alias: str | None = None,
) -> Callable[[Callable[P, R]], Careful[P, R]]:
    """Register a function as an analysis of `reslab analyze`, make it leave its network unchanged, and add its
    requirements to its docstring. The arguments are explained in `reslab.analysis.Analysis`.
    """

    def make(function: Callable[P, R]) -> Careful[P, R]:
        function.__doc__ = with_needs(function.__doc__ or "", needs, inspect.signature(function).parameters)
        return careful(function)

    return make


def careful(function: Callable[P, R]) -> Careful[P, R]:
    """Wrap a function of a network (and images and labels): it takes `output` too, leaves the network unchanged, and
    reports in one line what it cannot do.
    """
    signature = inspect.signature(function)
    if "network" not in signature.parameters:
        return cast("Careful[P, R]", function)

    @wraps(function)
    def leaving(*args: Any, output: Output = None, **kwargs: Any) -> R:
        if torch.is_inference_mode_enabled():  # where nothing has a gradient, whatever asks for one
            with torch.inference_mode(False), torch.no_grad():
                return leaving(*args, output=output, **kwargs)
        given = signature.bind(*args, **kwargs)  # wrong arguments are a TypeError, as for any function
        for name in ("images", "labels"):
            if name in given.arguments:
                given.arguments[name] = _detached(name, given.arguments[name])
        network = given.arguments["network"]
        network = network if isinstance(network, Whole) else unwrapped(network)
        what = f"{function.__name__.replace('_', ' ')} cannot be computed for this {type(_alone(network)).__name__}"
        with told(what), preserve(_alone(network)), whole_float32():
            images = given.arguments.get("images")
            given.arguments["network"] = _answering(network, images, output)
            if given.arguments.get("other") is not None:
                given.arguments["other"] = _answering(given.arguments["other"], images, output)
            return function(*given.args, **given.kwargs)

    asked = inspect.Parameter("output", inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Output)
    leaving.__signature__ = signature.replace(  # type: ignore[attr-defined]  # as inspect reads it
        parameters=[*signature.parameters.values(), asked]
    )
    return cast("Careful[P, R]", leaving)


def _writes(whole: Whole, images: Tensor) -> bool:
    """Return whether a network writes into its input, as far as two images show."""
    some = cloned(images[:2])
    with preserve(whole.network), torch.no_grad(), suppress(Exception):  # what is wrong is told by the analysis
        whole(some)
    return is_written(some)


def _alone(network: nn.Module) -> nn.Module:
    """Return the network itself, given a wrapped network or a view."""
    return network.network if isinstance(network, Whole) else network


def _answering(network: nn.Module, images: Any, output: Output) -> nn.Module:
    """Return a network that takes the images in one argument and returns the chosen output."""
    if isinstance(network, View):
        if output in (None, network.output):
            return network
        return view(network.network, images[:2], blocks=network.declarations, output=output)
    if isinstance(network, Whole):
        return network
    network = unwrapped(network)
    whole = Whole(network, sketched(images), output)
    if images is not None:
        whole.writes = _writes(whole, images)
    wrapped = output is not None or whole.keys or whole.writes or isinstance(images, Inputs)
    return whole if wrapped else network


def path_in(network: nn.Module, path: str) -> str:
    """Return a module's path in the original network, given its path in the result of `as_network`."""
    return path.removeprefix("network.") if isinstance(network, Whole) else path


def _detached(name: str, values: Any) -> Any:
    """Return images or labels detached from any graph; images in a dict or a tuple as `Inputs`.

    Raises:
        UserError: if they are not tensors, empty, not finite, or of different lengths.
    """
    if name == "images" and isinstance(values, Mapping | tuple | Inputs):
        values = values.parts if isinstance(values, Inputs) else values
        values = dict(values) if isinstance(values, Mapping) else values  # of whatever class, such as a tokenizer's
        parts = [leaf for leaf in tree_leaves(values) if isinstance(leaf, Tensor)]
        if not parts or len({part.shape[:1] for part in parts}) != 1:
            raise WrongValueError(*worded("images-of-two-counts", kind=type(values).__name__, shapes=shapes_of(values)))
        return Inputs(tree_map(lambda leaf: _detached("parts", leaf) if isinstance(leaf, Tensor) else leaf, values))
    if not isinstance(values, Tensor):
        raise WrongValueError(*worded("no-tensor", name=name, kind=type(values).__name__))
    if not values.dim() or not len(values):
        raise WrongValueError(*worded("empty-tensor", name=name, shape=list(values.shape)))
    known = values.isfinite() | (values == -torch.inf) if name == "parts" else values.isfinite()  # of a mask to add
    if name != "labels" and not known.all():  # which are whatever an own loss takes
        raise WrongValueError(*worded("tensor-not-finite", name=name))
    return values.clone() if values.is_inference() else values.detach()


def as_view(network: nn.Module, images: Tensor, like: nn.Module | None = None) -> View:
    """Return the network's view, or the view itself if it is one; that of a copy has the blocks that the original's
    view (`like`) declares.

    Raises:
        UserError: if its weights are not sound, it has no blocks, or it does not accept the images.
    """
    if isinstance(network, View):
        as_network(network, images)
        return network
    check_weights(_alone(network))
    declared = like.declarations if isinstance(like, View) else None
    chosen = network.output if isinstance(network, Whole) else None
    return made_view(
        _alone(network), images[:2], declared or {}, chosen, writes=isinstance(network, Whole) and network.writes
    )


def as_network(network: nn.Module, images: Tensor) -> nn.Module:
    """Return the network, or the network of a view, for an analysis that needs no blocks.

    Raises:
        UserError: if its weights are not sound, or it does not accept the images.
    """
    network = out_of_view(network)
    check_weights(_alone(network))
    with (
        told(f"the network does not take images {shapes_of(images)}", MismatchError),
        evaluating(network),
        torch.no_grad(),
    ):
        network(images[:2])
    return network


def in_single(network: M, images: Any) -> tuple[M, Any]:
    """Return a copy of a network of half precision in float32, with its images, where a weight's step or the gradient
    of a mean over many images would be rounded away; any other network itself.
    """
    if not any(parameter.dtype in (torch.float16, torch.bfloat16) for parameter in network.parameters()):
        return network, images
    return cast("M", copied(network).to(torch.float32)), in_dtype(images, torch.float32)


def out_of_view(network: nn.Module) -> nn.Module:
    """Return the network of a view, with the view's inputs and outputs; any other network itself."""
    if not isinstance(network, View):
        return network
    plain = network.keys is None and network.output is None and not network.writes
    whole = Whole(network.network, network.sketch, network.output, writes=network.writes)
    return network.network if plain else whole


@torch.no_grad()
def check_weights(network: nn.Module) -> None:
    """Reject a network with unusable weights.

    Raises:
        UserError: if it is on the meta device, or a parameter, a BatchNorm's statistics or a buffer hold impossible
            values.
    """
    for name, parameter in network.named_parameters():
        if parameter.is_meta:
            raise UnseenError(*worded("parameter-on-meta", name=name))
        if not parameter.isfinite().all():
            raise UnseenError(*worded("parameter-not-finite", name=name))
    for name, buffer in network.named_buffers():
        if buffer.isnan().any():
            raise UnseenError(*worded("buffer-not-finite", name=name))
        path, _, kind = name.rpartition(".")
        infinite = kind in ("running_mean", "running_var") and not buffer.isfinite().all()
        if infinite or (kind == "running_var" and bool((buffer < 0).any())):
            raise UnseenError(*worded("impossible-statistics", path=path))


def agree(answers: Any, others: Any, tolerance: float) -> bool:
    """Return whether two outputs of a network agree but for rounding: for each tensor, by the norm of the difference
    relative to the norm.
    """
    pairs = zip(tensors_of(answers), tensors_of(others), strict=True)
    return all(one.shape == other.shape and _close(widened(one), widened(other), tolerance) for one, other in pairs)


def _close(one: Tensor, other: Tensor, tolerance: float) -> bool:
    known = one.isfinite()
    same = torch.equal(known, other.isfinite())
    return same and bool((one[known] - other[known]).norm() <= tolerance * other[known].norm())


ROUNDING = 1e-4
"""Larger than any relative difference between outputs that is due to another order of sums in float32."""


def check_repeatable(network: Callable[[Any], Any], images: Tensor) -> None:
    """Reject a network with random outputs, in which effects could not be told from chance.

    Raises:
        UserError: if, in its current mode, it gives different outputs for the same input.
    """
    with torch.no_grad():
        if not agree(network(images[:32]), network(images[:32]), ROUNDING):
            raise UnseenError(*worded("random-outputs"))


def check_alone(network: Callable[[Any], Any], images: Tensor, so: Wording) -> None:
    """Reject a network whose output for an image is not of that image alone; `so` is what follows from it.

    Raises:
        UserError: if that is the case in its current mode, or its output is random.
    """
    check_repeatable(network, images)
    if not answers_alone(network, images):
        raise UnseenError(*worded("not-alone", so=so))


def answers_alone(network: Callable[[Any], Any], images: Tensor) -> bool:
    """Return whether an image's output, in the network's current mode, is independent of the rest of its batch."""

    def beside_another(part: Any) -> Any:
        """Return the part beside one whose mean and whose largest value are others."""
        if not isinstance(part, Tensor):
            return part
        return torch.cat([part, -3 * part if part.is_floating_point() else torch.zeros_like(part)])

    def beside_a_bright_one(part: Any) -> Any:
        """Return the part beside one that is its largest value everywhere."""
        return torch.cat([part, part.amax().expand_as(part)]) if isinstance(part, Tensor) else part

    with torch.no_grad():
        try:
            alone = tensors_of(network(images[:1]))
            try:
                beside = tensors_of(network(tree_map(beside_another, images[:1])))
            except Exception:  # it may refuse values that no image has
                beside = tensors_of(network(tree_map(beside_a_bright_one, images[:1])))
        except ValueError:  # it takes no single image
            return False
    tolerance = max(
        (torch.finfo(answer.dtype).eps ** 0.5 for answer in alone if answer.is_floating_point()), default=0.0
    )
    return agree(alone, [answer[:1] if answer.dim() else answer for answer in beside], max(tolerance, ROUNDING))


@contextmanager
def evaluating(network: nn.Module, statistics_of: Tensor | None = None) -> Iterator[None]:
    """Put the network in evaluation mode, and restore its mode on exit.

    With `statistics_of`, BatchNorms normalise with the mean and the biased variance over these images, as in training,
    but as constants.
    """
    answer = network.whole if isinstance(network, Whole) else network
    network = _alone(network)
    with preserve(network):
        network.eval()
        if statistics_of is not None:
            check_batchnorms(network, answer, statistics_of)
            taken: set[nn.Module] = set()
            take = partial(_take_statistics, taken)
            handles = [module.register_forward_pre_hook(take) for module in batchnorms(network)]
            try:
                with torch.no_grad():
                    answer(statistics_of)
            finally:
                for handle in handles:
                    handle.remove()
        yield


OF_STATISTICS = re.compile("(running|moving)_(mean|avg|average|var|variance|std|stddev|sigma|scale|rms)")
"""Names of what is kept of the images to normalise others."""


def check_batchnorms(network: nn.Module, answer: Callable[[Any], Any], images: Tensor) -> None:
    """Check that every BatchNorm is a layer of torch's, which can be given the statistics of a batch.

    Raises:
        UserError: if another module keeps running statistics, in training mode; frozen ones are as they are.
    """
    others = {
        (path, name): module
        for path, module in network.named_modules()
        if not isinstance(module, _BatchNorm | _InstanceNorm)
        for name, value in {**vars(module), **module._buffers}.items()
        if OF_STATISTICS.fullmatch(name) and isinstance(value, Tensor)
    }
    if not others:
        return
    with preserve(network), torch.no_grad():
        before = {place: getattr(module, place[1]).clone() for place, module in others.items()}
        network.train()
        with suppress(RuntimeError, ValueError):  # of one value per channel
            answer(images)
        for (path, name), module in others.items():
            if not torch.equal(before[path, name], getattr(module, name)):
                raise UnseenError(*worded("batchnorm-of-ones-own", path=path or type(module).__name__))


def batchnorms(network: nn.Module) -> list[_BatchNorm]:
    """Return the network's BatchNorms, of any number of dimensions."""
    return [module for module in network.modules() if isinstance(module, _BatchNorm)]


def _take_statistics(taken: set[nn.Module], module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
    """Give a BatchNorm the statistics of its inputs, unless it is among those that have been given theirs.

    Raises:
        UserError: if it is.
    """
    assert isinstance(module, _BatchNorm)
    if module.running_mean is not None and module.running_var is not None:
        if module in taken:
            raise UnseenError(*worded("batchnorm-used-twice", channels=module.num_features))
        taken.add(module)
        x = inputs[0].transpose(0, 1).flatten(1)  # [C, B·H·W]
        module.running_mean.copy_(x.mean(1))
        module.running_var.copy_(x.var(1, correction=0))


def loss_value(loss: Loss, outputs: Any, labels: Tensor) -> Tensor:
    """Return the loss, computed at least in float32.

    Raises:
        UserError: if it is the cross-entropy and the outputs are not logits for the labels, or if a custom loss does
            not return a number.
    """
    if loss is F.cross_entropy:
        check_logits(outputs, labels)
    if isinstance(outputs, Tensor) and outputs.is_floating_point():
        outputs = outputs.to(torch.promote_types(outputs.dtype, torch.float32))
    value = loss(outputs, labels)
    if not isinstance(value, Tensor) or value.numel() != 1:
        given = list(value.shape) if isinstance(value, Tensor) else type(value).__name__
        raise WrongValueError(*worded("loss-of-no-number", given=given))
    return value.reshape(())


def check_logits(logits: Any, labels: Tensor) -> None:
    """Reject outputs that do not cover the labels.

    Raises:
        UserError: if they are not logits `[B, classes]`, or a label has no class.
    """
    if not isinstance(logits, Tensor):
        kind, names = type(logits).__name__, ", ".join(map(str, outputs_by_name(logits)))
        raise UnseenError(
            *(worded("which-output", kind=kind, names=names) if names else worded("no-logits", kind=kind))
        )
    lowest, highest = int(labels.min()), int(labels.max())
    if logits.dim() != 2 or len(logits) != len(labels) or lowest < 0 or highest >= logits.shape[1]:
        raise MismatchError(
            *worded(
                "labels-without-outputs", lowest=lowest, highest=highest, needed=highest + 1, shape=list(logits.shape)
            )
        )


def check_batch(images: Tensor, labels: Tensor, loss: Loss = F.cross_entropy) -> None:
    """Reject labels that do not match the images; with a custom loss they may be anything, one per image.

    Raises:
        UserError: if the labels are not `[B, …]` for images `[B, …]`, or not integers `[B]` where classes are expected.
    """
    if loss is F.cross_entropy and (labels.dtype != torch.int64 or labels.shape != (len(images),)):
        raise MismatchError(
            *worded("labels-of-other-shape", count=len(images), dtype=labels.dtype, shape=list(labels.shape))
        )
    if len(labels) != len(images):
        raise MismatchError(*worded("labels-of-other-count", count=len(images), shape=list(labels.shape)))
