// The console with no mouse.
import { title } from "./browser.mjs";

const tabsMax = 400; // more than any page has

export async function keyboard({ browser, config, report, cookies, paths }) {
  const context = await browser.context({ cookies });
  // A page that changes meanwhile would be another one to walk through.
  await context.addInitScript(() => { window.EventSource = class { addEventListener() {} close() {} }; });
  for (const path of paths) {
    const page = await browser.page(context);
    await page.goto(config.base + path);
    report.check(`${title(path)}: with the keyboard alone`, await walk(page));
    await page.close();
  }
  await context.close();
  await menu({ browser, config, report, cookies });
}

// walk tabs through the page: the skip link comes first and works, all that can be used is reached in the order of the document, what has the focus
// is seen to have it, and the way ends.
async function walk(page) {
  const bad = [], seen = [];
  const wanted = await page.evaluate(() => {
    const list = [...document.querySelectorAll("a[href], button, input:not([type=hidden]), select, textarea, summary, [tabindex='0']")]
      .filter((e) => e.checkVisibility({ visibilityProperty: true }) && !e.disabled && e.tabIndex >= 0);
    list.forEach((e, i) => { e.dataset.walk = String(i); });
    // Of radio buttons with one name the keyboard reaches one.
    return list.filter((e) => e.type !== "radio").map((e) => ({ i: e.dataset.walk, what: `${e.tagName.toLowerCase()} ${(e.textContent || e.name || "").trim().slice(0, 30)}` }));
  });
  for (let n = 0; n < tabsMax; n++) {
    await page.keyboard.press("Tab");
    const at = await page.evaluate(() => {
      const e = document.activeElement;
      if (!e || e === document.body) return null;
      const s = getComputedStyle(e), r = e.getClientRects()[0] ?? e.getBoundingClientRect(); // a link over several lines has a rectangle for each
      const over = document.elementFromPoint(Math.min(Math.max(r.left + Math.min(r.width / 2, 12), 0), innerWidth - 1), Math.min(Math.max(r.top + Math.min(r.height / 2, innerHeight / 2), 0), innerHeight - 1));
      return {
        i: e.dataset.walk, what: `${e.tagName.toLowerCase()} ${(e.textContent || e.name || "").trim().slice(0, 30)}`, skip: e.getAttribute("href") === "#main",
        shown: (s.outlineStyle !== "none" && parseFloat(s.outlineWidth) >= 2) || s.boxShadow !== "none",
        inside: r.bottom > 0 && r.top < innerHeight && r.right > 0 && r.left < innerWidth, hidden: !over || !(e.contains(over) || over.contains(e)),
      };
    });
    if (!at || (seen.length && at.i === seen[0].i)) break;
    if (!seen.length && !at.skip) bad.push(`the first is ${at.what}, not the skip link`);
    if (!at.shown) bad.push(`${at.what}: one does not see that it has the focus`);
    if (!at.inside || at.hidden) bad.push(`${at.what}: has the focus where one does not see it`);
    seen.push(at);
  }
  if (seen.length >= tabsMax) bad.push("the way does not end");
  const reached = new Set(seen.map((s) => s.i));
  for (const w of wanted) if (!reached.has(w.i)) bad.push(`${w.what} is not reached`);
  const order = seen.map((s) => Number(s.i)).filter((i) => !Number.isNaN(i));
  if (order.some((x, k) => k && x < order[k - 1])) bad.push("the order is not that of the page");
  await page.keyboard.press("Home");
  await page.evaluate(() => document.querySelector("a[href='#main']").focus());
  await page.keyboard.press("Enter");
  if ((await page.evaluate(() => document.activeElement?.id)) !== "main") bad.push("the skip link does not lead to the content");
  return bad.slice(0, 8);
}

// menu: on a phone the menu opens and closes with keys, and gives the focus back.
async function menu({ browser, config, report, cookies }) {
  const context = await browser.context({ view: "phone", cookies });
  const page = await context.newPage();
  await page.goto(config.base + "/");
  const bad = [];
  await page.locator("header button.menu").focus();
  await page.keyboard.press("Enter");
  if (!(await page.locator("nav a").first().isVisible())) bad.push("it does not open");
  await page.keyboard.press("Tab");
  if (!(await page.evaluate(() => !!document.activeElement.closest(".side")))) bad.push("the focus does not go into it");
  await page.keyboard.press("Escape");
  if (await page.locator("nav a").first().isVisible()) bad.push("Escape does not close it");
  if (!(await page.evaluate(() => document.activeElement.matches("button.menu")))) bad.push("the focus does not come back");
  report.check("the menu with keys", bad);
  await context.close();
}
