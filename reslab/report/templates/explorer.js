"use strict";
// The network explorer. `measure` computes what `reslab models` measures, from the layers that the page carries; the rest draws it.

const explorer = (() => {
  const { networks, designs, rows, blocks } = {{ data | json }};
  const SVG = "http://www.w3.org/2000/svg";

  // --- Arithmetic ---------------------------------------------------------------------------------------------------

  const after = (size, kernel, stride, padding) => Math.floor((size + 2 * padding - kernel) / stride) + 1;

  /** Run one block on `map` = {channels, size, field, jump}, which it changes; return its parameters and multiply-adds. */
  function run([shortcut, layers], map) {
    const entered = { ...map };
    let params = 0, macs = 0;
    for (const [word, ...numbers] of layers) {
      if (word === "norm") {
        params += 2 * numbers[0];
      } else if (word === "global") {
        map.size = 1;
        map.field = null; // which sees the whole image
      } else if (word === "linear") {
        const [inputs, outputs, bias] = numbers;
        params += inputs * outputs + bias * outputs;
        macs += inputs * outputs;
        map.channels = outputs;
        map.flat = true;
        map.field = null;
      } else if (word === "pool") {
        look(map, ...numbers);
      } else {
        const [inputs, outputs, kernel, stride, padding, groups, bias] = numbers;
        const weights = (inputs / groups) * outputs * kernel * kernel;
        params += weights + bias * outputs;
        let size = 1; // a squeeze sees one pixel, the mean of all
        if (word === "side") size = after(entered.size, kernel, stride, padding);
        if (word === "main") {
          look(map, kernel, stride, padding);
          map.channels = outputs;
          size = map.size;
        }
        macs += weights * size * size;
      }
    }
    if (shortcut === "concat") map.channels += entered.channels;
    return { shortcut, layers, params, macs, entered: entered.size, ...map };
  }

  function look(map, kernel, stride, padding) {
    map.size = after(map.size, kernel, stride, padding);
    map.field += (kernel - 1) * map.jump;
    map.jump *= stride;
  }

  /** Return a design's stages on a square colour image; `n` is the depth of a family's design. */
  function measure(design, size, n = 1) {
    const map = { channels: 3, size, field: 1, jump: 1, flat: false };
    return designs[design].map((row) => {
      const [name, words, runs] = rows[row];
      const made = runs.flatMap(([block, count, more = 0]) => Array.from({ length: count + more * (n - 1) }, () => run(blocks[block], map)));
      return {
        name,
        words: words.startsWith("[") ? `${made.length} × ${words}` : words,
        blocks: made,
        output: map.flat ? [map.channels] : [map.channels, map.size, map.size],
        params: sum(made, "params"),
        macs: sum(made, "macs"),
        field: map.field,
      };
    });
  }

  const sum = (items, key) => items.reduce((total, item) => total + item[key], 0);

  // --- Choices ------------------------------------------------------------------------------------------------------

  const KIND = /(preresnet|resnet|plain)(?=\d*$)/;

  /** Return the network of the same depth of another kind, if there is one: resnet50's preresnet is preresnet50. */
  function twin(name, kind) {
    const found = KIND.test(name) && name.replace(KIND, kind);
    return found && found in networks ? found : null;
  }

  /** Return a choice of this network as near as can be to what was chosen before. */
  function choose(name, before = {}) {
    const network = networks[name];
    const standard = network.default.split(" ");
    const choice = { name, n: before.n ?? 3 };
    Object.entries(network.options).forEach(([option, values], index) => {
      choice[option] = values.includes(before[option]) ? before[option] : standard[index];
    });
    return choice;
  }

  const design = (choice) => networks[choice.name].designs[Object.keys(networks[choice.name].options).map((option) => choice[option]).join(" ")];

  /** Return the selects to show for a choice: each a list of [value, the choice that it leads to]. */
  function alternatives(choice) {
    const { options, depths } = networks[choice.name];
    const found = {};
    const kinds = [["v1", twin(choice.name, "resnet")], ["v2", twin(choice.name, "preresnet")]].filter(([, name]) => name);
    if (kinds.length === 2) found.version = kinds.map(([value, name]) => [value, choose(name, choice)]);
    for (const [option, values] of Object.entries(options)) found[option] = values.map((value) => [value, { ...choice, [option]: value }]);
    const plain = twin(choice.name, "plain"), residual = twin(choice.name, "resnet");
    if (plain && residual && choice.block !== "bottleneck") {
      const values = networks[residual].options.shortcut;
      found.shortcut = values.map((value) => [value, choose(choice.name === plain ? residual : choice.name, { ...choice, shortcut: value })]);
      found.shortcut.push(["none", choose(plain, { n: choice.n })]);
    }
    if (new Set(found.stride_in?.map(([, next]) => design(next))).size === 1) delete found.stride_in; // a basic block has one place for it
    if (depths) found.depth = depthsOf(choice).map((depth, index) => [String(depth), { ...choice, n: index + 1 }]);
    return found;
  }

  const DEEPEST = 30;
  const depthsOf = (choice) => Array.from({ length: DEEPEST }, (_, index) => networks[choice.name].depths[choice.block ?? "basic"] * (index + 1) + 2);

  function chosenValue(choice, option) {
    if (option === "version") return choice.name.includes("preresnet") ? "v2" : "v1";
    if (option === "depth") return String(depthsOf(choice)[choice.n - 1]);
    return choice[option] ?? "none"; // a plain network's shortcut
  }

  /** Return the command line that shows the same at a terminal. */
  function command(choice) {
    const { options, depths } = networks[choice.name];
    const words = Object.keys(options).map((option) => ` --${option.replace("_", "-")} ${choice[option]}`);
    return `reslab models ${choice.name}${depths ? ` --depth ${chosenValue(choice, "depth")}` : ""}${words.join("")}`;
  }

  // --- Drawing ------------------------------------------------------------------------------------------------------

  function element(tag, attributes = {}, ...children) {
    const made = ["svg", "rect", "path", "g", "title", "text", "line"].includes(tag) ? document.createElementNS(SVG, tag) : document.createElement(tag);
    Object.entries(attributes).forEach(([name, value]) => made.setAttribute(name, value));
    made.append(...children);
    return made;
  }

  /** Return both languages, of which the page shows one. */
  const both = (ko, en) => [element("span", { class: "ko", lang: "ko" }, ko), element("span", { class: "en", lang: "en" }, en)];

  const whole = (number) => number?.toLocaleString("en-US") ?? "–";
  const shape = (output) => output.join("×");
  const drawn = (stage) => stage.blocks.filter((block) => block.layers.some(([word]) => !["norm", "global"].includes(word)));

  /** Return each stage's colour: one for each of its stages of blocks, none for the rest. */
  function colours(stages) {
    let colour = 0;
    return stages.map((stage) => (stage.words.includes("[") ? ++colour : 0));
  }

  const WIDTH = 640, HEIGHT = 190, RAIL = 7;

  /** Draw the blocks to scale: height for the side of the maps, width for the channels. */
  function picture(svg, stages, pixelsAChannel, pixelsAPixel) {
    svg.replaceChildren();
    const middle = HEIGHT / 2;
    const box = (x, width, side, className, title) => {
      const height = Math.max(1, side * pixelsAPixel);
      const made = element("rect", { x, y: middle - height / 2, width: Math.max(width, 0.3), height, class: className });
      made.append(element("title", {}, title));
      svg.append(made);
      return middle - height / 2;
    };
    let x = 1;
    const stageColours = colours(stages);
    stages.forEach((stage, index) => {
      let last = null;
      for (const [number, block] of drawn(stage).entries()) {
        const width = block.channels * pixelsAChannel;
        const gap = width > 3 ? 0.8 : 0;
        const name = stage.blocks.length > 1 ? `${stage.name}.${number}` : stage.name;
        const output = block.flat ? [block.channels] : [block.channels, block.size, block.size];
        const top = box(x, width - gap, block.flat ? 1 : block.size, `stage-${stageColours[index]}`, `${name} → ${shape(output)}`);
        if (block.shortcut !== "none" && block.shortcut !== "concat" && width >= 3) {
          svg.append(element("path", { d: `M${x},${top - 1}v${-RAIL}h${width - gap}v${RAIL}`, class: `rail ${block.shortcut}` }));
        }
        last = { top, side: block.size };
        x += width;
      }
      if (last) x += 3;
    });
    svg.setAttribute("aria-label", stages.map((stage) => `${stage.name} ${shape(stage.output)}`).join(", "));
  }

  const largest = (stages) => Math.max(...stages.flatMap((stage) => drawn(stage).map((block) => block.size)));
  const room = (stages) => WIDTH - 2 - 3 * stages.filter((stage) => drawn(stage).length).length;
  const channels = (stages) => stages.reduce((total, stage) => total + drawn(stage).reduce((part, block) => part + block.channels, 0), 0);

  /** Fill the table of stages; a cell that the other network does not have alike is marked. */
  function table(body, stages, others) {
    const stageColours = colours(stages);
    body.replaceChildren(...stages.map((stage, index) => {
      const other = others && (others.find(({ name }) => name === stage.name) ?? {});
      const cell = (text, of, attributes = {}) => {
        const differs = other && (other.name === undefined || of(other) !== of(stage));
        return element("td", { ...attributes, class: `${attributes.class ?? ""}${differs ? " differs" : ""}` }, text);
      };
      const head = element("th", { scope: "row" }, element("i", { class: `swatch stage-${stageColours[index]}`, "aria-hidden": "true" }), stage.name);
      return element("tr", {}, head,
        cell(stage.words.replace(/(?<=[a-z])(?=[A-Z])/g, "\u200b"), ({ words }) => words),
        cell(shape(stage.output), ({ output }) => shape(output), { class: "number" }),
        cell(whole(stage.params), ({ params }) => params, { class: "number" }),
        cell(whole(stage.macs), ({ macs }) => macs, { class: "number" }),
        cell(whole(stage.field), ({ field }) => field, { class: "number" }));
    }));
  }

  // --- The two networks ---------------------------------------------------------------------------------------------

  function start(section) {
    const panels = [...section.querySelectorAll(".network")].map((root) => ({ root, choice: choose(root.dataset.first) }));
    const size = section.querySelector("[name=size]");
    const oneScale = section.querySelector("[name=scale]");
    const find = (panel, name) => panel.root.querySelector(`[data-is=${name}]`);

    const families = new Map();
    for (const [name, { family }] of Object.entries(networks)) families.set(family, [...(families.get(family) ?? []), name]);
    for (const panel of panels) {
      const select = find(panel, "name");
      for (const [family, names] of families) {
        select.append(element("optgroup", { label: family }, ...names.map((name) => element("option", { value: name }, name))));
      }
      select.addEventListener("change", () => {
        panel.choice = choose(select.value, { n: panel.choice.n });
        if (panel === panels[0]) size.value = networks[select.value].image;
        show();
      });
      for (const label of panel.root.querySelectorAll("[data-option]")) {
        label.querySelector("select").addEventListener("change", (event) => {
          panel.choice = alternatives(panel.choice)[label.dataset.option][event.target.selectedIndex][1];
          show();
        });
      }
    }
    for (const input of [size, oneScale]) input.addEventListener("input", show);

    let image = Number(size.value); // the last that is allowed

    function show() {
      const typed = Math.round(Number(size.value));
      const allowed = typed >= Number(size.min) && typed <= Number(size.max);
      if (allowed) image = typed;
      size.setAttribute("aria-invalid", String(!allowed));
      const [ko, en] = [`${size.min}부터 ${size.max}까지`, `${size.min} to ${size.max}`];
      section.querySelector("#size-range").replaceChildren(...(allowed ? [] : both(`${ko}만 된다. 아래는 앞 크기의 것이다.`, `only ${en}; below is the size before`)));
      for (const panel of panels) panel.stages = measure(design(panel.choice), image, networks[panel.choice.name].depths ? panel.choice.n : 1);
      const tallest = Math.max(...panels.map(({ stages }) => largest(stages)));
      const scales = panels.map(({ stages }) => room(stages) / channels(stages));
      panels.forEach((panel, index) => {
        controls(panel);
        const scale = oneScale.checked ? Math.min(...scales) : scales[index];
        picture(find(panel, "picture"), panel.stages, scale, (HEIGHT - 2 * RAIL - 4) / tallest);
        table(find(panel, "stages"), panel.stages, panels[1 - index].stages);
        find(panel, "command").textContent = command(panel.choice);
      });
      totals(section.querySelector("[data-is=totals]"), panels.map(({ stages }) => stages));
      for (const cell of section.querySelectorAll("[data-is=names] [data-side]")) cell.textContent = panels[cell.dataset.side].choice.name;
    }

    function controls(panel) {
      const offers = alternatives(panel.choice);
      find(panel, "name").value = panel.choice.name;
      for (const label of panel.root.querySelectorAll("[data-option]")) {
        const option = label.dataset.option;
        label.hidden = !(option in offers);
        if (label.hidden) continue;
        const select = label.querySelector("select");
        select.replaceChildren(...offers[option].map(([value]) => element("option", { value }, value)));
        select.value = chosenValue(panel.choice, option);
      }
    }

    show();
  }

  /** Fill the comparison: parameters, multiply-adds and receptive field of both, and the difference. */
  function totals(body, [first, second]) {
    const measures = [
      [both("매개변수", "parameters"), sum(first, "params"), sum(second, "params")],
      [both("곱셈-누산 (MACs)", "multiply-adds (MACs)"), sum(first, "macs"), sum(second, "macs")],
      [both("수용 영역 (픽셀)", "receptive field (pixels)"), ...[first, second].map((stages) => Math.max(...stages.map(({ field }) => field)))],
      [both("블록", "blocks"), ...[first, second].map((stages) => stages.reduce((count, stage) => count + (stage.words.includes("[") ? stage.blocks.length : 0), 0))],
    ];
    body.replaceChildren(...measures.map(([name, one, two]) => {
      const difference = one === two ? "=" : `${two > one ? "+" : "−"}${whole(Math.abs(two - one))} (×${(two / one).toFixed(3)})`;
      return element("tr", {}, element("th", { scope: "row" }, ...name),
        ...[one, two].map((value) => element("td", { class: "number" }, whole(value))),
        element("td", { class: `number${one === two ? "" : " differs"}` }, difference));
    }));
  }

  const section = document.getElementById("explorer");
  start(section);
  return { networks, measure, design, choose, alternatives, command };
})();
