"use strict";
// The views, of which one is shown: the one that the address names, or that holds what it names. The others are there for a search in the page, for print, and where
// JavaScript is off.

const views = (() => {
  const all = [...document.querySelectorAll("main > .view")];
  const contents = document.getElementById("contents");
  const links = [...contents.querySelectorAll("a")];
  const menu = document.getElementById("menu");
  const main = document.getElementById("main");
  const openers = new Map(); // view -> what is to be done when it is first shown
  const heights = new Map(); // address -> how far it was scrolled when it was left
  let shown = null;
  let address = null;
  let followed = true; // whether a link is followed, or the page opened, and not gone back or forward

  const here = () => location.hash || `#${all[0].id}`;

  /** Return what the address names; the playground has addresses of its own. */
  function named() {
    const name = here().slice(1);
    if (name.startsWith("net=")) return document.getElementById("play");
    try {
      return document.getElementById(decodeURIComponent(name));
    } catch {
      return null; // no text in percent signs
    }
  }

  const within = ({ offsetTop, offsetHeight }) => offsetTop >= contents.scrollTop && offsetTop + offsetHeight <= contents.scrollTop + contents.clientHeight;

  function show(view) {
    shown = view;
    for (const each of all) {
      if (each === view) each.removeAttribute("hidden");
      else each.hidden = "until-found"; // so that a search in the page looks into it
    }
    for (const link of links) {
      if (decodeURIComponent(link.hash.slice(1)) !== view.id) {
        link.removeAttribute("aria-current");
      } else {
        link.setAttribute("aria-current", "page");
        if (!within(link)) contents.scrollTop = link.offsetTop - contents.clientHeight / 2;
      }
    }
    fold(false);
    const open = openers.get(view.id);
    openers.delete(view.id);
    open?.();
  }

  /** Show what the address names. */
  function go() {
    const first = !shown;
    const target = named()?.closest(".view") ? named() : all[0];
    const view = target.closest(".view");
    const again = followed ? undefined : heights.get(here());
    address = here();
    followed = false;
    show(view);
    for (let at = target; at !== view; at = at.parentElement) if (at.matches("details")) at.open = true;
    if (again !== undefined) scrollTo(0, again);
    else if (target === view) scrollTo(0, 0);
    else target.scrollIntoView();
    if (first) return; // a page that is opened is read from its beginning
    const read = target === view ? view.querySelector("h2") : target;
    read.setAttribute("tabindex", "-1");
    read.focus({ preventScroll: true });
  }

  /** Open or close the contents, where they are folded. */
  function fold(open) {
    menu.setAttribute("aria-expanded", String(open));
    contents.classList.toggle("open", open);
  }

  /** Have something done when a view is first shown. */
  function onOpen(id, open) {
    if (shown?.id === id) open();
    else openers.set(id, open);
  }

  history.scrollRestoration = "manual";
  menu.addEventListener("click", () => fold(menu.getAttribute("aria-expanded") !== "true"));
  addEventListener("keydown", ({ key }) => {
    if (key !== "Escape" || menu.getAttribute("aria-expanded") !== "true") return;
    fold(false);
    menu.focus();
  });
  addEventListener("click", (event) => {
    const link = event.target.closest?.("a[href^='#']");
    if (!link) return;
    if (link.hash === "#main") {
      event.preventDefault(); // the way past the contents is no view
      main.focus();
      return;
    }
    heights.set(address, scrollY);
    followed = true;
    if (link.hash === location.hash) go(); // which is no change that would be told
  });
  addEventListener("popstate", () => followed || heights.set(address, scrollY));
  addEventListener("hashchange", go);
  for (const view of all) {
    view.addEventListener("beforematch", () => {
      if (named()?.closest(".view") === view) return; // it is opened by its address
      show(view);
      history.replaceState(null, "", `#${view.id}`);
      address = here();
    });
  }
  addEventListener("beforeprint", () => all.forEach((view) => view.removeAttribute("hidden")));
  addEventListener("afterprint", () => show(shown));
  return { go, onOpen };
})();
