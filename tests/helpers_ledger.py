"""Records of a small study for the ledger, registered or not."""

import numpy as np

from reslab.ledger.claim import Claim
from reslab.ledger.comparison import Comparison
from reslab.ledger.record import Entry, Outcome, Record
from reslab.ledger.registration import GUARDS, Registration, registered
from reslab.ledger.verdict import decide

TEXT = {"ko": "가", "en": "a"}
CLEAR = Claim("study.clear", "statistical", "overview", TEXT, "here", "higher", 1.0, "points", published=2.5)
NEAR = Claim("study.near", "statistical", "overview", TEXT, "here", "lower", 0.5, "points")
CLAIMS = (CLEAR, NEAR)


def a_record(
    seeds: range,
    claims: tuple[Claim, ...] = CLAIMS,
    *,
    data: str = "digits",
    date: str | None = None,
    effect: float = 3.0,
    earlier: bool = False,
    **config: int,
) -> Record:
    """Return a record on these seeds, with an effect of 3 and a spread of 1; of version 0.1 if `earlier`, and
    registered if there is a date.
    """
    generator = np.random.default_rng(seeds.start)
    sides = [{seed: float(generator.normal(mean)) for seed in seeds} for mean in (effect, 0.0)]
    claims_now = decide([Comparison(claim, *sides) for claim in claims])
    if earlier:
        claims_now = [
            one.model_copy(update={"treatment": None, "control": None, "p": None, "share": None}) for one in claims_now
        ]
    settings = {"data": data, "seeds": len(seeds), "first_seed": seeds.start, "threads": 1, **config}
    result = Outcome.model_validate({"status": "finished", "steps": 140})
    code = {} if earlier else {"trains": "1", "measures": "2", "decides": "3"}
    given = date and Registration(
        study="study",
        date=date,
        claims=[registered(claim) for claim in claims],
        config=settings,
        seeds=list(seeds),
        looks=[len(seeds)],
        error_rate=0.05,
        guards=dict(GUARDS),
        code=code,
    )
    return Record(
        study="study",
        title=TEXT,
        config=settings,
        claims=claims_now,
        trials=[Entry(group="a", directory=f"trials/{seed}", seed=seed, result=result) for seed in seeds],
        code=code,
        registered=given.sha256() if given else None,
        registration=given.model_dump(mode="json") if given else None,
    )
