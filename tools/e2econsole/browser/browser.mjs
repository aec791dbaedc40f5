// The browser, and pages whose every complaint is kept.
import { createRequire } from "node:module";
import { readFileSync } from "node:fs";

export const views = { phone: { width: 360, height: 740 }, desktop: { width: 1280, height: 800 } };

export class Browser {
  static async launch(config) {
    const require = createRequire(config.modules + "/");
    const b = new Browser();
    b.axeSource = readFileSync(require.resolve("axe-core/axe.min.js"), "utf8");
    // Chromium's sandbox does not work for root; what is loaded here is our own.
    b.chromium = await require("playwright-core").chromium.launch({ executablePath: config.chromium, args: process.getuid() === 0 ? ["--no-sandbox"] : [] });
    return b;
  }

  close() {
    return this.chromium.close();
  }

  // context is a browser of somebody: with a size, a scheme, cookies, with script or without.
  async context({ view = "desktop", scheme = "light", cookies = [], script = true } = {}) {
    const c = await this.chromium.newContext({ viewport: views[view], colorScheme: scheme, javaScriptEnabled: script, reducedMotion: "reduce", hasTouch: view === "phone", locale: "en-GB", timezoneId: "UTC" });
    c.setDefaultTimeout(15_000);
    if (cookies.length) await c.addCookies(cookies);
    return c;
  }

  // page opens a page that keeps what went wrong in it, as complaints.
  async page(context) {
    const page = await context.newPage();
    page.complaints = [];
    page.expected = new Set(); // statuses that a test asks for
    const complain = (text) => page.complaints.push(text);
    page.on("console", (m) => {
      const status = /status of (\d+)/.exec(m.text());
      if (m.type() === "error" && !(status && page.expected.has(Number(status[1])))) complain(`console: ${m.text()}`);
    });
    page.on("pageerror", (err) => complain(`script: ${err.message}`));
    page.on("requestfailed", (r) => {
      if (!/\/events\?|favicon/.test(r.url()) && r.failure()?.errorText !== "net::ERR_ABORTED") complain(`request: ${r.url()}: ${r.failure()?.errorText}`);
    });
    page.on("response", (r) => {
      if (r.status() >= 400 && !page.expected.has(r.status())) complain(`answer: ${r.status()} ${r.url()}`);
    });
    await page.exposeBinding("holdfastViolation", (_, text) => complain(`content security policy: ${text}`));
    await page.addInitScript(() => addEventListener("securitypolicyviolation", (e) => window.holdfastViolation(`${e.effectiveDirective} ${e.blockedURI} ${e.sourceFile}:${e.lineNumber}`)));
    return page;
  }
}

// logIn gives the cookies of an operator.
export async function logIn(browser, base, name, password) {
  const context = await browser.context();
  const page = await context.newPage();
  await page.goto(base + "/login");
  await page.fill("[name=name]", name);
  await page.fill("[name=password]", password);
  await Promise.all([page.waitForURL((u) => u.pathname !== "/login"), page.click("main form button")]);
  const cookies = await context.cookies();
  await context.close();
  return cookies;
}

// navigation gives the paths of the pages that the navigation lists.
export async function navigation(browser, base, cookies) {
  const context = await browser.context({ cookies });
  const page = await context.newPage();
  await page.goto(base + "/");
  const paths = await page.locator("nav a").evaluateAll((list) => list.map((a) => a.getAttribute("href")));
  await context.close();
  return paths.filter((p) => p.startsWith("/"));
}

// title names a page in files and reports: one of many of a kind, such as a block, by the kind.
export const title = (path) => {
  const [first, second] = path.split("?")[0].split("/").filter(Boolean);
  return (first ?? "overview") + (second ? "-one" : "");
};
