"use strict";
// The network as a row of blocks, stage by stage: a picture of what each gives, a switch and a slider for its gate.

const blocks = (() => {
  const element = (name, properties, ...children) => {
    const made = Object.assign(document.createElement(name), properties);
    made.append(...children);
    return made;
  };

  let tiles = []; // as they stand: {name, tile, button, picture, rise, toggle, slider}

  /** Draw a network's blocks in an order; `pick(name)` is called for a block that is looked into, `gate(name, value)` for a gate that is moved. */
  function build(network, order, { pick, gate }) {
    tiles = order.map((number) => tile(network.blocks[number].name, pick, gate));
    const groups = [...new Set(network.blocks.map(({ name }) => name.split(".")[0]))].map((stage, at) => {
      const { second, after } = network.blocks.find(({ name }) => name.startsWith(`${stage}.`));
      const heading = element("h3", { textContent: words.say("stage", at + 1, second.outputs, after) });
      const list = element("ol", {}, ...tiles.filter(({ name }) => name.startsWith(`${stage}.`)).map(({ tile: item }) => item));
      list.style.setProperty("--blocks", list.children.length);
      return element("div", { className: "stage" }, heading, list);
    });
    document.getElementById("stages").replaceChildren(...groups);
  }

  function tile(name, pick, gate) {
    const picture = element("canvas", {});
    const rise = element("span", { className: "rise" });
    const button = element("button", { type: "button", className: "look", onclick: () => pick(name) }, element("span", { textContent: name.replace("layer", "") }), picture);
    button.setAttribute("aria-label", words.say("look", name));
    const toggle = element("button", { type: "button", className: "switch", onclick: () => gate(name, toggle.getAttribute("aria-checked") === "true" ? 0 : 1) });
    toggle.setAttribute("role", "switch");
    toggle.setAttribute("aria-label", words.say("switchOf", name));
    const slider = element("input", { type: "range", min: 0, max: 1, step: 0.05, oninput: () => gate(name, Number(slider.value)) });
    slider.setAttribute("aria-label", words.say("gateOf", name));
    const value = element("output", {});
    return { name, button, picture, rise, toggle, slider, value, tile: element("li", { className: "block" }, button, rise, element("div", { className: "gate" }, toggle, value), slider) };
  }

  /** Show the gates, which block is looked into, and which are exchanged. */
  function mark({ gates, swap, block }) {
    for (const { name, tile: item, button, toggle, slider, value } of tiles) {
      const gate = gates.get(name) ?? 1;
      toggle.setAttribute("aria-checked", String(gate > 0));
      slider.value = gate;
      slider.setAttribute("aria-valuetext", gate.toFixed(2));
      value.textContent = gate.toFixed(2);
      button.setAttribute("aria-pressed", String(name === block));
      item.style.setProperty("--gate", gate);
      item.classList.toggle("off", gate === 0);
      item.classList.toggle("swapped", swap?.includes(name) ?? false);
      item.title = swap?.includes(name) ? words.say("swapped") : "";
    }
  }

  /** Show what each place gave for the image: its channels' mean. */
  function show(network, order, ran) {
    const means = ran.map(({ output }, place) => channelMeans(output, network.blocks[order[place]].second.outputs));
    means.forEach((mean, place) => pictures.maps(tiles[place].picture, mean, { side: network.blocks[order[place]].after, reach: Math.max(...mean) || 1 }));
  }

  function channelMeans(maps, channels) {
    return Float32Array.from({ length: maps.length / channels }, (_, place) => maps.subarray(place * channels, (place + 1) * channels).reduce((sum, value) => sum + value, 0) / channels);
  }

  /** Show each block's importance, by its name, where it is known. */
  function rank(rises) {
    for (const { name, rise } of tiles) {
      const known = rises.get(name);
      rise.textContent = known === undefined ? "" : `${known >= 0 ? "+" : "−"}${Math.abs(100 * known).toFixed(1)}`;
      rise.title = known === undefined ? "" : words.say("rise", rise.textContent);
    }
  }

  return { element, build, mark, show, rank };
})();
