"use strict";
// Every word of the playground, in Korean and English. `{0}`, `{1}`, … are what is put in.

const words = (() => {
  const WORDS = {
    pageTitle: ["reslab: 잔차 신경망 놀이터", "reslab: a playground of residual networks"],
    title: ["잔차 신경망 놀이터", "A playground of residual networks"],
    lead: [
      "숫자를 쓰고, 블록을 끄고, 무엇이 버티는지 본다. 신경망({0})이 이 문서 안에서 돌아간다. 인터넷은 필요 없다.",
      "Draw a digit, switch blocks off, and see what still works. The networks ({0}) run inside this page, without an internet connection.",
    ],
    skip: ["본문으로 건너뛰기", "Skip to the content"],

    digit: ["숫자 하나", "A digit"],
    draw: ["여기에 숫자를 쓴다", "Draw a digit here"],
    drawHelp: ["마우스나 손가락으로 쓴다. 자판으로는 아래에서 테스트 이미지를 고른다.", "Draw with a mouse or a finger; with a keyboard, choose a test image below."],
    seen: ["신경망이 보는 8×8 이미지", "The 8×8 image that the network sees"],
    seenShort: ["신경망의 눈", "as seen"],
    clear: ["지우기", "Clear"],
    gallery: ["테스트 이미지 327장", "The 327 test images"],
    all: ["전부", "All"],
    onlyWrong: ["틀린 것 {1}장({0})", "The {1} that {0} gets wrong"],
    testImage: ["테스트 이미지 {0}, 숫자 {1}", "Test image {0}, digit {1}"],
    testImageWrong: ["테스트 이미지 {0}, 숫자 {1}: {3}의 답은 {2}, 틀림", "Test image {0}, digit {1}: {3} says {2}, wrongly"],
    drawn: ["직접 쓴 숫자", "Your drawing"],
    noDigit: ["아직 아무것도 쓰지 않았다", "Nothing drawn yet"],
    answers: ["답", "Answers"],
    answer: ["{0}: {1} ({2} %)", "{0}: {1} ({2} %)"],
    probability: ["{0}, 숫자 {1}: {2} %", "{0}, digit {1}: {2} %"],

    network: ["신경망", "The network"],
    choose: ["신경망 고르기", "Choose a network"],
    equation: [
      "블록마다 y = shortcut(x) + g · F(x)이다. 게이트 g가 1이면 학습된 그대로이고, 0이면 가지 F가 없는 것과 같다. 지름길이 없는 일반 신경망에서는 게이트가 블록의 출력과 그 입력을 섞는다(0이면 입력이 그대로 지나간다).",
      "Every block is y = shortcut(x) + g · F(x). With the gate g at 1 the block is as trained; at 0 its branch F is removed. In the plain network, which has no shortcut, a gate blends the block's output with its input; at 0 the input passes through unchanged.",
    ],
    stage: ["{0}단계: 채널 {1}, {2}×{2}", "Stage {0}: {1} channels, {2}×{2}"],
    look: ["{0} 들여다보기", "Inspect {0}"],
    switchOf: ["{0} 켜기", "{0} on"],
    gateOf: ["{0}의 게이트", "Gate of {0}"],
    rise: ["혼자 끄면 오류 {0} %p", "off alone: error {0} points"],
    presets: ["한 번에 바꾸기", "All at once"],
    presetAll: ["모두 켜기", "All on"],
    presetOne: ["블록 하나 끄기", "One block off"],
    presetHalf: ["절반 끄기", "Half off"],
    presetShort: ["짧은 경로만", "Short paths only"],
    presetShortHelp: ["단계마다 첫 블록만 남긴다: 모든 경로가 블록을 많아야 셋 지난다.", "Keeps only the first block of each stage, so that no path goes through more than three blocks."],
    presetSwap: ["두 블록 맞바꾸기", "Swap two blocks"],
    swapped: ["자리를 바꾼 블록", "swapped"],

    errors: ["테스트 이미지 327장에서의 오류", "The error over all 327 test images"],
    error: ["{0} % ({1} / {2}장)", "{0} % ({1} of {2})"],
    strip: ["{0}: 답 {1}, 오류 {2}", "{0}: says {1}, error {2}"],
    progressOf: ["{0}의 오류를 세는 중", "Counting the error of {0}"],
    curve: ["오류와 꺼진 블록 수: 게이트를 바꿀 때마다 점이 찍힌다", "Error against blocks off: a point for each setting that you try"],
    curveAcross: ["꺼진 블록 수", "blocks off"],
    curveUp: ["테스트 오류", "test error"],
    curveSpoken: ["꺼진 블록 수에 따른 테스트 오류. {0}", "Test error by the number of blocks off. {0}"],
    curvePoint: ["{0}, {1}개 꺼짐: {2} %", "{0}, {1} off: {2} %"],
    forget: ["점 지우기", "Clear the points"],

    inside: ["블록 속", "Inside a block"],
    insideOf: ["{0}의 {1} 속", "Inside {1} of {0}"],
    input: ["입력 x", "Input x"],
    shortcut: ["지름길 shortcut(x)", "Shortcut(x)"],
    branch: ["가지 F(x)", "Branch F(x)"],
    sumResidual: ["합: relu(shortcut(x) + {0} · F(x))", "Sum: relu(shortcut(x) + {0} · F(x))"],
    sumPlain: ["출력: {0} · F(x) + {1} · shortcut(x)", "Output: {0} · F(x) + {1} · shortcut(x)"],
    mapsOf: ["{0}: 채널 {1}개, {2}×{2}, {3}에서 {4}까지", "{0}: {1} channels of {2}×{2}, from {3} to {4}"],
    mapsScale: ["네 그림의 눈금은 같다: 바탕색은 0, 파랑은 양수, 주황은 음수, 가장 강한 색은 {0} 이상.", "All four have the same scale: the background is 0, blue is positive, orange is negative, and the fullest colour is {0} or more."],
    branchOff: ["가지가 꺼져 있다", "The branch is off"],
    ratio: ["가지의 크기는 지름길의 {0}배이다.", "The branch is {0} times the size of the shortcut."],
    shares: ["답({0})과 다음 후보({1})의 차이에 부분마다 기여한 값", "How much each part contributes to {0}, the answer, over {1}, the runner-up"],
    sharesHelp: [
      "이 이미지에서 ReLU가 켜지고 꺼진 모양을 그대로 두면 로짓은 줄기(stem), 블록, 편향의 합으로 정확히 나뉜다. 이 막대들의 합이 두 로짓의 차이다({0}).",
      "With the ReLUs fixed on or off as for this image, the logits are exactly a sum over stem, blocks and bias. These columns add up to the difference between the two logits, {0}.",
    ],
    sharesPlain: ["일반 신경망에는 지름길이 없어, 로짓을 블록의 합으로 나눌 수 없다.", "A plain network has no shortcuts, so its logits cannot be written as a sum over blocks."],
    classShares: ["로짓 열 개에 기여한 값: {0}", "What {0} contributes to each of the ten logits"],
    importance: ["중요도: 그 블록 하나만 끌 때 늘어나는 오류", "Importance: the rise of the error with only that block off"],
    importanceCounting: ["세는 중: 블록 {1}개 중 {0}개", "Counting: {0} of {1} blocks"],
    points: ["{0} %p", "{0} points"],
    stem: ["줄기", "stem"],
    bias: ["편향", "bias"],

    gradient: ["기울기의 길", "The path of the gradient"],
    gradientOf: ["이 이미지의 교차 엔트로피를 미분한 것이다. 정답으로 친 숫자는 {0}(직접 쓴 숫자는 신경망의 답을 정답으로 친다).", "The gradient of this image's cross-entropy for the label {0} (for a digit that you drew, the network's own answer)."],
    spectrum: ["경로 길이별 기울기의 비율 (%)", "The gradient's share by path length (%)"],
    spectrumHelp: [
      "경로는 블록마다 가지나 지름길을 지나고, 길이는 지난 가지의 수다. 막대는 첫 블록 앞에서의 기울기를 길이별로 정확히 나눈 것의 크기이고, 점은 그 길이의 경로가 전체 경로에서 차지하는 비율이다.",
      "A path takes the branch or the shortcut at every block; its length is the number of branches. Columns are the sizes of the gradient before the first block, split exactly by length; points are the share of paths with that length.",
    ],
    spectrumMean: ["기울기를 나르는 경로의 평균 길이는 블록 {0}개, 모든 경로의 평균은 {1}개이다.", "The paths that carry the gradient are {0} blocks long on average; all paths, {1}."],
    spectrumPlain: ["일반 신경망에는 지름길이 없어 경로가 하나뿐이다.", "A plain network has no shortcuts, so it has only one path."],
    flow: ["거슬러 오는 기울기의 크기, 블록마다", "The gradient's size at every block, going backwards"],
    flowAcross: ["줄기와 블록 뒤 (오른쪽에서 왼쪽으로 거슬러 온다)", "after the stem and each block (backwards is to the left)"],
    flowUp: ["기울기의 노름", "gradient norm"],

    steps: ["해 볼 것 다섯 가지", "Five things to try"],
    step1: [
      "모두 켠 채 틀린 이미지를 고른다. 블록마다 어느 쪽을 편들었는지 “블록 속”의 막대를 본다.",
      "With everything on, choose an image that the network gets wrong. The columns under “Inside a block” show which side each block took.",
    ],
    step2: [
      "layer2.1 하나를 끈다. 잔차 신경망은 휘고 일반 신경망은 부러진다. 어느 블록을 꺼도 그런가?",
      "Switch off layer2.1 alone. The residual network bends, the plain one breaks. Is that true of every block?",
    ],
    step3: [
      "layer1.0을 끈다. 잔차 신경망에도 없어서는 안 될 블록이 있다. 앞 블록이 더 중요한가, 뒤 블록이 더 중요한가? 중요도 막대와 견준다.",
      "Switch off layer1.0. Even a residual network has blocks that it needs. Which matter more, early or late ones? Compare the importance columns.",
    ],
    step4: [
      "{0}에서 블록을 하나씩 꺼 나간다. 오류가 갑자기 뛰는가, 서서히 느는가? 점들이 곡선을 그린다.",
      "In {0} switch off one block after another. Does the error jump, or rise slowly? The points draw the curve.",
    ],
    step5: [
      "두 블록을 맞바꾼다. 같은 단계의 잔차 블록은 저마다 흐름을 조금씩 고칠 뿐이라, 순서가 바뀌어도 버틴다. 일반 신경망은 어떤가?",
      "Swap two blocks. Residual blocks of a stage each correct the stream a little, so they tolerate another order. Does the plain network?",
    ],
    tryIt: ["해 보기", "Try it"],
    foot: ["reslab {0}이 만든 한 파일. 가중치는 float16으로 들어 있고, 숫자는 scikit-learn의 digits(UCI optdigits, CC BY 4.0)에서 왔다.", "One file, made by reslab {0}. The weights are stored as float16; the digits are scikit-learn's (UCI optdigits, CC BY 4.0)."],
  };

  /** Return the words of a key in the page's language. */
  function say(key, ...values) {
    const text = WORDS[key][language.current() === "ko" ? 0 : 1];
    return text.replace(/\{(\d)\}/g, (_, place) => values[place]);
  }

  /** Put their words into all elements that name one. */
  function fill() {
    for (const element of document.querySelectorAll("[data-word]")) element.textContent = say(element.dataset.word, ...(element.dataset.values?.split("|") ?? []));
    for (const element of document.querySelectorAll("[data-name]")) element.setAttribute("aria-label", say(element.dataset.name));
  }

  return { say, fill };
})();
