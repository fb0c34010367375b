"""`reslab models`: every network, or one as its paper's table would show it."""

from typing import Any

from reslab.commands import printing, typed
from reslab.commands.app import Flag, app
from reslab.errors import MissingError, UnknownNameError, suggest
from reslab.networks import catalogue


@app.command
def models(
    name: str | None = None,
    /,
    *,
    diff: str | None = None,
    family: str | None = None,
    json: Flag = False,
    **options: str,
) -> None:
    """List every network, or show one as its paper's table would: `reslab models resnet50 --diff torchvision/resnet50`.

    Multiply-adds (MACs) are for one image of the paper's size.

    Parameters
    ----------
    name
        A network to show stage by stage.
    diff
        Another network: show where the two differ.
    family
        List only networks of one family, such as resnet or regnet.
    json
        Print JSON.
    options
        Options of the network, such as `--depth 26` or `--stride-in 3x3`.
    """
    if name is not None:
        from reslab.networks import zoo

        words = typed.words(options)
        typed.see_whose(words, models, zoo.options(name))
        show_network(name, diff, words, json)
        return
    if diff is not None or options:
        raise MissingError("name a network to show or compare: reslab models resnet50 --diff torchvision/resnet50")
    known, open_families = catalogue.known()
    families = list(dict.fromkeys(item.family for item in known.values()))
    if family is not None and family not in families:
        raise UnknownNameError(f"no family {family!r}{suggest(family, families)}")
    descriptions = [item for item in known.values() if family in (None, item.family)]
    if json:
        printing.print_json([{**item._asdict(), "reference": item.reference._asdict()} for item in descriptions])
        return
    rows = [(d.name, f"{d.params:,}", f"{d.macs / 1e6:,.2f} M", "×".join(map(str, d.input))) for d in descriptions]
    printing.print_table(("network", "parameters", "MACs", "input"), rows)
    print("Where these figures come from:")
    for source in dict.fromkeys(item.reference.source for item in descriptions):
        print(f"  {', '.join(item.name for item in descriptions if item.reference.source == source)}: {source}")
    print("Of any size, with the options named:")
    for each, needed in open_families.items():
        print(f"  {each} {' '.join('--' + option.replace('_', '-') for option in needed)}")


def show_network(name: str, other: str | None, options: dict[str, Any], as_json: bool) -> None:
    """Print a network stage by stage, and its differences from another."""
    from dataclasses import asdict

    import torch

    from reslab.networks import anatomy, zoo

    with torch.device("meta"):
        networks = {name: zoo.fresh(name, options)}
        if other is not None:
            networks[other if other != name else f"{other} (as it is)"] = zoo.fresh(other, {})
    tables = {label: anatomy.table(label, network, zoo.input_shape(network)) for label, network in networks.items()}
    found = anatomy.differences(*networks.values()) if other is not None else []
    if as_json:
        printing.print_json(
            {
                "networks": {
                    label: {"params": table.params, "macs": table.macs, "stages": [asdict(row) for row in table.stages]}
                    for label, table in tables.items()
                },
                "differences": [asdict(difference) for difference in found],
            }
        )
        return
    for label, table in tables.items():
        shape = "×".join(map(str, table.input))
        print(f"{label}: {table.params:,} parameters, {table.macs / 1e9:.3f} G MACs for one {shape} image")
        columns = ("stage", "blocks", "output", "parameters", "MACs", "receptive field")
        printing.print_table(
            columns,
            [
                (
                    row.name,
                    row.blocks,
                    "×".join(map(str, row.output)),
                    f"{row.params:,}",
                    f"{row.macs / 1e6:,.1f} M",
                    f"{row.receptive_field}",
                )
                for row in table.stages
            ],
            words=("stage", "blocks"),
        )
    if other is not None:
        print(f"{len(found)} layers differ" + (":" if found else f": {name} and {other} are the same layer by layer"))
        for difference in found:
            print(
                f"  {difference.layer}\n    {name}: {difference.first or 'none'}"
                f"\n    {other}: {difference.second or 'none'}"
            )
