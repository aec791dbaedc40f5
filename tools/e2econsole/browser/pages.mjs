// Every page of the navigation, and one of each kind that these lead to, at both sizes and in both schemes.
import { join } from "node:path";
import { title, views } from "./browser.mjs";
import * as look from "./look.mjs";

export async function everyPage({ browser, config, report, cookies, paths, layout }) {
  const schemes = config.short ? [["phone", "dark"], ["desktop", "light"]] : [["phone", "light"], ["phone", "dark"], ["desktop", "light"], ["desktop", "dark"]];
  for (const [view, scheme] of schemes) {
    const context = await browser.context({ view, scheme, cookies });
    for (const path of paths) {
      const page = await browser.page(context);
      const response = await page.goto(config.base + path);
      await page.waitForFunction(() => !document.body.dataset.events || document.getElementById("live")?.textContent);
      const name = `${title(path)}, ${view}, ${scheme}`;
      report.check(`${name}: it is there`, response.status() === 200 ? [] : [`status ${response.status()}`]);
      report.check(`${name}: policy`, strict(response.headers()["content-security-policy"] ?? ""));
      await page.evaluate(browser.axeSource);
      report.check(`${name}: axe`, await page.evaluate(look.axe));
      report.check(`${name}: nothing sideways`, await page.evaluate(look.overflow));
      report.check(`${name}: nothing overlaps`, await page.evaluate(look.overlaps));
      report.check(`${name}: nothing is cut off`, await page.evaluate(look.cut));
      if (view === "phone") report.check(`${name}: what is tapped is large enough`, await page.evaluate(look.taps));
      if (config.short || scheme === "light") report.check(`${name}: layout`, layout.compare(title(path), view, await page.evaluate(look.boxes)));
      await page.screenshot({ path: join(config.shots, `${title(path)}-${view}-${scheme}.png`), fullPage: true });
      if (config.images && config.images.includes(`${title(path)}-${view}-${scheme}`)) {
        await page.screenshot({ path: join(config.imagesDir, `${title(path)}-${view}.png`) });
      }
      report.check(`${name}: no complaint of the browser`, page.complaints);
      await page.close();
    }
    await context.close();
  }
}

// further gives one page of each kind that the pages lead to, such as /boxes/{id} of all boxes.
export async function further(browser, config, cookies, paths) {
  const context = await browser.context({ cookies });
  const page = await context.newPage();
  const found = new Map();
  for (const path of paths) {
    await page.goto(config.base + path);
    for (const href of await page.locator("main a[href^='/']").evaluateAll((list) => list.map((a) => a.getAttribute("href")))) {
      const at = href.split(/[?#]/)[0];
      if (paths.includes(at) || /^\/(api|metrics|readyz|healthz|static|events|password|log(in|out)$)/.test(at)) continue;
      const kind = at.replace(/^(\/[^/]+\/).*$/, "$1");
      if (!found.has(kind)) found.set(kind, href.split("#")[0]);
    }
  }
  await context.close();
  return [...found.values()];
}

// strict says what a content security policy allows that it should not.
function strict(policy) {
  const bad = [];
  if (!/default-src 'none'/.test(policy)) bad.push("default-src is not 'none'");
  for (const word of ["unsafe-inline", "unsafe-eval", "unsafe-hashes", "*", "data:", "blob:", "http:", "https:"]) if (policy.includes(word)) bad.push(`it has ${word}`);
  for (const part of ["base-uri 'none'", "form-action 'self'", "frame-ancestors 'none'"]) if (!policy.includes(part)) bad.push(`it lacks ${part}`);
  return bad;
}

// policyHolds: a script and a style that somebody got into the page do nothing.
export async function policyHolds({ browser, config, report, cookies }) {
  const context = await browser.context({ cookies });
  const page = await browser.page(context);
  await page.goto(config.base + "/");
  await page.evaluate(() => {
    const script = document.createElement("script");
    script.textContent = "window.ran = true";
    document.body.append(script);
    document.body.insertAdjacentHTML("beforeend", "<p id=styled style='color:rgb(1,2,3)'>x</p><img src=x onerror='window.ran=true'>");
  });
  await page.waitForFunction(() => document.querySelector("img[src=x]").complete);
  const ran = await page.evaluate(() => [window.ran === true, getComputedStyle(document.getElementById("styled")).color === "rgb(1, 2, 3)"]);
  const said = page.complaints.filter((c) => c.startsWith("content security policy")).length;
  report.check("what gets into a page does not run", [...(ran[0] ? ["a script ran"] : []), ...(ran[1] ? ["a style counted"] : []), ...(said < 2 ? [`the browser reported ${said} violations`] : [])]);
  await context.close();
}

// light: script and style, as they travel, are small.
export async function light({ browser, config, report, cookies }) {
  const context = await browser.context({ cookies });
  const page = await context.newPage();
  const sizes = [];
  page.on("requestfinished", async (r) => {
    if (["script", "stylesheet"].includes(r.resourceType())) sizes.push(r.sizes().then((s) => s.responseBodySize));
  });
  await page.goto(config.base + "/");
  const bytes = (await Promise.all(sizes)).reduce((a, b) => a + b, 0);
  report.check(`script and style are ${bytes} bytes as they travel, 61440 at most`, sizes.length >= 2 && bytes > 0 && bytes <= 61440 ? [] : [`${sizes.length} files`]);
  await context.close();
}

// withoutScript: the same headings, rows and links are read when no script runs, and the menu opens.
export async function withoutScript({ browser, config, report, cookies, paths }) {
  for (const view of config.short ? ["phone"] : Object.keys(views)) {
    const [with_, without] = [await browser.context({ view, cookies }), await browser.context({ view, cookies, script: false })];
    for (const path of paths) {
      const [a, b] = [await with_.newPage(), await without.newPage()];
      await Promise.all([a.goto(config.base + path), b.goto(config.base + path)]);
      const [x, y] = await Promise.all([a.evaluate(look.words), b.evaluate(look.words)]);
      const bad = [];
      if (JSON.stringify(x.headings) !== JSON.stringify(y.headings)) bad.push(`headings: ${differ(x.headings, y.headings)}`);
      const missing = x.names.filter((r) => !y.names.includes(r));
      if (missing.length > x.names.length / 10) bad.push(`rows that are missing: ${missing.slice(0, 5).join(", ")}`);
      if (y.rows < x.rows * 0.8) bad.push(`${y.rows} rows, not ${x.rows}`);
      if (x.links !== y.links) bad.push(`${y.links} links in the navigation, not ${x.links}`);
      if (y.text < x.text / 2) bad.push(`${y.text} letters, not about ${x.text}`);
      if (view === "phone") {
        const menu = b.locator("header button.menu");
        if (await menu.isVisible()) await menu.click();
        if (!(await b.locator("nav a").first().isVisible())) bad.push("the menu does not open");
      }
      report.check(`${title(path)}, ${view}: the same without script`, bad);
      await Promise.all([a.close(), b.close()]);
    }
    await Promise.all([with_.close(), without.close()]);
  }
}

const differ = (a, b) => `without: ${b.filter((x) => !a.includes(x)).slice(0, 4).join(", ")}; missing: ${a.filter((x) => !b.includes(x)).slice(0, 4).join(", ")}`;
