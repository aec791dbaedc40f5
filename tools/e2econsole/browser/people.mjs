// What people do with forms: with script and without.
import { must } from "./report.mjs";

const alert = (page) => page.locator("[role=alert]").first().innerText();

// forms: who errs is told what to do and keeps what was typed.
export async function forms({ browser, config, report }) {
  for (const script of [true, false]) {
    const how = script ? "" : " (without script)";
    const context = await browser.context({ script, view: script ? "phone" : "desktop" });
    const page = await browser.page(context);
    await report.step(`a wrong password is told, and the name stays${how}`, async () => {
      page.expected.add(401).add(403).add(429);
      await page.goto(config.base + "/login?next=/operators"); // where `holdfast dev` leads nobody: its pages are open
      await page.fill("[name=name]", config.operator);
      await page.fill("[name=password]", "not the password");
      await Promise.all([page.waitForEvent("load"), page.click("main form button")]);
      must(/password/i.test(await alert(page)), await alert(page));
      must((await page.inputValue("[name=name]")) === config.operator, "the name is gone");
      must((await page.inputValue("[name=password]")) === "", "the password came back");
    });
    await report.step(`after the login one is where one wanted to be${how}`, async () => {
      await page.fill("[name=password]", config.password);
      await Promise.all([page.waitForURL("**/operators"), page.click("main form button")]);
    });
    await report.step(`an operator with a short password is not added, and what was typed stays${how}`, async () => {
      page.expected.add(400).add(422);
      const form = page.locator("form[action='/operators/add']");
      await form.locator("[name=name]").fill("carol");
      await form.locator("[name=password]").fill("short");
      await form.locator("[name=role]").selectOption("operator");
      await form.evaluate((f) => { f.noValidate = true; });
      await form.locator("button").click();
      await page.locator("[role=alert]").first().waitFor();
      must(/12|short|long/i.test(await alert(page)), await alert(page));
      must((await form.locator("[name=name]").inputValue()) === "carol", "the name is gone");
      must((await form.locator("[name=role]").inputValue()) === "operator", "the role is another");
    });
    await report.step(`somebody is added and is in the list${how}`, async () => {
      const form = page.locator("form[action='/operators/add']"), name = script ? "dora" : "emil";
      await form.locator("[name=name]").fill(name);
      await form.locator("[name=password]").fill("a staple for " + name);
      await form.locator("button").click();
      await page.locator("tbody th", { hasText: name }).first().waitFor();
      must((await page.locator("[role=alert]").count()) === 0, "there is an alert");
    });
    await report.step(`the password form says that the old one is wrong${how}`, async () => {
      await page.goto(config.base + "/password");
      await page.fill("[name=old]", "not the password");
      await page.fill("[name=password]", "quite another staple");
      await page.fill("[name=again]", "quite another staple");
      await page.click("main form button");
      await page.locator("[role=alert]").first().waitFor();
      must(/password/i.test(await alert(page)), await alert(page));
    });
    await report.step(`one signs out${how}`, async () => {
      await page.goto(config.base + "/");
      if (await page.locator("header button.menu").isVisible()) await page.click("header button.menu");
      await page.click("form[action='/logout'] button");
      await page.goto(config.base + "/");
      must((await page.locator("form[action='/logout']").count()) === 0, "still in");
    });
    report.check(`no complaint of the browser while forms are used${how}`, page.complaints);
    await context.close();
  }
  await firstPassword({ browser, config, report });
}

// settings: what the site decides about itself is proposed on the page, and a token is shown once.
export async function settings({ browser, config, report, cookies, paths }) {
  if (!paths.includes("/settings")) return;
  for (const script of config.short ? [true] : [true, false]) {
    const how = script ? "" : " (without script)";
    const context = await browser.context({ script, cookies, view: script ? "phone" : "desktop" });
    const page = await browser.page(context);
    const name = script ? "shop-hours" : "night-hours", text = `forbid (principal is Program, action, resource in Prefix::"${name}/");`;
    await page.goto(config.base + "/settings");
    const fresh = page.locator("details[data-key='a new one']"), own = page.locator(`details[data-key='${name}']`);
    const open = async (details) => { if (!(await details.evaluate((d) => d.open))) await details.locator("> summary").click(); };
    await report.step(`a policy that is none is refused, and what was typed stays${how}`, async () => {
      page.expected.add(400);
      await open(fresh);
      await fresh.locator("[name=name]").fill(name);
      await fresh.locator("[name=text]").fill("forbid everything");
      await fresh.locator("button").click();
      await page.locator("[role=alert]").first().waitFor();
      must(/policy/i.test(await alert(page)), await alert(page));
      must((await fresh.locator("[name=text]").inputValue()).trim() === "forbid everything", await fresh.locator("[name=text]").inputValue());
      must((await fresh.locator("[name=name]").inputValue()) === name, "the name is gone");
    });
    await report.step(`a policy is proposed, and the site decides${how}`, async () => {
      await fresh.locator("[name=text]").fill(text);
      await fresh.locator("button").click();
      await own.waitFor({ timeout: 10_000 });
      await open(own);
      must((await own.locator("pre").innerText()).includes(text), await own.locator("pre").innerText());
    });
    await report.step(`and removed${how}`, async () => {
      await open(own);
      await own.locator("details.confirm > summary").click();
      await own.locator("button.danger").click();
      await own.waitFor({ state: "detached", timeout: 10_000 });
    });
    await report.step(`a setting of the site is changed and put back${how}`, async () => {
      const joins = page.locator("#site [data-key=joins]");
      await joins.locator("select").selectOption({ label: "operator" });
      await joins.getByRole("button", { name: "Set" }).click();
      await joins.locator("h3", { hasText: "joins: operator" }).waitFor({ timeout: 10_000 });
      await joins.getByRole("button", { name: "As it ships" }).click();
      await joins.locator("h3", { hasText: "as it ships" }).waitFor({ timeout: 10_000 });
    });
    await report.step(`a token is shown once, listed and revoked${how}`, async () => {
      const form = page.locator("form[action='/access/token']");
      await form.locator("[name=actions]").fill("kv.get");
      await form.locator("[name=resources]").fill("key:shop/*");
      await form.locator("button").click();
      const note = page.locator("#messages", { hasText: "shown this once" });
      await note.waitFor();
      const token = /hf1\.[A-Za-z0-9_-]{50,}/.exec(await note.innerText())?.[0];
      must(token, await note.innerText());
      await page.goto(config.base + "/settings");
      must(!(await page.content()).includes(token), "the token is shown again");
      const row = page.locator("#issued tr", { hasText: "key:shop/*" }).first();
      await row.locator("summary").click();
      await row.locator("button.danger").click();
      await page.locator("#issued tr", { hasText: "key:shop/*" }).first().getByText("revoked", { exact: true }).waitFor({ timeout: 10_000 });
    });
    report.check(`no complaint of the browser while the site is set${how}`, page.complaints);
    await context.close();
  }
}

// firstPassword: who was added must choose a password before anything else.
async function firstPassword({ browser, config, report }) {
  const context = await browser.context({ view: "phone" });
  const page = await browser.page(context);
  await report.step("who was added chooses a password first", async () => {
    await page.goto(config.base + "/login");
    await page.fill("[name=name]", "dora");
    await page.fill("[name=password]", "a staple for dora");
    await Promise.all([page.waitForURL("**/password**"), page.click("main form button")]);
    await page.fill("[name=old]", "a staple for dora");
    await page.fill("[name=password]", "quite another staple");
    await page.fill("[name=again]", "quite another staple");
    await page.click("main form button");
    await page.waitForURL((u) => u.pathname !== "/password");
  });
  await report.step("a viewer sees no form for what a viewer may not do", async () => {
    await page.goto(config.base + "/operators");
    must((await page.locator("form[action='/operators/add']").count()) === 0, "the form to add operators is there");
    must((await page.locator("main tbody th").count()) > 0, "the list of operators is not");
  });
  await context.close();
}

// setup: the first operator of a new box.
export async function setup({ browser, config, report, axeOf }) {
  if (!config.fresh) return;
  const context = await browser.context({ view: "phone", scheme: "dark" });
  const page = await browser.page(context);
  page.expected.add(400).add(401).add(403).add(422).add(429);
  const fill = async (code, again) => {
    await page.fill("[name=code]", code);
    await page.fill("[name=name]", "ann");
    await page.fill("[name=password]", "correct horse battery");
    await page.fill("[name=again]", again);
    await page.click("main form button");
  };
  await report.step("a new box asks for its setup code", async () => {
    await page.goto(config.fresh.base + "/");
    must(new URL(page.url()).pathname === "/setup", page.url());
  });
  await axeOf(page, "setup");
  await report.step("a wrong setup code is told, and the name stays", async () => {
    await fill("AAAA-BBBB-CCCC-DDDD", "correct horse battery");
    await page.locator("[role=alert]").first().waitFor();
    must(/code/i.test(await alert(page)), await alert(page));
    must((await page.inputValue("[name=name]")) === "ann", "the name is gone");
  });
  await report.step("two passwords that differ are told", async () => {
    await fill(config.fresh.code, "correct horse batterz");
    await page.locator("[role=alert]").first().waitFor();
    must(/same|differ|again/i.test(await alert(page)), await alert(page));
  });
  await report.step("the first operator is in", async () => {
    await fill(config.fresh.code, "correct horse battery");
    await page.waitForURL((u) => u.pathname === "/");
    must((await page.locator(".side form[action='/logout']").count()) === 1, "nobody is logged in");
  });
  report.check("no complaint of the browser during the setup", page.complaints);
  await context.close();
  const other = await browser.context();
  const stranger = await browser.page(other);
  await report.step("who is not logged in is asked to be, and then led where they wanted to go", async () => {
    await stranger.goto(config.fresh.base + "/trust");
    must(new URL(stranger.url()).pathname === "/login", stranger.url());
    await stranger.fill("[name=name]", "ann");
    await stranger.fill("[name=password]", "correct horse battery");
    await Promise.all([stranger.waitForURL("**/trust"), stranger.click("main form button")]);
  });
  await axeOf(stranger, "trust of a site of one box");
  await other.close();
}
