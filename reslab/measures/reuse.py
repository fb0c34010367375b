"""A trained DenseNet's use of old features (Huang et al. 2017, section 5): measurement, table and charts."""

from collections.abc import Mapping, Sequence
from statistics import mean
from typing import NamedTuple

from reslab.analysis.feature_reuse import Connection, dense_blocks, feature_reuse, severed
from reslab.analysis.subject import evaluating
from reslab.experiment.text import StudyText
from reslab.experiment.trials import Trial
from reslab.ledger.record import Chart, Series, Table
from reslab.training.evaluation import evaluate


class Reuse(NamedTuple):
    """One trained DenseNet's use of old features: its connections, those before training, and test errors."""

    trained: tuple[Connection, ...]
    fresh: tuple[Connection, ...]
    errors: list[float]  # all connections of length 0 (none), 1, 2, … cut
    old_cut: float  # all longer than half a block


def reuse_of(trial: Trial) -> Reuse:
    """Return the measurements of the trial's DenseNet."""
    network, data = trial.network(), trial.data()
    images, _ = data.sample("train", 2048)

    def error_without(distances: range) -> float:
        with severed(network, distances), evaluating(network, images):
            error = evaluate(network, data.batches("test"))["error"]
        assert error is not None
        return error

    readers = max(len(block.readers) for block in dense_blocks(network))
    errors = [error_without(range(distance, distance + 1)) for distance in range(readers + 1)]
    old_cut = error_without(range(readers // 2 + 1, readers + 1))
    return Reuse(feature_reuse(network).connections, feature_reuse(trial.fresh_network()).connections, errors, old_cut)


def input_and_rest(connections: Sequence[Connection]) -> tuple[float, float]:
    """Return the relative weight on the block's input and on its own features: means over layers, second block on."""
    last = max(c.reader for c in connections)  # the layer after a block does not belong to it
    layers: dict[tuple[int, int], list[Connection]] = {}
    for connection in connections:
        if connection.block > 1 and 1 < connection.reader < last:
            layers.setdefault((connection.block, connection.reader), []).append(connection)
    on_input = [c.relative for layer in layers.values() for c in layer if c.source == 0]
    on_rest = [mean(c.relative for c in layer if c.source > 0) for layer in layers.values()]
    return mean(on_input), mean(on_rest)


def reuse_tables(text: StudyText, reuses: Mapping[int, Reuse]) -> list[Table]:
    """Return Fig. 5 as a table: each reader's relative weight on each source, mean over seeds; none of no network."""
    if not reuses:
        return []
    cells: dict[tuple[int, int], dict[int, list[float]]] = {}
    for connection in (c for reuse in reuses.values() for c in reuse.trained):
        reader = cells.setdefault((connection.block, connection.reader), {})
        reader.setdefault(connection.source, []).append(connection.relative)
    sources = range(1 + max(max(row) for row in cells.values()))

    def means(row: Mapping[int, Sequence[float]]) -> list[float | None]:
        return [mean(row[source]) if source in row else None for source in sources]

    rows = [[*key, *means(row)] for key, row in sorted(cells.items())]
    return [text.table("weights", rows, more=[text.name("source", {"number": source}) for source in sources])]


def reuse_charts(text: StudyText, reuses: Mapping[int, Reuse]) -> list[Chart]:
    """Return the weights by distance and the test error by the length of what is cut; none of no network."""
    if not reuses:
        return []
    trained = [reuse.trained for reuse in reuses.values()]
    fresh = [reuse.fresh for reuse in reuses.values()]
    blocks = sorted({connection.block for connection in trained[0]})
    errors = {seed: [100 * error for error in reuse.errors] for seed, reuse in reuses.items()}
    lengths = range(len(next(iter(errors.values()))))
    weights = [_by_distance(text, "trained", trained, block) for block in blocks]
    weights += [_by_distance(text, "untrained", fresh, block) for block in blocks]
    return [text.chart("weights", weights), text.chart("cut", [text.over_seeds("densenet", lengths, errors)])]


def _by_distance(text: StudyText, key: str, seeds: Sequence[Sequence[Connection]], block: int) -> Series:
    distances = sorted({connection.distance for connection in seeds[0] if connection.block == block})

    def weight(connections: Sequence[Connection], distance: int) -> float:
        return mean(c.relative for c in connections if (c.block, c.distance) == (block, distance))

    columns = [[weight(connections, distance) for connections in seeds] for distance in distances]
    return text.averaged(key, distances, columns, said={"number": block})
