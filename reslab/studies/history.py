"""What does the literature say of what the chapter tells? Looked up, not measured: who was first, how deep, what the papers used and found."""

from reslab.ledger.claim import Claim
from reslab.ledger.verdict import Citation
from reslab.progress import Progress
from reslab.studies.study import Groups, Measurement, Study, StudyConfig

HE_2015 = "He et al. 2015 (arXiv:1512.03385)"
HE_2016 = "He et al. 2016 (arXiv:1603.05027)"
HIGHWAY = "Srivastava et al., Highway Networks, May 2015 (arXiv:1505.00387)"

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
    source=f"{HE_2015}, section 2; {HIGHWAY}",
    corrects={"ko": "Skip connection은 Kaiming He 등이 제안했다", "en": "Skip connections were proposed by Kaiming He et al"},
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
BEFORE = Claim(
    id="history.hundreds-of-layers-came-before",
    kind="cited",
    section="overview",
    statement={
        "ko": "수백 층의 신경망은 ResNet보다 먼저 나온, 지름길에 게이트를 단 highway 신경망으로도 학습되었다. "
        "다만 100층을 넘겨 정확도가 좋아진다는 것은 보이지 못했다.",
        "en": "Networks of hundreds of layers had been trained before ResNet, as highway networks, whose shortcuts are gated; "
        "but no gain in accuracy from more than 100 layers had been shown.",
    },
    source=f"{HIGHWAY}, abstract; {HE_2015}, section 2",
    corrects={
        "ko": "He 등의 skip connection으로 수백 개 이상의 레이어를 학습할 수 있게 되었다",
        "en": "the skip connections of He et al. made it possible to train hundreds of layers",
    },
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
    corrects={"ko": "ResNet은 degradation 문제를 해결했다", "en": "ResNet solves the degradation problem"},
)
PLAIN_56 = Claim(
    id="history.plain-56-is-worse-than-20-on-cifar-10",
    kind="cited",
    section="degradation",
    statement={
        "ko": "CIFAR-10에서 지름길이 없는 56층 신경망은 20층 신경망보다 훈련 오류도 시험 오류도 크다.",
        "en": "On CIFAR-10 a network of 56 layers without shortcuts has both a higher training error and a higher test error than one of 20.",
    },
    source=f"{HE_2015}, Fig. 1 and section 4.2, Fig. 6",
    corrects={
        "ko": "56층 네트워크는 20층 네트워크보다 못하다(어떤 네트워크인지는 말하지 않음)",
        "en": "a network of 56 layers is worse than one of 20 (of which kind is left out)",
    },
)
NOT_VANISHING = Claim(
    id="history.vanishing-gradients-were-argued-against",
    kind="cited",
    section="degradation",
    statement={
        "ko": "He 등은 성능 저하의 원인이 기울기 소실은 아닐 것이라고 보았고, 깊은 평범한 신경망의 수렴이 지수적으로 느려지는 것이라고 추측했다.",
        "en": "He et al. argue that vanishing gradients are unlikely to cause the degradation, and conjecture that deep plain networks converge "
        "exponentially slowly.",
    },
    source=f"{HE_2015}, section 4.1",
    corrects={
        "ko": "성능 저하는 vanishing/exploding gradient 같은 최적화의 어려움에서 온다",
        "en": "degradation comes from an optimisation difficulty: vanishing or exploding gradients",
    },
)
ADOPTED = Claim(
    id="history.which-option-the-papers-used",
    kind="cited",
    section="shortcuts",
    statement={
        "ko": "논문은 표 2의 ImageNet 비교와 모든 CIFAR 신경망에 A안을, 50층 이상의 ImageNet 신경망에 B안을 썼고, 투영이 꼭 필요하지는 않다고 했다.",
        "en": "The paper used A in Table 2's ImageNet networks and in all CIFAR ones, B in ImageNet networks of 50 layers and more, and found "
        "projections not essential.",
    },
    source=f"{HE_2015}, sections 4.1 and 4.2, Tables 2 and 3; {HE_2016}, Table 1",
    corrects={"ko": "B안이 논문에서 채택되었다", "en": "Option B was adopted by the paper"},
)
STABLE_INPUTS = Claim(
    id="history.stable-inputs-matter-little",
    kind="cited",
    section="batchnorm",
    statement={
        "ko": "층에 들어오는 입력의 분포가 안정되는 것은 배치 정규화의 성공과 거의 상관이 없다. 그 분포를 일부러 흔들어도 학습은 거의 그만큼 잘된다.",
        "en": "That BatchNorm steadies the distribution of layers' inputs has little to do with its success: training is nearly as good where "
        "that distribution is disturbed on purpose.",
    },
    source="Santurkar et al. 2018 (arXiv:1805.11604), abstract and section 2.1",
    corrects={
        "ko": "배치 정규화는 레이어 입력의 분포를 안정화하기 때문에 중요하다",
        "en": "BatchNorm matters because it stabilises the distribution of layers' inputs",
    },
)
NOT_LESS_SHIFT = Claim(
    id="history.batchnorm-does-not-reduce-covariate-shift",
    kind="cited",
    section="batchnorm",
    statement={
        "ko": "내부 공변량 변화를 앞 층들이 갱신될 때 층의 기울기가 달라지는 정도로 재면, 배치 정규화는 그것을 줄이지 않는다.",
        "en": "If internal covariate shift is measured by how an update of the layers before changes a layer's gradient, BatchNorm does not reduce "
        "it.",
    },
    source="Santurkar et al. 2018 (arXiv:1805.11604), section 2.2, Fig. 2",
    corrects={"ko": "배치 정규화는 내부 공변량 변화를 감소시킨다", "en": "BatchNorm reduces internal covariate shift"},
)
SMOOTHER = Claim(
    id="history.batchnorm-smooths-the-loss",
    kind="cited",
    section="batchnorm",
    statement={
        "ko": "배치 정규화는 손실과 기울기가 움직인 거리에 비해 덜 변하게 한다. 곧 손실을 더 매끄럽게 한다.",
        "en": "With BatchNorm loss and gradients change less for the distance moved: it makes the loss smoother.",
    },
    source="Santurkar et al. 2018 (arXiv:1805.11604), section 3.1, Fig. 4",
)
LARGER_RATES = Claim(
    id="history.larger-rates-are-what-batchnorm-gives",
    kind="cited",
    section="batchnorm",
    statement={
        "ko": "배치 정규화가 주는 것은 무엇보다 큰 학습률이며, 빠른 수렴과 좋은 일반화(규제 효과)는 거기서 나온다.",
        "en": "What BatchNorm gives is above all larger learning rates; the faster convergence and the better generalisation (the regularisation) "
        "come of them.",
    },
    source="Bjorck et al. 2018 (arXiv:1806.02375), abstract and section 2",
    corrects={"ko": "학습률 증가와 규제는 서로 다른 두 효과이다", "en": "the larger rate and the regularisation are two separate effects"},
)
CONJECTURE = Claim(
    id="history.small-changes-are-easier-is-a-conjecture",
    kind="cited",
    section="residual-learning",
    statement={
        "ko": "작은 변화(잔차)가 배우기 쉽다는 것은 He 등이 증명한 것이 아니라 추측한 것이다. 최적의 함수가 0보다 항등에 가깝다면 그러리라는 것이다.",
        "en": "That small changes (residuals) are easier to learn is not derived by He et al. but conjectured: it should be so if the optimal "
        "function is closer to the identity than to zero.",
    },
    source=f"{HE_2015}, sections 1 and 3.1",
    corrects={"ko": "작은 변화는 큰 변화보다 학습하기 쉽다", "en": "Small changes are easier to learn than large ones"},
)
FEWER_STEPS = Claim(
    id="history.batchnorm-takes-fewer-steps",
    kind="cited",
    section="batchnorm",
    statement={
        "ko": "Inception 신경망은 배치 정규화와 더 큰 학습률로 14분의 1의 학습 걸음만으로 같은 정확도에 이르렀다.",
        "en": "With BatchNorm and a larger learning rate, an Inception network reached the same accuracy in 14 times fewer training steps.",
    },
    source="Ioffe & Szegedy 2015 (arXiv:1502.03167), abstract and section 4.2, Fig. 3",
)
WITHOUT_BN = Claim(
    id="history.residual-networks-train-without-batchnorm",
    kind="cited",
    section="batchnorm",
    statement={
        "ko": "배치 정규화는 ResNet에 꼭 필요하지는 않다. 가지의 초기값을 작게 잡으면 아주 깊은 잔차 신경망도 정규화 없이 안정적으로 학습된다.",
        "en": "BatchNorm is not indispensable to ResNet: with branches that are small at initialisation, very deep residual networks train "
        "stably without any normalisation.",
    },
    source="Zhang et al. 2019, Fixup (arXiv:1901.09321), abstract; De & Smith 2020, SkipInit (arXiv:2002.10444), abstract",
)
YEARS = Claim(
    id="history.the-papers-and-their-years",
    kind="cited",
    section="successors",
    statement={
        "ko": "ResNet 논문은 2015년 12월에, v2 논문은 2016년 3월에 공개되었고, ResNeXt와 DenseNet은 2017년, EfficientNet은 2019년, "
        "RegNet은 2020년 학회에서 발표되었다.",
        "en": "The ResNet paper came out in December 2015 and that of v2 in March 2016; ResNeXt and DenseNet were presented in 2017, "
        "EfficientNet in 2019 and RegNet in 2020.",
    },
    source="arXiv:1512.03385 and 1603.05027; CVPR 2017 (1611.05431, 1608.06993), ICML 2019 (1905.11946), CVPR 2020 (2003.13678)",
)

CITATIONS = (
    Citation(FIRST_PLACE, "supported", "an ensemble of six networks: 3.57 % top-5 error on the test set, first place"),
    Citation(OLDER, "supported", "section 2 names shortcuts in multi-layer perceptrons, and highway networks, whose shortcuts are gated"),
    Citation(HUNDREDS, "supported", "1202 layers: training error under 0.1 % (test 7.93 %); v2 with 1001 layers: test error 4.92 %"),
    Citation(
        BEFORE, "supported", "“Highway networks with hundreds of layers can be trained directly”; He et al.: no accuracy gains over 100 layers yet"
    ),
    Citation(
        NOT_SOLVED,
        "supported",
        "CIFAR-10 test errors: v1-1001 7.61 % against v1-164 5.93 %; 1202 layers 7.93 % against 110 layers 6.61 % (mean of five)",
    ),
    Citation(
        PLAIN_56,
        "supported",
        "curves without printed figures; plain-110 stays over 60 %; on ImageNet plain-34 has 28.54 % top-1 against plain-18's 27.94 %",
    ),
    Citation(
        NOT_VANISHING,
        "supported",
        "their argument: BatchNorm keeps forward variances and backward norms healthy; what norms are measured here is in the study gradient_flow",
    ),
    Citation(
        ADOPTED, "supported", "ResNet-34 with A, B, C: 25.03, 24.52, 24.19 % top-1; a 1×1 on every shortcut of ResNet-110: 12.22 % against 6.61 %"
    ),
    Citation(
        STABLE_INPUTS,
        "supported",
        "noise of changing mean and variance added after every BatchNorm: less stable inputs than without any, hardly worse",
    ),
    Citation(NOT_LESS_SHIFT, "supported", "“networks with BatchNorm often exhibit an increase in ICS”"),
    Citation(SMOOTHER, "supported", "VGG with BatchNorm: along the gradient the loss and the gradient vary less, and β is smaller, step after step"),
    Citation(
        LARGER_RATES,
        "supported",
        "“primarily enables training with larger learning rates, which is the cause for faster convergence and better generalization”",
    ),
    Citation(CONJECTURE, "supported", "“we hypothesize”; the responses of trained layers (Fig. 7) are offered as support"),
    Citation(FEWER_STEPS, "supported", "“achieves the same accuracy with 14 times fewer training steps”; at the old rate the gain is smaller"),
    Citation(WITHOUT_BN, "supported", "“even for networks with 10,000 layers” (Fixup); SkipInit is one learnable factor a branch, which starts at 0"),
    Citation(YEARS, "supported", "DenseNet was on arXiv in August 2016 and ResNeXt in November 2016"),
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
