// What is checked of a page as it stands. The functions that take a size run in the page itself.

// overflow: nothing makes the page scroll sideways, and nothing sticks out unless it is in something that scrolls by itself.
export function overflow() {
  const wide = document.scrollingElement.clientWidth, bad = [];
  if (document.scrollingElement.scrollWidth > wide) bad.push(`the page is ${document.scrollingElement.scrollWidth} px wide in a window of ${wide}`);
  const scrolls = (e) => { for (; e; e = e.parentElement) if (/auto|scroll|hidden|clip/.test(getComputedStyle(e).overflowX)) return true; return false; };
  for (const e of document.body.querySelectorAll("*")) {
    const r = e.getBoundingClientRect();
    if (r.width && r.right > wide + 1 && e.checkVisibility() && !scrolls(e.parentElement)) bad.push(`${name(e)} ends at ${Math.round(r.right)}`);
  }
  return bad.slice(0, 8);
  function name(e) { return e.tagName.toLowerCase() + (e.id ? "#" + e.id : "") + (typeof e.className === "string" && e.className ? "." + e.className : ""); }
}

// overlaps: no two pieces of text, nor a text and a field, lie over each other.
export function overlaps() {
  const boxes = [];
  const add = (rects, node, text) => {
    for (const r of rects) {
      let box = { left: r.left, right: r.right, top: r.top + r.height * 0.17, bottom: r.bottom - r.height * 0.17 };
      for (let e = node.parentElement; e; e = e.parentElement) {
        const s = getComputedStyle(e);
        if (s.position === "fixed" || s.position === "sticky") return; // lies over others on purpose
        if (s.overflowX === "visible" && s.overflowY === "visible" && s.clipPath === "none") continue;
        const c = e.getBoundingClientRect();
        box = { left: Math.max(box.left, c.left), right: Math.min(box.right, c.right), top: Math.max(box.top, c.top), bottom: Math.min(box.bottom, c.bottom) };
        if (c.width <= 1 && c.height <= 1) return; // for screen readers alone
      }
      if (box.right - box.left > 1 && box.bottom - box.top > 1) boxes.push({ ...box, node, text });
    }
  };
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let t; (t = walker.nextNode()); ) {
    const parent = t.parentElement;
    if (!t.data.trim() || /^(script|style|noscript|option|title|textarea)$/i.test(parent.tagName) || !parent.checkVisibility({ visibilityProperty: true, opacityProperty: true })) continue;
    const range = document.createRange();
    range.selectNodeContents(t);
    add(range.getClientRects(), t, t.data.trim().slice(0, 40));
  }
  for (const e of document.querySelectorAll("input:not([type=hidden]), select, textarea")) {
    if (e.checkVisibility({ visibilityProperty: true })) add([e.getBoundingClientRect()], e, "field " + (e.name || e.id));
  }
  boxes.sort((a, b) => a.top - b.top);
  const bad = [];
  for (let i = 0; i < boxes.length; i++) {
    for (let j = i + 1; j < boxes.length && boxes[j].top < boxes[i].bottom; j++) {
      const a = boxes[i], b = boxes[j];
      if (a.node === b.node) continue;
      const w = Math.min(a.right, b.right) - Math.max(a.left, b.left), h = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
      if (w > 2 && h > 2) bad.push(`"${a.text}" and "${b.text}" overlap by ${Math.round(w)}x${Math.round(h)} px`);
    }
  }
  return bad.slice(0, 8);
}

// cut: text that does not fit says so by an ellipsis, or its box scrolls; none is just cut off.
export function cut() {
  const bad = [];
  for (const e of document.body.querySelectorAll("main *, header *")) {
    const s = getComputedStyle(e);
    if (!/hidden|clip/.test(s.overflowX) || s.textOverflow === "ellipsis" || !e.checkVisibility() || e.clientWidth <= 1 || e.closest("svg") || e.matches("input, select")) continue;
    if (e.scrollWidth > e.clientWidth + 1) bad.push(`${e.tagName.toLowerCase()}.${e.className}: "${e.textContent.trim().slice(0, 40)}"`);
  }
  return bad.slice(0, 8);
}

// taps: what a thumb must hit is large: buttons, fields and the navigation 30 px high, the rest 24. Links are for axe, which knows what room is
// around them (WCAG 2.2, 2.5.8).
export function taps() {
  const bad = [];
  for (const e of document.querySelectorAll("nav a[href], button, select, summary, input:not([type=hidden]), [tabindex='0']")) {
    if (!e.checkVisibility({ visibilityProperty: true }) || e.closest(".skip, .hide")) continue;
    if (e.matches("[type=checkbox], [type=radio]") && e.labels?.length) continue; // its label is hit
    const r = e.getBoundingClientRect();
    const least = e.matches("summary, [tabindex]") ? 24 : 30;
    if (r.width && (r.height < least - 0.5 || r.width < 24)) bad.push(`${e.tagName.toLowerCase()} "${(e.textContent || e.name).trim().slice(0, 30)}" is ${Math.round(r.width)}x${Math.round(r.height)}, not ${least} high`);
  }
  return bad.slice(0, 8);
}

// boxes: where the landmarks and sections are, for the layout that is committed.
export function boxes() {
  const list = {};
  for (const e of document.querySelectorAll("header, nav, main, main h1, main section[id], main form[id], footer")) {
    const r = e.getBoundingClientRect();
    if (!e.checkVisibility() || !r.width || !r.height) continue;
    const key = e.tagName.toLowerCase() + (e.id && e.tagName !== "MAIN" ? "#" + e.id : "");
    list[key] ??= [r.left, r.top + scrollY, r.width, r.height].map(Math.round);
  }
  return list;
}

// words: what can be read, for comparing a page with itself without script.
export function words() {
  const texts = (selector) => [...document.querySelectorAll(selector)].filter((e) => e.checkVisibility()).map((e) => e.textContent.trim().replace(/\s+/g, " "));
  // Rows that are named by a number come and go, such as blocks: they are only counted. Who leads, which a tag says, may change meanwhile.
  const rows = texts("main tbody th");
  return { headings: texts("h1, h2, h3, thead th, dt"), names: rows.filter((t) => /[a-z]/i.test(t)).map((t) => t.replace(/ leader$/, "")), rows: rows.length, links: texts("nav a").length, text: document.querySelector("main")?.innerText.length ?? 0 };
}

// axe runs axe-core's rules, all of them: also those beyond WCAG 2.2 AA, such as landmarks and the order of headings.
export async function axe() {
  const result = await window.axe.run(document, { resultTypes: ["violations"], rules: { "target-size": { enabled: true }, "color-contrast-enhanced": { enabled: false } } });
  return result.violations.flatMap((v) => v.nodes.map((n) => `${v.id}: ${n.target.join(" ")}: ${n.any.concat(n.all, n.none).map((c) => c.message).join("; ") || v.help}`)).slice(0, 12);
}
