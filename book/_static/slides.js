// Turns the pages of a deck (fieldguide.slides). Without it all slides stand below each other.
"use strict";
(() => {
  const root = document.documentElement;
  const slides = [...document.querySelectorAll("main > .slide")];
  const notes = [...document.querySelectorAll(".notes")];
  const [back, on] = document.querySelectorAll(".turn button");
  const room = matchMedia("(min-width: 801px) and (min-height: 481px)");
  let here = 0;
  let second = window.opener; // a window of the same deck that is turned with this one

  const theme = (dark) => (root.dataset.theme = dark ? "dark" : "light");
  const named = () => slides.findIndex((one) => `#${one.id}` === location.hash);

  function show(number, told = false) {
    here = Math.max(0, Math.min(slides.length - 1, number));
    slides.forEach((one, place) => one.classList.toggle("here", place === here));
    history.replaceState(null, "", `#${slides[here].id}`);
    back.setAttribute("aria-disabled", here === 0);
    on.setAttribute("aria-disabled", here === slides.length - 1);
    if (!root.classList.contains("paged")) slides[here].scrollIntoView();
    slides[here].focus({ preventScroll: true });
    reach();
    if (!told) second?.postMessage({ slide: here }, "*");
  }

  function reach() {
    // what scrolls can be reached with the keys
    for (const one of document.querySelectorAll(".scrolls, .shown > .math, pre, .spoken"))
      one.tabIndex = one.scrollWidth > one.clientWidth || one.scrollHeight > one.clientHeight ? 0 : -1;
  }

  function fit() {
    const paged = room.matches;
    root.classList.toggle("paged", paged);
    if (paged) show(here, true);
    reach();
  }

  function seen() {
    // where slides scroll, the one across the upper third of the window
    const place = slides.findIndex((one) => one.getBoundingClientRect().bottom > innerHeight / 3);
    return place < 0 ? slides.length - 1 : place;
  }

  const keys = {
    ArrowRight: () => show(here + 1),
    ArrowLeft: () => show(here - 1),
    n: () => notes.forEach((one) => one.toggleAttribute("open")),
    d: () => theme(root.dataset.theme === "light"),
    f: () => (document.fullscreenElement ? document.exitFullscreen() : root.requestFullscreen()),
    w: () => (second = window.open(location.href, "", "popup,width=1000,height=700")),
  };
  const pagedKeys = {
    ArrowDown: keys.ArrowRight,
    PageDown: keys.ArrowRight,
    " ": keys.ArrowRight,
    ArrowUp: keys.ArrowLeft,
    PageUp: keys.ArrowLeft,
    Home: () => show(0),
    End: () => show(slides.length - 1),
  };
  addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.altKey || event.metaKey) return;
    const paged = root.classList.contains("paged");
    const at = event.target;
    if (event.key === " " && at.closest("a, button, summary")) return;
    if (/^(Arrow(Up|Down)|Page|Home|End)/.test(event.key) && at.closest(".spoken, pre")) return; // it scrolls
    let turn = keys[event.key] ?? (paged && pagedKeys[event.key]);
    if (event.key === " " && event.shiftKey) turn = paged && keys.ArrowLeft;
    if (!turn) return;
    if (!paged) here = seen();
    event.preventDefault();
    turn();
  });

  back.addEventListener("click", keys.ArrowLeft);
  on.addEventListener("click", keys.ArrowRight);
  document.querySelector("main").addEventListener("click", (event) => {
    if (!root.classList.contains("paged")) return;
    if (event.target.closest("a, button, summary, .notes, pre")) return;
    if (getSelection().isCollapsed) show(here + (event.clientX < innerWidth / 4 ? -1 : 1));
  });
  let finger = null;
  addEventListener("touchstart", (event) => (finger = event.touches[1] ? null : event.touches[0]));
  addEventListener("touchend", (event) => {
    if (!finger || !root.classList.contains("paged")) return;
    const [x, y] = ["clientX", "clientY"].map((side) => event.changedTouches[0][side] - finger[side]);
    if (Math.abs(x) > 50 && Math.abs(x) > 2 * Math.abs(y)) show(here - Math.sign(x));
  });

  // All notes are open, or none; those of the slide that is shown are seen.
  notes.forEach((one) =>
    one.addEventListener("toggle", () => {
      notes.forEach((other) => (other.open = one.open));
      reach();
    }),
  );
  addEventListener("hashchange", () => named() >= 0 && named() !== here && show(named()));
  addEventListener("message", (event) => {
    if (event.source === second && Number.isInteger(event.data?.slide)) show(event.data.slide, true);
  });
  let before = "";
  addEventListener("beforeprint", () => {
    before = root.dataset.theme;
    theme(false);
  });
  addEventListener("afterprint", () => (root.dataset.theme = before));
  const dark = matchMedia("(prefers-color-scheme: dark)");
  dark.addEventListener("change", () => theme(dark.matches));
  room.addEventListener("change", () => {
    if (room.matches) here = seen();
    fit();
    if (!room.matches) slides[here].scrollIntoView();
  });

  theme(dark.matches);
  here = Math.max(0, named());
  fit();
})();
