"use strict";
// The error over all test digits, counted again from the first place that a change touches. Counting is a generator, which yields the share that is done after
// every block: a worker can tell of it, and drop what is no longer asked for.

const evaluation = (() => {
  /** Return what is kept of a network's maps: those of the stem, and of each place with the block and gate that they were made by. */
  const cache = (network, pixels) => ({ network, pixels, count: pixels.length / network.size ** 2, stem: null, kept: [] });

  /** Yield the share of the places that are done; return the answer to each image. */
  function* answers(maps, { gates, order }) {
    const { network, pixels, count, kept } = maps;
    maps.stem ??= engine.runStem(network, pixels);
    const holds = (number, place) => kept[place]?.number === number && kept[place].gate === gates[number];
    const changed = order.findIndex((number, place) => !holds(number, place));
    if (changed >= 0) kept.length = Math.min(kept.length, changed);
    while (kept.length < order.length) {
      yield kept.length / order.length;
      const number = order[kept.length];
      const before = kept.at(-1)?.output ?? maps.stem;
      kept.push({ number, gate: gates[number], output: engine.runBlock(network, network.blocks[number], before, count, gates[number]).output });
    }
    const logits = engine.classify(network, kept.at(-1).output, count);
    return Array.from({ length: count }, (_, image) => engine.largest(logits.subarray(image * network.classes, (image + 1) * network.classes)));
  }

  /** Yield, for each block in turn, its number and how much the error rises when it alone is off; between them, nothing. */
  function* importance(network, pixels, labels) {
    const order = network.blocks.map((_, number) => number);
    const whole = cache(network, pixels);
    const all = { gates: order.map(() => 1), order };
    const error = wrong(yield* quiet(answers(whole, all)), labels);
    for (const off of order) {
      const without = { ...whole, kept: whole.kept.slice(0, off) };
      const gates = order.map((number) => Number(number !== off));
      yield { block: off, rise: wrong(yield* quiet(answers(without, { gates, order })), labels) - error };
    }
  }

  function* quiet(steps) {
    for (;;) {
      const { done, value } = steps.next();
      if (done) return value;
      yield null;
    }
  }

  /** Return the share of the answers that are not the label. */
  const wrong = (given, labels) => given.filter((answer, image) => answer !== labels[image]).length / labels.length;

  return { cache, answers, importance, wrong };
})();
