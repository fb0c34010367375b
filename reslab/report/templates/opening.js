// What is unpacked, or begins, when its view is opened: the explorer, the chapter's pictures, the playground.

views.onOpen("explorer", () => packed.text("explorer-program").then(packed.run));

views.onOpen("play", () => {
  for (const module of document.querySelectorAll("script[id^=module-]")) packed.run(module.textContent);
});

views.onOpen("chapter", () => {
  for (const image of document.querySelectorAll("img[data-packed]")) {
    packed.text(image.dataset.packed).then((svg) => {
      image.src = `data:image/svg+xml,${encodeURIComponent(svg)}`;
    });
  }
});
