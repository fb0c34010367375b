"""What does the literature say of what the chapter tells? Looked up, not measured.

Who was first, how deep, what the papers used and found: the words are in `history.toml`.
"""

from reslab.experiment.config import StudyConfig
from reslab.experiment.study import Measurement, Study
from reslab.experiment.text import StudyText, cited, claims

HE_2015 = "He et al. 2015 (arXiv:1512.03385)"
HE_2016 = "He et al. 2016 (arXiv:1603.05027)"
HIGHWAY = "Srivastava et al., Highway Networks, May 2015 (arXiv:1505.00387)"
SANTURKAR = "Santurkar et al. 2018 (arXiv:1805.11604)"
FIXUP = "Zhang et al. 2019, Fixup (arXiv:1901.09321)"
SKIPINIT = "De & Smith 2020, SkipInit (arXiv:2002.10444)"
STOCHASTIC = "Huang et al. 2016 (arXiv:1603.09382)"
AKAMASTER = "github.com/akamaster/pytorch_resnet_cifar10"
CONFERENCES = "CVPR 2017 (1611.05431, 1608.06993), ICML 2019 (1905.11946), CVPR 2020 (2003.13678)"

TEXT = StudyText(__name__)
CLAIMS = claims(
    TEXT,
    HE_2015,
    "overview",
    {
        "ilsvrc-2015": cited(at="abstract and Table 5"),
        "skip-connections-are-older": cited(at=f"section 2; {HIGHWAY}"),
        "hundreds-of-layers": cited(at=f"section 4.2; {HE_2016}, Table 4"),
        "hundreds-of-layers-came-before": cited(source=f"{HIGHWAY}, abstract; {HE_2015}, section 2"),
        "degradation-is-eased-not-ended": cited(
            source=f"{HE_2016}, Table 3; {HE_2015}, Table 6; {STOCHASTIC}; {AKAMASTER}", revision=2
        ),
        "plain-56-is-worse-than-20-on-cifar-10": cited(section="degradation", at="Fig. 1 and section 4.2, Fig. 6"),
        "vanishing-gradients-were-argued-against": cited(section="degradation", at="section 4.1"),
        "which-option-the-papers-used": cited(
            section="shortcuts", at=f"sections 4.1 and 4.2, Tables 2 and 3; {HE_2016}, Table 1"
        ),
        "stable-inputs-matter-little": cited(section="batchnorm", source=f"{SANTURKAR}, abstract and section 2.1"),
        "batchnorm-does-not-reduce-covariate-shift": cited(
            section="batchnorm", source=f"{SANTURKAR}, section 2.2, Fig. 2"
        ),
        "batchnorm-smooths-the-loss": cited(section="batchnorm", source=f"{SANTURKAR}, section 3.1, Fig. 4"),
        "larger-rates-are-what-batchnorm-gives": cited(
            section="batchnorm", source="Bjorck et al. 2018 (arXiv:1806.02375), abstract and section 2"
        ),
        "small-changes-are-easier-is-a-conjecture": cited(section="residual-learning", at="sections 1 and 3.1"),
        "batchnorm-takes-fewer-steps": cited(
            section="batchnorm", source="Ioffe & Szegedy 2015 (arXiv:1502.03167), abstract and section 4.2, Fig. 3"
        ),
        "residual-networks-train-without-batchnorm": cited(
            section="batchnorm", source=f"{FIXUP}, abstract; {SKIPINIT}, abstract"
        ),
        "the-papers-and-their-years": cited(
            section="successors", source=f"arXiv:1512.03385 and 1603.05027; {CONFERENCES}"
        ),
    },
)

STUDY = Study(TEXT, CLAIMS, StudyConfig, grid=lambda _: {}, measure=lambda *_: Measurement({}))
