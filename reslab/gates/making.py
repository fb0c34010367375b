"""Making a view: the network is followed, its blocks are found, and the view is compared with it, bit for bit."""

import inspect
import sys
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext, suppress
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from reslab.errors import MismatchError, UnseenError, told, worded
from reslab.gates import tracing
from reslab.gates.asking import Replacement, Which
from reslab.gates.checks import check_declarations, check_hooks, check_padding, compare, same
from reslab.gates.finding import NotSplit
from reslab.gates.following import shapes_of, sketched
from reslab.gates.hidden import Additions, fixed_and_hidden
from reslab.gates.inputs import Inputs, Output, Whole, cloned, count_of, is_written, part, tensors_of
from reslab.gates.parts import PartView, taken
from reslab.gates.tracing import Declarations
from reslab.gates.view import View
from reslab.gates.wrapped import unwrapped
from reslab.state import preserve, transformers_as_written


def view(network: nn.Module, example: Any, *, blocks: Declarations | None = None, output: Output = None) -> View:
    """Return the gated view of a network, which shares its parameters.

    Args:
        network: any network, also inside DataParallel, DistributedDataParallel or torch.compile, or exported by
            torch.export; it is not changed.
        example: a batch for the network: a tensor, or its arguments in a tuple or, by name, in a dict. The view is
            compared with the network on it, bit for bit (with torch's own transformers as they are written, not as one
            kernel). A network that branches on the shape of its input is traced for this shape.
        blocks: declarations of blocks that cannot be traced, `{"layer1.0": ("branch", "shortcut")}`: the names, within
            the block, of the modules whose outputs are added (`None` for an identity shortcut) and, third, of the
            module after the addition.
        output: the name or position of the view's output, such as "logits", for a network with several in a dict, a
            tuple or a custom class; by default all of them.

    Examples:
        >>> import reslab
        >>> import torch
        >>> network = reslab.build("resnet20", weights="digits").eval()
        >>> images, _ = reslab.load_data("digits").sample("test", 4)
        >>> gated = reslab.view(network, images)
        >>> torch.equal(gated(images), network(images))
        True
        >>> [block.name for block in gated.blocks][:4]
        ['layer1.0', 'layer1.1', 'layer1.2', 'layer2.0']

    Raises:
        UserError: if the network cannot be traced, has no blocks or no such output, or does not match the declarations.
    """
    return made_view(network, example, blocks or {}, output)


def made_view(
    network: nn.Module, example: Any, blocks: Declarations, output: Output = None, *, writes: bool = False
) -> View:
    """Return the view of a network, as `view`; one that `writes` into its input does so in another mode than that of
    evaluation, in which it is looked at.
    """
    wrapper, network = network, unwrapped(network)
    if isinstance(wrapper, nn.Module) and wrapper is not network:
        check_hooks({"the wrapper": wrapper})
    declarations = dict(blocks)
    check_declarations(network, declarations)
    check_hooks(tracing.opened(network))

    def evaluate(function: Callable[..., Any], *given: Any) -> Any:
        with preserve(network), torch.no_grad(), _eagerly(), transformers_as_written():
            network.eval()
            return function(*given)

    def takes(example: Any) -> bool:
        try:
            evaluate(whole.whole, cloned(example))
        except Exception:
            return False
        return True

    def answers_alike(other: Any) -> bool:
        """Return whether the network's output is the same for another input, as far as it takes that."""
        if not takes(other):
            return True
        given = evaluate(whole.whole, cloned(other))
        return all(map(same, tensors_of(expected), tensors_of(given)))

    if isinstance(example, Mapping):
        example = dict(example)
    whole = Whole(network, sketched(example), output)
    with told(f"the network does not take the example {shapes_of(example)}", MismatchError):
        expected = evaluate(whole.whole, given := cloned(example))
        whole.writes = is_written(given) or writes
        check_padding(whole, expected, example)
    with told(f"cannot see through this {type(network).__name__}", UnseenError):
        made = _made(whole, example, declarations)
        compare(expected, evaluate(made, example), declarations)
        if ignored := [key for key in _left_out(made) if not answers_alike(_with_another(example, key))]:
            raise UnseenError(*worded("input-ignored", key=ignored[0]))
        made.example = _first_two(example)
        if not takes(made.example):  # as a mask of as many tokens as there are samples
            made.example = _copied(example)
        ones = torch.ones(len(made), device=tensors_of(example)[0].device)
        compare(expected, evaluate(made, example, ones, _each_by_itself(made)), declarations)
        made.images_first = all(shape[:1] == (count_of(example),) for shape in made.shapes.values())
        if made.images_first and count_of(made.example) == 2 < count_of(example):  # of so many tokens, perhaps
            made.images_first = _first_of_two(made)
    return made


def _eagerly() -> AbstractContextManager[Any]:
    """Return a context in which what torch compiles runs as it is written; nothing is compiled before the compiler,
    which takes seconds to import, is there.
    """
    return torch.compiler.set_stance("force_eager") if sys.modules.get("torch._dynamo") else nullcontext()


def _made(whole: Whole, example: Any, declarations: Declarations) -> View:
    """Return the view of a network, or of a part of it if it cannot be traced as a whole."""
    try:
        return _followed(whole, example, declarations)
    except tracing.CannotSeeError as error:
        if declarations:
            raise
        return part_view(whole, example, error)


def _followed(whole: Whole, example: Any, declarations: Declarations) -> View:
    fixed, hidden = fixed_and_hidden(whole, example, declarations)
    names = [NotSplit(error.name, error.why) for error in hidden]
    try:
        return View(whole.network, whole.sketch, declarations, fixed, names, whole.output, whole.writes)
    except UnseenError as error:
        raise hidden[0] if hidden else error from None


def part_view(whole: Whole, example: Any, error: tracing.CannotSeeError) -> View:
    """Return the view of a network by the first of its parts, among those that it calls once, that can be seen through.

    Raises:
        UserError: `error`, if there is none.
    """
    network = whole.network
    calls: dict[str, list[Any]] = {}  # in order of construction

    def noting(name: str, module: nn.Module) -> Callable[..., None]:
        takes = inspect.signature(module.forward)

        def note(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            calls.setdefault(name, []).append(taken(takes, args, kwargs))

        return note

    with preserve(network), torch.no_grad(), Additions(tensors_of(example)) as additions:
        network.eval()
        for name, module in network.named_children():
            module.register_forward_pre_hook(noting(name, module), with_kwargs=True)
        whole.whole(example)
    for name, given in [(name, *called) for name, called in calls.items() if len(called) == 1]:
        try:
            inner = view(network.get_submodule(name), given)
        except Exception:  # also for inputs that cannot be examples, such as packed sequences
            continue
        if additions.found and all(block.kind == "unit" for block in inner.blocks):
            continue  # a network with skips is none of repeated layers
        return PartView(network, whole.sketch, whole.output, name, inner, str(error), whole.writes)
    raise error


def _left_out(made: View) -> list[int | str]:
    """Return the parts of the input that the graph does not use, as a forward that asks for their class, which is
    another one while it is traced, may pass them by.
    """
    parts = [node for node in made.graph.nodes if node.target is part] if type(made) is View else []
    return [node.args[1] for node in parts if not node.users]


def _with_another(example: Any, key: Any) -> Any:
    """Return the example with other values in one of its parts; of integers, which may be names, zeros and ones."""

    def other(leaf: Any) -> Any:
        if not isinstance(leaf, Tensor):
            return leaf
        if leaf.dtype == torch.bool:
            return ~leaf
        return leaf + 1 if leaf.is_floating_point() else 1 - leaf.clamp(0, 1)

    parts = example.parts if isinstance(example, Inputs) else example
    changed = {**dict(parts if isinstance(parts, Mapping) else enumerate(parts)), key: tree_map(other, parts[key])}
    return changed if isinstance(parts, Mapping) else tuple(changed.values())


def _copied(example: Any) -> Any:
    return tree_map(lambda leaf: leaf.detach().clone() if isinstance(leaf, Tensor) else leaf, example)


def _first_two(example: Any) -> Any:
    """Return copies of the example's first two samples: of what has as many in front as its first tensor, and not in a
    list, which is of samples that differ in shape.
    """
    count = count_of(example)

    def some(leaf: Any) -> Any:
        if isinstance(leaf, list):
            return _copied(leaf)
        if not isinstance(leaf, Tensor):
            return leaf
        return (leaf.detach()[:2] if leaf.dim() and len(leaf) == count else leaf.detach()).clone()

    return tree_map(some, example, is_leaf=lambda part: isinstance(part, list))


def _first_of_two(made: View) -> bool:
    """Return whether what the blocks add for the first two images of the example is of two; also where the network
    takes no two, as one that was traced for another number.
    """
    firsts: list[int] = []

    def noted(branch: Tensor) -> Tensor:
        firsts.append(len(branch))
        return branch

    with preserve(made.network), torch.no_grad(), _eagerly(), suppress(Exception):
        made.network.eval()
        made(made.example, replace=dict.fromkeys(range(len(made)), noted))
    return all(count == 2 for count in firsts)


def _each_by_itself(made: View) -> dict[Which, Replacement]:
    """Return replacements of every branch by its own value, which record the shape."""

    def noting(index: int) -> Callable[[Tensor], Tensor]:
        def noted(branch: Tensor) -> Tensor:
            made.shapes[index] = branch.shape
            return branch

        return noted

    return {index: noting(index) for index in range(len(made))}
