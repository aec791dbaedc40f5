// morph makes the children of an element those of another with as few changes as it can: what did not change keeps its focus,
// its scroll position and its selection. What the reader did stays: an opened <details>, typed text, a chosen option.
//
// Elements are told apart by data-key, or id, among their siblings; others by their place.

const keyOf = (n: Node): string => (n instanceof Element ? n.getAttribute("data-key") || n.id : "");

//
// A form with data-whole changes as a whole or not at all: what it compares with, such as a revision, belongs to what was typed.
// Only the answer to the form itself (whole) changes it while something is typed in it.
export function morph(from: Element, to: Element, whole = false): void {
  const had = new Map<string, ChildNode>();
  for (const n of from.childNodes) {
    const k = keyOf(n);
    if (k) had.set(k, n);
  }
  const stays = new Set<string>();
  for (const n of to.childNodes) {
    const k = keyOf(n);
    if (k) stays.add(k);
  }
  let at = from.firstChild;
  const skipGone = () => {
    while (at && keyOf(at) && !stays.has(keyOf(at))) {
      const gone = at;
      at = at.nextSibling;
      gone.remove();
    }
  };
  for (const next of [...to.childNodes]) {
    skipGone();
    const k = keyOf(next);
    let same: ChildNode | null = null;
    if (k) same = had.get(k) ?? null;
    else if (at && !keyOf(at)) same = at;
    if (same && same.nodeName === next.nodeName && same.nodeType === next.nodeType) {
      if (same === at) at = at.nextSibling;
      else from.insertBefore(same, at);
      become(same, next, whole);
    } else {
      from.insertBefore(document.importNode(next, true), at);
    }
  }
  while (at) {
    const gone = at;
    at = at.nextSibling;
    gone.remove();
  }
}

function become(from: ChildNode, to: ChildNode, whole: boolean): void {
  if (!(from instanceof Element) || !(to instanceof Element)) {
    if (from.nodeValue !== to.nodeValue) from.nodeValue = to.nodeValue;
    return;
  }
  if (from.isEqualNode(to) || from.hasAttribute("data-mine")) return;
  if (!whole && from.hasAttribute("data-whole") && [...from.querySelectorAll("*")].some(isTyped)) return;
  const typed = isTyped(from);
  for (const a of [...from.attributes]) {
    if (!to.hasAttribute(a.name) && !keeps(from, a.name, typed)) from.removeAttribute(a.name);
  }
  for (const a of to.attributes) {
    if (from.getAttribute(a.name) !== a.value && !keeps(from, a.name, typed)) from.setAttribute(a.name, a.value);
  }
  if (from instanceof HTMLTextAreaElement && typed) return;
  morph(from, to, whole);
}

// isTyped says whether the reader changed a field, or is in it.
function isTyped(e: Element): boolean {
  if (e instanceof HTMLInputElement && e.type !== "hidden") return e === document.activeElement || e.value !== e.defaultValue || e.checked !== e.defaultChecked;
  if (e instanceof HTMLTextAreaElement) return e === document.activeElement || e.value !== e.defaultValue;
  if (e instanceof HTMLOptionElement) return e.selected !== e.defaultSelected;
  return false;
}

// keeps says whether an attribute is the reader's.
function keeps(e: Element, name: string, typed: boolean): boolean {
  switch (name) {
    case "open":
      return e instanceof HTMLDetailsElement;
    case "value":
    case "checked":
    case "selected":
      return typed;
    case "aria-busy":
    case "disabled":
      return e.hasAttribute("data-busy") || e.closest("[data-busy]") !== null;
  }
  return false;
}
