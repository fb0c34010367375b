"""What a trained DenseNet does with old features: the measurement of a study, its table and its charts (Huang et al. 2017, section 5)."""

from collections.abc import Sequence
from statistics import mean
from typing import NamedTuple

from reslab.analysis.feature_reuse import Connection, dense_blocks, feature_reuse, severed
from reslab.analysis.subject import evaluating
from reslab.ledger.record import Chart, Series, Table
from reslab.studies.study import Trial, averaged
from reslab.training.evaluation import evaluate


class Reuse(NamedTuple):
    """What one trained DenseNet does with old features: its connections, those before training, and the test error by what is cut."""

    trained: tuple[Connection, ...]
    fresh: tuple[Connection, ...]
    errors: list[float]  # all connections of length 0 (none), 1, 2, … cut
    old_cut: float  # all longer than half a block


def reuse_of(trial: Trial) -> Reuse:
    """Return what the trial's DenseNet does with old features."""
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
    """Return the relative weight on the block's input, and on the block's own features, each the mean over layers from the second block on."""
    last = max(c.reader for c in connections)  # what follows a block is no layer of it
    layers: dict[tuple[int, int], list[Connection]] = {}
    for connection in connections:
        if connection.block > 1 and 1 < connection.reader < last:
            layers.setdefault((connection.block, connection.reader), []).append(connection)
    on_input = [c.relative for layer in layers.values() for c in layer if c.source == 0]
    on_rest = [mean(c.relative for c in layer if c.source > 0) for layer in layers.values()]
    return mean(on_input), mean(on_rest)


def reuse_tables(reuses: Sequence[Reuse]) -> list[Table]:
    """Return Fig. 5 as a table: the mean over seeds of the relative weight that each reader gives each source; nothing of no network."""
    if not reuses:
        return []
    cells: dict[tuple[int, int], dict[int, list[float]]] = {}
    for connection in (c for reuse in reuses for c in reuse.trained):
        cells.setdefault((connection.block, connection.reader), {}).setdefault(connection.source, []).append(connection.relative)
    sources = range(1 + max(max(row) for row in cells.values()))
    table = Table(
        title={
            "ko": "DenseNet의 가중치: 읽는 층이 각 출처에 주는 평균 절댓값(그 층의 평균이 1, 출처 0은 블록의 입력, 마지막 줄은 블록 다음 층)",
            "en": "DenseNet's weights: mean absolute value that each reader gives each source (the reader's mean is 1; source 0 is the block's "
            "input; the last reader is what follows the block)",
        },
        columns=["block", "reader", *(f"source {source}" for source in sources)],
        rows=[[*key, *(mean(row[source]) if source in row else None for source in sources)] for key, row in sorted(cells.items())],
    )
    return [table]


def reuse_charts(reuses: Sequence[Reuse]) -> list[Chart]:
    """Return the weights by distance, trained and not, and the test error by the length of what is cut; nothing of no network."""
    if not reuses:
        return []

    def by_distance(name: str, seeds: Sequence[Sequence[Connection]], block: int) -> Series:
        distances = sorted({c.distance for c in seeds[0] if c.block == block})
        values = [[mean(c.relative for c in seed if (c.block, c.distance) == (block, distance)) for seed in seeds] for distance in distances]
        return averaged(name, distances, values)

    trained, fresh = [r.trained for r in reuses], [r.fresh for r in reuses]
    blocks = sorted({c.block for c in trained[0]})
    errors = [[100 * value for value in values] for values in zip(*(r.errors for r in reuses), strict=True)]
    return [
        Chart(
            title={"ko": "거리에 따른 가중치", "en": "Weight by distance"},
            caption={
                "ko": "가로축은 몇 층 앞의 특징인지를 나타낸다. 1이면 가중치를 고르게 나눈 것이다. 학습 전의 선과 비교해 본다.",
                "en": "How far back the features come from; 1 is an even spread. Compare with the lines from before training.",
            },
            x={"ko": "거리(층)", "en": "distance (layers)"},
            y={"ko": "가중치 / 그 층의 평균", "en": "weight / the layer's mean"},
            series=[by_distance(f"block {block}", trained, block) for block in blocks]
            + [by_distance(f"block {block}, untrained", fresh, block) for block in blocks],
        ),
        Chart(
            title={"ko": "한 거리의 연결을 모두 끊었을 때", "en": "All connections of one length cut"},
            caption={
                "ko": "거리 0은 아무것도 끊지 않은 것이다. 멀리 거슬러 가는 연결은 수가 적은데도, 끊으면 오류가 얼마나 커지는지 본다.",
                "en": "At 0 nothing is cut. Long connections are few; see how much the error grows without them all the same.",
            },
            x={"ko": "끊은 연결의 길이(층)", "en": "length of the connections cut (layers)"},
            y={"ko": "시험 오류 (%)", "en": "test error (%)"},
            series=[averaged("densenet", list(range(len(errors))), errors)],
        ),
    ]
