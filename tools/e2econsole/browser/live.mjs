// The page follows the site by itself, and does not lose what its reader is doing.
import { must } from "./report.mjs";

export const put = (config, key, value) =>
  fetch(`${config.client}/v3/kv/put`, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ key: btoa(key), value: btoa(value) }) })
    .then((r) => must(r.ok, `put: ${r.status}`));

export async function live({ browser, config, report, cookies, paths }) {
  const context = await browser.context({ cookies });
  const page = await browser.page(context);
  await report.step("a write appears on the overview by itself, within 3 s", async () => {
    await page.goto(config.base + "/");
    await page.locator("#live", { hasText: "Live" }).waitFor();
    await page.evaluate(() => { window.stays = true; });
    const before = await page.locator("main").innerText();
    await put(config, "live/seen", String(Date.now()));
    await page.waitForFunction((was) => document.querySelector("main").innerText !== was, before, { timeout: 3000 });
    must(await page.evaluate(() => window.stays === true), "the page was loaded again");
  });
  if (paths.includes("/keys")) {
    await report.step("a key that is written appears in the list of keys by itself", async () => {
      await page.goto(config.base + "/keys?prefix=live/");
      await page.locator("#live", { hasText: "Live" }).waitFor();
      await put(config, "live/new-" + process.pid, "1");
      await page.getByText("live/new-" + process.pid).first().waitFor({ timeout: 5000 });
    });
  }
  await report.step("what is typed stays while the page changes", async () => {
    await page.goto(config.base + "/operators");
    await page.locator("#live", { hasText: "Live" }).waitFor();
    const field = page.locator("form[action='/operators/add'] [name=name]");
    await field.fill("half a na");
    // An event more: the stream's next tick after a change of the page's own data.
    await page.evaluate(() => new Promise((done) => {
      const s = new EventSource(document.body.dataset.events);
      s.addEventListener("sections", () => { s.close(); setTimeout(done); });
    }));
    must((await field.inputValue()) === "half a na", `now ${await field.inputValue()}`);
    must(await field.evaluate((e) => e === document.activeElement), "the focus is gone");
  });
  report.check("no complaint of the browser while pages change", page.complaints);
  await context.close();
}

// gone: the box dies and comes back; the page says both.
export async function gone({ browser, config, report }) {
  const context = await browser.context({ view: "phone", cookies: await config.cookiesOf(config.last.base) });
  const page = await context.newPage();
  await report.step("a box that does not answer is told, and the page goes on when it is back", async () => {
    await page.goto(config.last.base + "/");
    await page.locator("#live", { hasText: /^Live/ }).waitFor();
    process.kill(config.last.pid, "SIGKILL"); // `holdfast dev` starts it again
    await page.locator("#live[data-state=lost]").waitFor({ timeout: 10_000 });
    await page.locator("#live[data-state=ok]").waitFor({ timeout: 60_000 });
  });
  await context.close();
}
