// What somebody types, opens or waits for, while the page changes and the site is slow.
import { must } from "./report.mjs";
import { put } from "./live.mjs";

const alert = (page) => page.locator("[role=alert]").first().innerText();
const isLive = (page) => page.locator("#live", { hasText: "Live" }).waitFor();

export async function typing({ browser, config, report, cookies }) {
  const context = await browser.context({ cookies });
  const page = await browser.page(context);
  const key = `typing/${process.pid}`, one = `${config.base}/keys/one?key=${encodeURIComponent(key)}`;
  const shown = page.locator("#value pre"), form = page.locator("#edit form[data-whole]"), field = form.locator("textarea"), revision = form.locator("[name=revision]");
  await put(config, key, "first");

  await report.step("a form in which nobody types follows the key", async () => {
    await page.goto(one);
    await isLive(page);
    await put(config, key, "second");
    await shown.getByText("second").waitFor({ timeout: 5000 });
    must((await field.inputValue()).trim() === "second", `the form has ${await field.inputValue()}`);
  });
  await report.step("a form in which one types is not overwritten, and stays about the revision that one has seen", async () => {
    const before = await revision.inputValue();
    await field.click();
    await field.press("End");
    await page.keyboard.type(" and mine");
    await field.evaluate((e) => e.setSelectionRange(2, 5));
    await put(config, key, "third");
    await shown.getByText("third").waitFor({ timeout: 5000 });
    must((await field.inputValue()) === "second and mine", `the form has ${await field.inputValue()}`);
    must((await revision.inputValue()) === before, `it is about revision ${await revision.inputValue()} now, was ${before}`);
    must(await field.evaluate((e) => e === document.activeElement && e.selectionStart === 2 && e.selectionEnd === 5), "the focus or the selection is gone");
  });
  await report.step("what was typed about an older revision is not saved, and says what the key is now", async () => {
    page.expected.add(409);
    const before = await revision.inputValue();
    await form.getByRole("button", { name: "Save" }).click();
    await page.locator("[role=alert]").first().waitFor();
    must((await shown.innerText()).includes("third"), `the page shows ${await shown.innerText()}`);
    must((await field.inputValue()).trim() === "second and mine", `the form has ${await field.inputValue()}`);
    must(Number(await revision.inputValue()) > Number(before), "the form is about the old revision yet");
  });
  await report.step("sent again it is saved", async () => {
    await form.getByRole("button", { name: "Save" }).click();
    await shown.getByText("second and mine").waitFor({ timeout: 10_000 });
    must((await page.locator("[role=alert]").count()) === 0, await page.locator("#messages").innerText());
  });
  await report.step("a file from here is sent, and what the box says of it is on the page", async () => {
    page.expected.add(409);
    await page.goto(config.base + "/update");
    await isLive(page);
    await page.locator("input[name=bundle]").setInputFiles({ name: "1.2.hfb", mimeType: "application/octet-stream", buffer: Buffer.from("no bundle") });
    await page.getByRole("button", { name: "Send it" }).click();
    await page.locator("[role=alert]").first().waitFor();
    const said = await alert(page);
    must(said.includes("cannot be done now") && page.url().endsWith("/update"), `${page.url()} says ${said}`);
  });
  await report.step("a part of the page that changes leaves what is typed and opened in it as it is", async () => {
    const name = `typing-${process.pid}`;
    await page.goto(config.base + "/settings");
    await isLive(page);
    const fresh = page.locator("details[data-key='a new one']");
    await fresh.locator("> summary").click();
    await fresh.locator("[name=text]").fill("half a poli");
    await page.locator("details[data-key='as they ship'] > summary").click();
    const other = await context.newPage();
    await other.goto(config.base + "/settings");
    const theirs = other.locator("details[data-key='a new one']");
    await theirs.locator("> summary").click();
    await theirs.locator("[name=name]").fill(name);
    await theirs.locator("[name=text]").fill(`forbid (principal is Program, action, resource in Prefix::"${name}/");`);
    await theirs.getByRole("button", { name: "Propose" }).click();
    const own = (p) => p.locator(`details[data-key='${name}']`);
    await own(page).waitFor({ timeout: 10_000 });
    must((await fresh.locator("[name=text]").inputValue()).trim() === "half a poli", `now ${await fresh.locator("[name=text]").inputValue()}`);
    must(await page.locator("details[data-key='as they ship']").evaluate((d) => d.open), "what was opened is closed");
    must(!(await own(page).evaluate((d) => d.open)), "what nobody opened is open");
    await own(other).locator("> summary").click();
    await own(other).locator("details.confirm > summary").click();
    await own(other).locator("button.danger").click();
    await own(page).waitFor({ state: "detached", timeout: 10_000 });
    must((await fresh.locator("[name=text]").inputValue()).trim() === "half a poli", "what was typed is gone");
    await other.close();
  });
  await cancel({ config, report, page, one, key });
  report.check("no complaint of the browser while one types", page.complaints);
  await context.close();
}

// cancel: two boxes of four hang, so that nothing is ordered; who waits sees it, and need not go on waiting.
async function cancel({ config, report, page, one, key }) {
  const form = page.locator("#edit form[data-whole]"), field = form.locator("textarea"), save = form.locator("button.main");
  const hang = (signal) => config.others.forEach((pid) => process.kill(pid, signal));
  await page.goto(one);
  await isLive(page);
  await field.fill("while two boxes hang");
  hang("SIGSTOP");
  try {
    await report.step("an action that takes long says so, and is sent once", async () => {
      let sent = 0;
      const count = (r) => r.method() === "POST" && sent++;
      page.on("request", count);
      await save.click();
      await form.locator(".progress", { hasText: "Working" }).waitFor({ timeout: 3000 });
      must(await save.isDisabled(), "the button can be pressed again");
      await field.evaluate((e) => e.form.requestSubmit()); // as by the keyboard
      page.off("request", count);
      must(sent === 1, `it was sent ${sent} times`);
    });
    await report.step("it can be cancelled, and what was typed stays", async () => {
      await form.getByRole("button", { name: "Cancel" }).click();
      await page.locator("[role=alert]").first().waitFor({ timeout: 3000 });
      must(/Cancelled/.test(await alert(page)), await alert(page));
      must((await field.inputValue()) === "while two boxes hang", await field.inputValue());
      must(!(await save.isDisabled()), "the button cannot be pressed");
      must((await form.locator(".progress").count()) === 0, "it is said to be under way yet");
    });
  } finally {
    hang("SIGCONT");
  }
  await report.step("the site goes on, and so does the page", async () => {
    await put(config, key, "all are back");
    await page.locator("#value pre").getByText("all are back").waitFor({ timeout: 15_000 });
  });
}
