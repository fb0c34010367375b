"""Costs of networks: parameters and multiply-adds of trials and of the whole zoo, beside published errors."""

from collections.abc import Mapping
from statistics import mean
from typing import NamedTuple

from reslab.data import load_data
from reslab.experiment.text import StudyText
from reslab.experiment.trials import Key, Trials, label
from reslab.files import Json
from reslab.ledger.record import Chart, Reason, Series, Table, Value
from reslab.networks import literature, zoo
from reslab.networks.counting import count_macs, count_params
from reslab.networks.literature import Printed
from reslab.networks.meta import shapes_only

TOLERANCE = 0.07
"""The largest relative difference between costs that count as equal."""


def unequal(network: Key, rival: Key) -> Reason:
    """Return the reason why networks of different cost are not compared."""
    return Reason(code="unequal-costs", values={"limit": TOLERANCE, "networks": [label(network), label(rival)]})


class Cost(NamedTuple):
    """Parameters, and multiply-adds for one image."""

    params: int
    macs: int

    def apart(self, other: "Cost") -> tuple[float, float]:
        """Return the relative difference from other costs."""
        return self.params / other.params - 1, self.macs / other.macs - 1


def cost(model: str, options: Json, data: str) -> Cost:
    """Return the cost of a network on an image of a data set."""
    loaded = load_data(data)
    with shapes_only():
        network = zoo.build(model, **{"num_classes": loaded.num_classes, "in_channels": loaded.in_channels, **options})
    image, _ = loaded.fitted(zoo.input_shape(network)[1]).sample("test", 1)
    return Cost(count_params(network), count_macs(network, image.to("meta")))


def costs(trials: Trials) -> dict[Key, Cost]:
    """Return the cost of each group's network."""
    configs = {key: members[0].config for key, members in trials.items()}
    return {key: trials.measured(cost, config.model, config.options, config.data) for key, config in configs.items()}


def names() -> list[str]:
    """Return the zoo's networks, without the second builds of the same ones from raw tensors."""
    return [name for name in zoo.names() if not name.startswith("lowlevel/")]


def cost_charts(text: StudyText, torchvision: Printed) -> list[Chart]:
    """Return charts of parameters, a series per family, and of published ImageNet errors, against multiply-adds."""
    families: dict[str, list[str]] = {}
    for name in names():
        families.setdefault(zoo.family(name), []).append(name)
    printed = [_printed(source) for source in (*literature.IMAGENET, torchvision)]
    return [
        text.chart("costs", [_sizes(*family) for family in families.items()], kind="points", log_x=True, log_y=True),
        text.chart("errors", [series for series in printed if series.x], kind="points", log_x=True),
    ]


def _sizes(family: str, members: list[str]) -> Series:
    references = [zoo.reference(name) for name in members]
    macs, params = [float(one.macs) for one in references], [float(one.params) for one in references]
    return Series(name=family, x=macs, y=list(params), text=members)


def _printed(source: Printed) -> Series:
    found = [name for name in names() if name in source.errors]
    return Series(
        name=source.who,
        x=[float(zoo.reference(name).macs) for name in found],
        y=[source.errors[name] for name in found],
        text=[f"{name}: {source.errors[name]:g} %" for name in found],
    )


def cost_tables(text: StudyText, torchvision: Printed) -> list[Table]:
    """Return the zoo with its costs, published errors and their sources."""
    regnets = next(printed for printed in literature.IMAGENET if printed.who == "Radosavovic et al. 2020")
    sources = [
        *(("ImageNet", printed) for printed in literature.IMAGENET),
        *(("CIFAR-10", printed) for printed in literature.CIFAR10),
    ]

    def row(name: str) -> list[Value]:
        size = zoo.reference(name)
        data, first = next((each for each in sources if name in each[1].errors), ("", Printed("", "", "", {})))
        others = [printed.errors.get(name) for printed in (regnets, torchvision)]
        return [name, size.params, size.macs, data, first.errors.get(name), first.who, *others]

    origins = [[data, one.who, one.source, one.how] for data, one in (*sources, ("ImageNet", torchvision))]
    return [text.table("zoo", [row(name) for name in names()]), text.table("sources", origins)]


def equal_cost_table(text: StudyText, trials: Trials, counted: Mapping[Key, Cost], rivals: Mapping[Key, Key]) -> Table:
    """Return the costs and errors of the networks compared, and how far each rival's costs are from its network's."""
    train, test = trials.errors("train"), trials.errors("test")

    def row(key: Key) -> list[Value]:
        mine, theirs = counted[key], counted[rivals.get(key, key)]
        params, macs = (f"{100 * share:+.1f} %" if key in rivals else None for share in mine.apart(theirs))
        errors = (100 * mean(part[key].values()) for part in (train, test))
        return [label(key), mine.params, params, mine.macs, macs, *errors]

    return text.table("equal-cost", [row(key) for key in trials])
