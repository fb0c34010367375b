"use strict";
// The playground: one state, shown in every part of the page and in its address; what takes long is asked of the worker.

const play = (() => {
  const { element } = blocks;
  const byId = (id) => document.getElementById(id);
  const percent = (share) => (100 * share).toFixed(1);

  const data = JSON.parse(byId("play-data").textContent);
  const descriptions = Object.fromEntries(data.networks.map((description) => [description.name, description]));
  const names = Object.fromEntries(data.networks.map(({ name, blocks: all }) => [name, all.map(([block]) => block)]));
  const images = Float32Array.from(engine.bytes(data.images), (level) => level / data.levels);
  const labels = Array.from(data.labels, Number);
  const pixelsOf = (image) => images.subarray(image * data.size ** 2, (image + 1) * data.size ** 2);

  const read = {}; // networks that run, by name
  const network = (name) => (read[name] ??= engine.read(descriptions[name]));
  const twinOf = (name) => data.twins[name];
  const kinds = () => Object.fromEntries([state.net, twinOf(state.net)].sort().map((name) => [name, network(name).residual ? "residual" : "plain"]));
  const both = () => Object.entries(kinds()).sort(([, one], [, other]) => (one < other ? 1 : -1)).map(([name]) => name); // the residual one first

  let state = link.read(location.hash, names, labels.length);
  let strokes = []; // of what is drawn now; a link has its pixels alone
  let answers = new Map(); // network -> its answer to the image
  let number = 0; // of the last count that was asked for
  let counts = new Map(); // network -> {share} while it is counted, then {answers, error}
  const points = []; // of the lesion curve: {net, name, off, error, key}
  const rises = new Map(); // network -> block -> rise of the error when it alone is off
  const traces = new Map(); // network -> its gradient for the image, and which asking that answers: {number, flow, spectrum}
  let tracing = 0; // the number of the last that was asked for
  let onlyWrong = false;
  let later = 0; // of the address, if it waits

  // --- The state ----------------------------------------------------------------------------------------------------

  const image = () => state.drawn ?? pixelsOf(state.image);

  /** Return a network's setting: the gates by number, and the order of the blocks. */
  function setting() {
    const all = names[state.net];
    const order = all.map((_, at) => at);
    if (state.swap) {
      const [one, other] = state.swap.map((name) => all.indexOf(name));
      [order[one], order[other]] = [other, one];
    }
    return { gates: all.map((name) => state.gates.get(name) ?? 1), order };
  }

  /** Put the state into the address: a moment later where that was done too often, as while a digit is drawn in Safari or Firefox. */
  function write() {
    clearTimeout(later);
    try {
      history.replaceState(null, "", link.write(state));
    } catch {
      later = setTimeout(write, 1000);
    }
  }

  /** Change parts of the state, and show what follows. */
  function change(parts) {
    const before = state;
    state = { ...state, ...parts };
    write();
    const structure = state.net !== before.net || String(state.swap) !== String(before.swap);
    if (structure) build();
    if (structure || state.gates !== before.gates) count();
    if (state.net !== before.net) rank();
    show();
  }

  // --- The worker ---------------------------------------------------------------------------------------------------

  const sources = ["engine", "gradients", "evaluation", "worker"].map((name) => byId(`module-${name}`).textContent);
  const worker = new Worker(URL.createObjectURL(new Blob(sources, { type: "text/javascript" })));
  const known = new Set();
  worker.postMessage({ kind: "data", pixels: images, labels });
  worker.onmessage = ({ data: told }) => {
    if (told.kind === "ranked") {
      ranked(told);
    } else if (told.kind === "traced") {
      if (told.number !== tracing) return;
      traces.set(told.name, told);
      showTraces();
    } else if (told.number === number) {
      counts.set(told.name, told.kind === "progress" ? { share: told.share } : { answers: told.answers, error: evaluation.wrong(told.answers, labels) });
      if (told.kind === "counted") noted(told.name);
      showCounts();
    }
  };

  function introduce(name) {
    if (!known.has(name)) worker.postMessage({ kind: "network", description: descriptions[name] });
    known.add(name);
  }

  /** Have the error of both networks counted again. */
  function count() {
    number += 1;
    counts = new Map();
    for (const name of both()) {
      introduce(name);
      counts.set(name, { share: 0 });
      worker.postMessage({ kind: "count", name, number, setting: setting() });
    }
    showCounts();
  }

  /** Have the gradients of both networks' loss of the image traced back. */
  function trace(pixels, set) {
    tracing += 1;
    for (const name of both()) {
      introduce(name);
      worker.postMessage({ kind: "trace", name, number: tracing, setting: set, pixels: Float32Array.from(pixels), label: labelFor(name) });
    }
  }

  /** Return what a network's loss takes for right: the image's label, or, of one that was drawn, its own answer. */
  const labelFor = (name) => (state.drawn ? answers.get(name) : labels[state.image]);

  function rank() {
    if (rises.has(state.net)) return;
    rises.set(state.net, new Map());
    introduce(state.net);
    worker.postMessage({ kind: "rank", name: state.net });
  }

  function ranked({ name, block, rise }) {
    rises.get(name).set(names[name][block], rise);
    if (name === state.net) showRises();
  }

  /** Put a point on the lesion curve, if no block is exchanged and each is on or off. */
  function noted(name) {
    const gates = [...state.gates.values()];
    if (state.swap || gates.some((gate) => gate > 0 && gate < 1)) return;
    const key = `${name} ${[...state.gates.keys()].sort()}`;
    if (!points.some((point) => point.key === key)) points.push({ key, name, off: gates.length, error: counts.get(name).error });
  }

  // --- What is shown ------------------------------------------------------------------------------------------------

  function build() {
    const { order } = setting();
    blocks.build(network(state.net), order, { pick: (block) => change({ block }), gate: moveGate });
    for (const input of byId("networks").querySelectorAll("input")) input.checked = input.value === state.net;
  }

  /** Show another network, with what it has of the gates that were moved, the blocks that were exchanged, and the one that was chosen. */
  function choose(net) {
    const { gates, swap, block } = link.read(link.write({ ...state, net }), names, labels.length);
    change({ net, gates, swap, block });
  }

  function moveGate(name, gate) {
    const gates = new Map(state.gates);
    if (gate === 1) gates.delete(name);
    else gates.set(name, gate);
    change({ gates });
  }

  function show() {
    const shown = network(state.net);
    const pixels = image();
    const set = setting();
    const results = both().map((name) => ({ name, ...engine.run(network(name), pixels, set) }));
    answers = new Map(results.map(({ name, logits }) => [name, engine.largest(logits)]));
    const own = results.find(({ name }) => name === state.net);
    showDigit(pixels);
    showScores(results);
    showStrip();
    blocks.mark({ ...state, block: chosen().name });
    blocks.show(shown, set.order, own.ran);
    const at = shown.blocks.indexOf(chosen());
    inside.maps(shown, chosen(), set.gates[at], own.ran[set.order.indexOf(at)]);
    inside.shares(shown, set.order, chosen(), shown.residual ? engine.split(shown, set, own) : null, own.logits);
    showRises();
    trace(pixels, set);
  }

  /** Show the gradients of both networks, as far as they are traced; those before a change stay until then. */
  function showTraces() {
    if (!both().every((name) => traces.has(name))) return;
    inside.spectrum(traces.get(state.net));
    inside.flow(setting().order.map((at) => names[state.net][at]), both().map((name) => ({ name, kind: kinds()[name], norms: traces.get(name).flow })));
    byId("gradient-of").textContent = words.say("gradientOf", both().map((name) => `${name}: ${labelFor(name)}`).join(", "));
  }

  /** Return the block that is looked into: the one that was chosen, else the first whose gate was moved, else the first. */
  function chosen() {
    const name = state.block ?? names[state.net].find((each) => state.gates.has(each));
    return network(state.net).blocks[Math.max(0, names[state.net].indexOf(name))];
  }

  function showDigit(pixels) {
    pictures.image(byId("seen"), pixels, data.size);
    if (strokes.length) pen.show(byId("paper"), strokes, pictures.css("--ink"));
    else pictures.enlarge(byId("paper"), byId("seen"));
    byId("shown").textContent = state.drawn ? words.say(state.drawn.some(Boolean) ? "drawn" : "noDigit") : words.say("testImage", state.image + 1, labels[state.image]);
    for (const button of byId("gallery").children) button.setAttribute("aria-pressed", String(!state.drawn && Number(button.dataset.image) === state.image));
  }

  function showScores(results) {
    const all = results.map(({ name, logits }) => ({ name, shares: softmax(logits) }));
    const verdict = ({ name, shares }) => element("p", { className: kinds()[name], textContent: words.say("answer", name, engine.largest(shares), percent(Math.max(...shares))) });
    byId("verdicts").replaceChildren(...all.map(verdict));
    const bar = (name, share, label) => {
      const made = element("span", { className: `bar ${kinds()[name]}`, role: "img" });
      made.style.setProperty("--share", share);
      made.setAttribute("aria-label", words.say("probability", name, label, percent(share)));
      return made;
    };
    const row = (label) => element("li", {}, element("b", { textContent: label }), element("div", {}, ...all.map(({ name, shares }) => bar(name, shares[label], label))));
    byId("scores").replaceChildren(...Array.from({ length: shownClasses() }, (_, label) => row(label)));
  }

  const shownClasses = () => network(state.net).classes;

  function softmax(logits) {
    const most = Math.max(...logits);
    const powers = Array.from(logits, (logit) => Math.exp(logit - most));
    const sum = powers.reduce((total, power) => total + power, 0);
    return powers.map((power) => power / sum);
  }

  function showCounts() {
    const rows = both().flatMap((name) => {
      const { share, answers, error } = counts.get(name);
      const given = element("dd", { className: kinds()[name] });
      if (answers) {
        given.textContent = words.say("error", percent(error), Math.round(error * labels.length), labels.length);
      } else {
        const progress = element("progress", { max: 1, value: share });
        progress.setAttribute("aria-label", words.say("progressOf", name));
        given.append(progress);
      }
      return [element("dt", { textContent: name }), given];
    });
    byId("counts").replaceChildren(...rows);
    showCurve();
    showStrip();
    showGallery();
  }

  /** Show the answers and errors in a line that stays in sight. */
  function showStrip() {
    const text = (name) => words.say("strip", name, answers.get(name), counts.get(name).answers ? `${percent(counts.get(name).error)} %` : "…");
    byId("strip").replaceChildren(...both().map((name) => element("span", { className: kinds()[name], textContent: text(name) })));
  }

  function showCurve() {
    const series = kinds();
    const here = points.filter(({ name }) => name in series);
    const now = [...state.gates.keys()].sort();
    const whole = !state.swap && [...state.gates.values()].every((gate) => gate === 0);
    const marked = here.map((point) => ({ ...point, now: whole && point.key === `${point.name} ${now}` }));
    const said = here.slice(-6).map(({ name, off, error }) => words.say("curvePoint", name, off, percent(error))).join("; ");
    pictures.curve(byId("curve"), marked, names[state.net].length, series, { across: words.say("curveAcross"), up: words.say("curveUp"), spoken: words.say("curveSpoken", said) });
  }

  function showRises() {
    blocks.rank(rises.get(state.net) ?? new Map());
    inside.importance(network(state.net), chosen(), rises.get(state.net) ?? new Map());
  }

  // --- The gallery --------------------------------------------------------------------------------------------------

  function makeGallery() {
    const buttons = labels.map((_, at) => {
      const canvas = element("canvas", {});
      pictures.image(canvas, pixelsOf(at), data.size);
      const button = element("button", { type: "button", onclick: () => take(at) }, canvas);
      button.dataset.image = at;
      return button;
    });
    byId("gallery").replaceChildren(...buttons);
    roam(buttons[state.image]);
  }

  const inGallery = () => [...byId("gallery").children].filter((button) => !button.hidden);

  /** Let one image be reached by the tabulator, from which the arrows lead to the others. */
  function roam(button) {
    for (const each of byId("gallery").children) each.tabIndex = each === button ? 0 : -1;
  }

  byId("gallery").addEventListener("keydown", (event) => {
    const all = inGallery();
    const at = all.indexOf(document.activeElement);
    const to = { ArrowLeft: at - 1, ArrowUp: at - 1, ArrowRight: at + 1, ArrowDown: at + 1, Home: 0, End: all.length - 1 }[event.key];
    if (!all[to]) return;
    event.preventDefault();
    roam(all[to]);
    all[to].focus();
  });

  /** Mark what the network that is shown gets wrong, with the gates as they are. */
  function showGallery() {
    const { answers } = counts.get(state.net);
    const isWrong = (at) => Boolean(answers) && answers[at] !== labels[at];
    for (const button of byId("gallery").children) {
      const at = Number(button.dataset.image);
      const name = words.say(isWrong(at) ? "testImageWrong" : "testImage", at + 1, labels[at], answers?.[at], state.net);
      if (button.getAttribute("aria-label") !== name) button.setAttribute("aria-label", name);
      if (!answers) continue; // which are being counted: the marks of before stay
      button.classList.toggle("wrong", isWrong(at));
      button.hidden = onlyWrong && !isWrong(at);
    }
    if (!answers) return;
    if (!inGallery().some((button) => button.tabIndex === 0)) roam(inGallery()[0]);
    const wrong = labels.filter((_, at) => isWrong(at)).length;
    radios("filter", [["all", words.say("all")], ["wrong", words.say("onlyWrong", state.net, wrong)]], onlyWrong ? "wrong" : "all", (value) => {
      onlyWrong = value === "wrong";
      showGallery();
    });
  }

  function take(at) {
    strokes = [];
    paper.clear();
    change({ image: at, drawn: null });
  }

  /** Fill a group with choices [value, text]; those that are there already keep the focus. */
  function radios(id, choices, value, choose) {
    const group = byId(id);
    if (group.children.length !== choices.length) {
      group.replaceChildren(...choices.map(([each]) => {
        const input = element("input", { type: "radio", name: id, value: each, onchange: () => choose(each) });
        return element("label", {}, input, element("span", {}));
      }));
    }
    choices.forEach(([each, text], at) => {
      const [input, shown] = group.children[at].children;
      input.checked = each === value;
      shown.textContent = text;
    });
  }

  // --- Presets ------------------------------------------------------------------------------------------------------

  const off = (chosenNames) => new Map(chosenNames.map((name) => [name, 0]));
  const PRESETS = {
    presetAll: () => ({ gates: new Map(), swap: null }),
    presetOne: () => ({ gates: off([chosen().name]), swap: null }),
    presetHalf: (all) => ({ gates: off(all.filter((_, at) => at % 2 === 1)), swap: null }),
    presetShort: (all) => ({ gates: off(all.filter((name) => !name.endsWith(".0"))), swap: null }),
    presetSwap: (all) => ({ gates: new Map(), swap: [all.find((name) => name === "layer2.1"), all.filter((name) => name.startsWith("layer2.")).at(-1)] }),
  };

  function makePresets() {
    const buttons = Object.entries(PRESETS).map(([key, set]) => element("button", { type: "button", textContent: words.say(key), onclick: () => change(set(names[state.net])) }));
    buttons[3].title = words.say("presetShortHelp");
    byId("presets").replaceChildren(...buttons);
  }

  // --- The start ----------------------------------------------------------------------------------------------------

  const paper = pen.attach(byId("paper"), (drawn) => {
    strokes = drawn;
    change({ drawn: pen.pixels(drawn) });
  });
  byId("clear").onclick = () => {
    strokes = [];
    paper.clear();
    change({ drawn: new Float32Array(data.size ** 2) });
  };
  byId("forget").onclick = () => {
    points.length = 0;
    showCurve();
  };

  /** Show the state that the address means, all of it. */
  function start() {
    state = link.read(location.hash, names, labels.length);
    strokes = [];
    paper.clear();
    build();
    count();
    rank();
    show();
  }

  function translate() {
    words.fill();
    makePresets();
    radios("networks", Object.keys(names).map((name) => [name, name]), state.net, choose);
    build();
    show();
    showTraces();
    showCounts();
  }

  window.addEventListener("hashchange", () => {
    if (location.hash.startsWith("#net=")) start(); // and not for a link to a place in the page
  });
  byId("steps").addEventListener("click", ({ target }) => {
    if (target.href) byId("play").scrollIntoView();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
    makeGallery();
    showGallery();
    show();
  });
  makeGallery();
  count();
  rank();
  translate(); // which shows all the rest
  language.onChange(translate);

  return { engine, network, setting, pixelsOf, state: () => state, counts: () => counts, rises, traced: () => both().every((name) => traces.get(name)?.number === tracing) };
})();
