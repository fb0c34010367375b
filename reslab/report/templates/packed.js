"use strict";
// What the page carries deflated, by the id of its element: unpacked when it is needed.

const packed = (() => {
  const kept = new Map();

  async function unpack(id) {
    const bytes = Uint8Array.from(atob(document.getElementById(id).textContent), (character) => character.charCodeAt(0));
    return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"))).text();
  }

  /** Return a promise of the text. */
  function text(id) {
    if (!kept.has(id)) kept.set(id, unpack(id));
    return kept.get(id);
  }

  /** Run a text as the page's own program. */
  function run(code) {
    const script = document.createElement("script");
    script.textContent = code;
    document.head.append(script);
  }

  return { text, run };
})();
