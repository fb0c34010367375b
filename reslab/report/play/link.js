"use strict";
// What the playground shows, as a link: `#net=resnet20&off=layer2.1&gate=layer1.2:0.5&swap=layer2.1,layer2.2&image=17&block=layer2.1`.
// A drawn image is `drawn=` and a character for each of its pixels, 0 to g for the grey levels 0 to 16.

const link = (() => {
  const GREY_LEVELS = 16;

  /** Return the link of a state; what is as at first is left out. */
  function write({ net, gates, swap, image, drawn, block }) {
    const off = [...gates].filter(([, gate]) => gate === 0).map(([name]) => name);
    const partly = [...gates].filter(([, gate]) => gate > 0 && gate < 1).map(([name, gate]) => `${name}:${gate}`);
    const parts = [
      `net=${net}`,
      off.length && `off=${off.join(",")}`,
      partly.length && `gate=${partly.join(",")}`,
      swap && `swap=${swap.join(",")}`,
      drawn ? `drawn=${Array.from(drawn, (share) => Math.round(share * GREY_LEVELS).toString(GREY_LEVELS + 1)).join("")}` : `image=${image}`,
      block && `block=${block}`,
    ];
    return `#${parts.filter(Boolean).join("&")}`;
  }

  /** Return the state that a link means, of networks by name and a number of images; what it does not say, or says wrongly, is as at first. */
  function read(hash, networks, images) {
    const said = new URLSearchParams(hash.replace(/^#/, ""));
    const net = Object.hasOwn(networks, said.get("net")) ? said.get("net") : Object.keys(networks)[0];
    const names = networks[net];
    const known = (list) => (list ?? "").split(",").filter((name) => names.includes(name));
    const gates = new Map(known(said.get("off")).map((name) => [name, 0]));
    for (const [name, gate] of (said.get("gate") ?? "").split(",").map((part) => part.split(":"))) {
      if (names.includes(name) && gate > 0 && gate < 1) gates.set(name, Number(gate));
    }
    const swap = known(said.get("swap"));
    const image = Number(said.get("image"));
    const drawn = /^[0-9a-g]{64}$/.test(said.get("drawn") ?? "") ? Float32Array.from(said.get("drawn"), (level) => parseInt(level, GREY_LEVELS + 1) / GREY_LEVELS) : null;
    return {
      net,
      gates,
      swap: swap.length === 2 && alike(...swap) ? swap : null,
      image: Number.isInteger(image) && image >= 0 && image < images ? image : 0,
      drawn,
      block: known(said.get("block"))[0] ?? null,
    };
  }

  /** Return whether two blocks have the same input and output shape: they are in the same stage, and neither begins it, unless it is the first. */
  function alike(one, other) {
    const [stage, place] = one.split(".");
    const [same, another] = other.split(".");
    return stage === same && place !== another && (stage === "layer1" || (place !== "0" && another !== "0"));
  }

  return { write, read, alike };
})();
