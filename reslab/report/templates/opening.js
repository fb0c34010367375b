// What is unpacked when its view is opened: the explorer, and the chapter's pictures.

views.onOpen("explorer", () => packed.text("explorer-program").then(packed.run));

views.onOpen("chapter", () => {
  for (const image of document.querySelectorAll("img[data-packed]")) {
    packed.text(image.dataset.packed).then((svg) => {
      image.src = `data:image/svg+xml,${encodeURIComponent(svg)}`;
    });
  }
});
