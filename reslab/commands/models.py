"""`reslab models`: every network, or one as its paper's table would show it."""

from typing import Any

from reslab.commands import printing, typed
from reslab.commands.app import Flag, app
from reslab.errors import Language, MismatchError, MissingError, UnknownNameError, suggested, worded
from reslab.networks import catalogue

WORDS: dict[Language, dict[str, str]] = {
    "ko": {
        "network": "신경망",
        "parameters": "매개변수",
        "macs": "MACs",
        "input": "입력",
        "stage": "단계",
        "blocks": "블록",
        "output": "출력",
        "field": "수용 영역",
        "sources": "숫자의 출처:",
        "open": "크기를 정해 만들 수 있는 것과 그 옵션:",
        "whole": "{0}: 매개변수 {1}개, {3} 이미지 한 장에 {2} G MACs",
        "differ": "층 {}개가 다르다:",
        "same": "다른 층이 {}개다: {}와(과) {}은(는) 층마다 같다",
        "none": "없음",
    },
    "en": {
        "network": "network",
        "parameters": "parameters",
        "macs": "MACs",
        "input": "input",
        "stage": "stage",
        "blocks": "blocks",
        "output": "output",
        "field": "receptive field",
        "sources": "Where these figures come from:",
        "open": "Of any size, with the options named:",
        "whole": "{}: {} parameters, {} G MACs for one {} image",
        "differ": "{} layers differ:",
        "same": "{} layers differ: {} and {} are the same layer by layer",
        "none": "none",
    },
}


@app.command
def models(
    name: str | None = None,
    /,
    *,
    diff: str | None = None,
    family: str | None = None,
    lang: Language | None = None,
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
    lang
        ko or en, by default the system's language.
    json
        Print JSON.
    options
        Options of the network, such as `--depth 26` or `--stride-in 3x3`.
    """
    if name is not None:
        if family is not None:
            raise MismatchError(*worded("family-of-a-network"))
        from reslab.networks import zoo

        words = typed.words(options)
        typed.see_whose(words, models, zoo.options(name))
        show_network(name, diff, words, json, typed.language(lang))
        return
    if diff is not None or options:
        raise MissingError(*worded("no-network-to-show"))
    known, open_families = catalogue.known()
    families = list(dict.fromkeys(item.family for item in known.values()))
    if family is not None and family not in families:
        raise UnknownNameError(*worded("no-family", name=family, near=suggested(family, families)))
    descriptions = [item for item in known.values() if family in (None, item.family)]
    if json:
        printing.print_json([{**item._asdict(), "reference": item.reference._asdict()} for item in descriptions])
        return
    rows = [(d.name, f"{d.params:,}", f"{d.macs / 1e6:,.2f} M", "×".join(map(str, d.input))) for d in descriptions]
    said = WORDS[typed.language(lang)]
    printing.print_table((said["network"], said["parameters"], "MACs", said["input"]), rows)
    print(said["sources"])
    for source in dict.fromkeys(item.reference.source for item in descriptions):
        print(f"  {', '.join(item.name for item in descriptions if item.reference.source == source)}: {source}")
    print(said["open"])
    for each, needed in open_families.items():
        print(f"  {each} {' '.join('--' + option.replace('_', '-') for option in needed)}")


def show_network(
    name: str, other: str | None, options: dict[str, Any], as_json: bool, language: Language = "en"
) -> None:
    """Print a network stage by stage, and its differences from another."""
    from dataclasses import asdict

    from reslab.networks import anatomy, zoo

    networks = {name: zoo.outline(name, options).network}
    if other is not None:
        networks[other if other != name else f"{other} (default)"] = zoo.outline(other, {}).network
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
    said = WORDS[language]
    for label, table in tables.items():
        shape = "×".join(map(str, table.input))
        print(said["whole"].format(label, f"{table.params:,}", f"{table.macs / 1e9:.3f}", shape))
        columns = tuple(said[key] for key in ("stage", "blocks", "output", "parameters", "macs", "field"))
        printing.print_table(
            columns,
            [
                (
                    row.name,
                    row.blocks,
                    "×".join(map(str, row.output)),
                    f"{row.params:,}",
                    f"{row.macs / 1e6:,.1f} M",
                    "–" if row.receptive_field is None else f"{row.receptive_field}",
                )
                for row in table.stages
            ],
            words=columns[:2],
        )
    if other is not None:
        ours, theirs = networks
        print(said["differ" if found else "same"].format(len(found), ours, theirs))
        for difference in found:
            print(
                f"  {difference.layer}\n    {ours}: {difference.first or said['none']}"
                f"\n    {theirs}: {difference.second or said['none']}"
            )
