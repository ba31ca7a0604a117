"use strict";
(() => {
  const tip = document.getElementById("tip");
  const hide = () => { tip.hidden = true; };
  const show = (point) => {
    tip.textContent = point.dataset.tip;
    tip.hidden = false;
    const at = point.querySelector(".dot").getBoundingClientRect();
    const width = tip.offsetWidth, room = document.documentElement.clientWidth - 8;
    const left = Math.max(8, Math.min(at.left + at.width / 2 - width / 2, room - width));
    const above = at.top - tip.offsetHeight - 10;
    tip.style.left = `${left}px`;
    tip.style.top = `${above > 4 ? above : at.bottom + 10}px`;
  };
  for (const point of document.querySelectorAll("[data-tip]")) {
    point.querySelector("title")?.remove(); // the tip replaces the browser's own
    for (const event of ["mouseenter", "focus", "click"]) point.addEventListener(event, () => show(point));
    for (const event of ["mouseleave", "blur"]) point.addEventListener(event, hide);
  }
  addEventListener("scroll", () => { // focus by keyboard scrolls too: the tip stays with its point
    const point = document.activeElement;
    if (!tip.hidden && point?.dataset.tip) show(point); else hide();
  }, { passive: true });
  addEventListener("keydown", (event) => { if (event.key === "Escape") hide(); });
  const open = (hash) => {
    const target = hash.startsWith("#build-") && document.getElementById(hash.slice(1));
    if (target) target.open = true;
  };
  addEventListener("hashchange", () => open(location.hash));
  for (const link of document.querySelectorAll("a.build-link")) link.addEventListener("click", () => open(link.hash));
  open(location.hash);
  addEventListener("beforeprint", () => document.querySelectorAll("details").forEach((d) => { d.open = true; }));
})();
