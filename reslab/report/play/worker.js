"use strict";
// The worker: it counts errors while the page stays quick. The gradients of the image come first, then the errors; importance, which takes long, when nothing else
// is to do.

const SLICE = 40; // milliseconds between looks at what else was asked

const caches = new Map(); // by the network's name
const counting = new Map();
const ranking = new Map();
const tracing = new Map();
let data = null;
let busy = false;

onmessage = ({ data: asked }) => {
  if (asked.kind === "data") data = asked;
  if (asked.kind === "network") caches.set(asked.description.name, evaluation.cache(engine.read(asked.description), data.pixels));
  if (asked.kind === "count") {
    for (const [name, { number }] of counting) if (number !== asked.number) counting.delete(name); // which nobody waits for
    counting.delete(asked.name); // so that it goes to the end
    counting.set(asked.name, { ...asked, steps: evaluation.answers(caches.get(asked.name), asked.setting) });
  }
  if (asked.kind === "trace") {
    for (const [name, { number }] of tracing) if (number !== asked.number) tracing.delete(name);
    tracing.set(asked.name, asked);
  }
  if (asked.kind === "rank") ranking.set(asked.name, evaluation.importance(caches.get(asked.name).network, data.pixels, data.labels));
  if (!busy) work();
};

function work() {
  const until = performance.now() + SLICE;
  do {
    busy = tracing.size > 0 || counting.size > 0 || ranking.size > 0;
    if (!busy) return;
    if (tracing.size > 0) trace(tracing.values().next().value);
    else if (counting.size > 0) countOn(counting.values().next().value);
    else rankOn(...ranking.entries().next().value);
  } while (performance.now() < until);
  setTimeout(work, 0); // after the messages that have come meanwhile
}

function trace({ name, number, setting, pixels, label }) {
  tracing.delete(name);
  const { network } = caches.get(name);
  const run = engine.run(network, pixels, setting);
  const flow = gradients.flow(network, setting, run, label);
  const spectrum = network.residual ? gradients.spectrum(network, setting, run, label) : null;
  postMessage({ kind: "traced", name, number, flow, spectrum, on: setting.gates.filter((gate) => gate > 0).length });
}

function countOn({ name, number, steps }) {
  const { done, value } = steps.next();
  postMessage(done ? { kind: "counted", name, number, answers: value } : { kind: "progress", name, number, share: value });
  if (done) counting.delete(name);
}

function rankOn(name, steps) {
  const { done, value } = steps.next();
  if (value) postMessage({ kind: "ranked", name, ...value });
  if (done) ranking.delete(name);
}
