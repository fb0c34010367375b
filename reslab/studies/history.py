"""What does the literature say of the chapter's history? Looked up, not measured: who was first, how deep, and what the papers used.

Sources: He et al. 2015 (arXiv:1512.03385), He et al. 2016 (arXiv:1603.05027), Srivastava et al. 2015 (arXiv:1505.00387).
"""

from reslab.claims import Citation, Claim
from reslab.studies.study import Groups, Measurement, Progress, Study, StudyConfig

HE_2015 = "He et al. 2015 (arXiv:1512.03385)"
HE_2016 = "He et al. 2016 (arXiv:1603.05027)"

FIRST_PLACE = Claim(
    id="history.ilsvrc-2015",
    kind="cited",
    section="overview",
    statement={
        "ko": "잔차 신경망은 2015년 ILSVRC 분류 부문에서 1위를 했다.",
        "en": "Residual networks won the classification task of ILSVRC 2015.",
    },
    source=f"{HE_2015}, abstract and Table 5",
)
OLDER = Claim(
    id="history.skip-connections-are-older",
    kind="cited",
    section="overview",
    statement={
        "ko": "층을 건너뛰는 연결은 ResNet보다 먼저 있었다. He 등이 새로 내놓은 것은 게이트도 매개변수도 없는 항등 지름길이다.",
        "en": "Connections that skip layers are older than ResNet; what He et al. brought is the identity shortcut, without gates or parameters.",
    },
    source=f"{HE_2015}, section 2; Srivastava et al., Highway Networks, May 2015 (arXiv:1505.00387)",
    corrects={"ko": "Skip connection은 Kaiming He 등이 제안했다.", "en": "Skip connections were proposed by Kaiming He et al."},
)
HUNDREDS = Claim(
    id="history.hundreds-of-layers",
    kind="cited",
    section="overview",
    statement={
        "ko": "지름길이 있으면 수백 층, 나아가 천 층이 넘는 신경망도 학습된다.",
        "en": "With shortcuts, networks of hundreds and even over a thousand layers can be trained.",
    },
    source=f"{HE_2015}, section 4.2; {HE_2016}, Table 4",
)
NOT_SOLVED = Claim(
    id="history.degradation-is-eased-not-ended",
    kind="cited",
    section="overview",
    statement={
        "ko": "ResNet은 성능 저하를 크게 누그러뜨렸지만 없애지는 못했다. 아주 깊은 v1은 덜 깊은 v1보다 시험 오류가 크다.",
        "en": "ResNet eased degradation greatly but did not end it: very deep v1 networks have higher test errors than less deep ones.",
    },
    source=f"{HE_2016}, Table 3; {HE_2015}, Table 6",
    corrects={"ko": "ResNet은 degradation 문제를 해결했다.", "en": "ResNet solves the degradation problem."},
)
ADOPTED = Claim(
    id="history.which-option-the-papers-used",
    kind="cited",
    section="shortcuts",
    statement={
        "ko": "논문은 표 2의 ImageNet 비교와 모든 CIFAR 신경망에 A안을, 50층 이상의 ImageNet 신경망에 B안을 썼고, 투영이 꼭 필요하지는 않다고 했다.",
        "en": "The paper used A in Table 2's ImageNet networks and in all CIFAR ones, B from 50 layers on, and found projections not essential.",
    },
    source=f"{HE_2015}, sections 4.1 and 4.2, Tables 2 and 3; {HE_2016}, Table 1",
    corrects={"ko": "B안이 논문에서 채택되었다.", "en": "Option B was adopted by the paper."},
)

CITATIONS = (
    Citation(FIRST_PLACE, "supported", "an ensemble of six networks: 3.57 % top-5 error on the test set, first place"),
    Citation(OLDER, "supported", "section 2 names shortcuts in multi-layer perceptrons, and highway networks, whose shortcuts are gated"),
    Citation(HUNDREDS, "supported", "1202 layers: training error under 0.1 % (test 7.93 %); v2 with 1001 layers: test error 4.92 %"),
    Citation(NOT_SOLVED, "supported", "CIFAR-10 test errors: v1-1001 7.61 % against v1-164 5.93 %; 1202 layers 7.93 % against 110 layers 6.43 %"),
    Citation(
        ADOPTED, "supported", "ResNet-34 with A, B, C: 25.03, 24.52, 24.19 % top-1; a 1×1 on every shortcut of ResNet-110: 12.22 % against 6.61 %"
    ),
)


def measure(config: StudyConfig, groups: Groups, progress: Progress) -> Measurement:
    """Return what the sources say."""
    return Measurement(citations=CITATIONS)


STUDY = Study(
    name="history",
    title={"ko": "역사를 찾아보다", "en": "The history, looked up"},
    question={
        "ko": "이 장이 말하는 역사는 문헌과 맞는가?",
        "en": "Does the history that the chapter tells agree with the literature?",
    },
    claims=tuple(citation.claim for citation in CITATIONS),
    config=StudyConfig,
    presets={"default": {}, "smoke": {}},
    grid=lambda _: {},
    measure=measure,
)
