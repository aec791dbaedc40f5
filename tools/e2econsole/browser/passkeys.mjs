// Passkeys, with Chromium's own authenticator as a program (CDP, WebAuthn domain).
import { must } from "./report.mjs";

const password = "correct horse battery";

export async function passkeys({ browser, config, report, axeOf }) {
  const { base, code } = config.passkey;
  const context = await browser.context();
  const page = await browser.page(context);
  const cdp = await context.newCDPSession(page);
  await cdp.send("WebAuthn.enable");
  const device = async () => (await cdp.send("WebAuthn.addVirtualAuthenticator", {
    options: { protocol: "ctap2", ctap2Version: "ctap2_1", transport: "internal", hasResidentKey: true, hasUserVerification: true, isUserVerified: true, automaticPresenceSimulation: true },
  })).authenticatorId;
  const authenticator = await device();
  const alert = () => page.locator("[role=alert]").first().innerText();
  const signOut = async () => {
    await page.goto(base + "/");
    await Promise.all([page.waitForURL("**/login"), page.click("form[action='/logout'] button")]);
  };
  const signIn = page.locator("button[data-passkey=sign-in]");

  await report.step("an operator adds a passkey", async () => {
    await page.goto(base + "/setup");
    await page.fill("[name=code]", code);
    await page.fill("[name=name]", "ann");
    await page.fill("[name=password]", password);
    await page.fill("[name=again]", password);
    await Promise.all([page.waitForURL((u) => u.pathname === "/"), page.click("main form button")]);
    await page.goto(base + "/operators");
    await page.fill("#passkey-name", "ann's phone");
    await page.click("form[data-passkey=add] button");
    await page.locator("#passkeys tbody th", { hasText: "ann's phone" }).waitFor();
    const { credentials } = await cdp.send("WebAuthn.getCredentials", { authenticatorId: authenticator });
    must(credentials.length === 1 && credentials[0].isResidentCredential && credentials[0].rpId === "localhost", JSON.stringify(credentials));
  });
  await axeOf(page, "operators with a passkey");
  await report.step("the same device does not make a second one", async () => {
    await page.fill("#passkey-name", "again");
    await page.click("form[data-passkey=add] button");
    await page.locator("[role=alert]").first().waitFor();
    must((await page.locator("#passkeys tbody th").count()) === 1, "there are two");
  });
  await report.step("one signs in with it, and goes where one wanted", async () => {
    await signOut();
    await page.goto(base + "/login?next=/operators");
    await Promise.all([page.waitForURL("**/operators"), signIn.click()]);
  });
  await report.step("what decides for the site asks for the password, once", async () => {
    const add = async (name) => {
      const form = page.locator("form[action='/operators/add']");
      await form.locator("[name=name]").fill(name);
      await form.locator("[name=password]").fill("a staple for " + name);
      await form.locator("button").click();
    };
    page.expected.add(403);
    await add("bob");
    await page.waitForURL("**/unlock**");
    await axeOf(page, "the password after a passkey");
    await page.fill("[name=password]", "not the password");
    await page.click("main form button");
    await page.locator("[role=alert]").first().waitFor();
    must(/password/i.test(await alert()), await alert());
    await page.fill("[name=password]", password);
    await Promise.all([page.waitForURL("**/operators"), page.click("main form button")]);
    must((await page.locator("#list tbody th", { hasText: "bob" }).count()) === 0, "it was done without");
    await add("bob");
    await page.locator("#list tbody th", { hasText: "bob" }).waitFor();
  });
  await signOut();
  await axeOf(page, "login with passkeys");
  await report.step("without the user's finger or PIN nobody is let in", async () => {
    await cdp.send("WebAuthn.setUserVerified", { authenticatorId: authenticator, isUserVerified: false });
    await signIn.click();
    await page.locator("[role=alert]").first().waitFor();
    must(new URL(page.url()).pathname === "/login", page.url());
    await cdp.send("WebAuthn.setUserVerified", { authenticatorId: authenticator, isUserVerified: true });
  });
  await report.step("a copy of the device that counts less is refused", async () => {
    page.expected.add(401);
    const { credentials } = await cdp.send("WebAuthn.getCredentials", { authenticatorId: authenticator });
    await cdp.send("WebAuthn.removeVirtualAuthenticator", { authenticatorId: authenticator });
    const copy = await device();
    await cdp.send("WebAuthn.addCredential", { authenticatorId: copy, credential: { ...credentials[0], signCount: 0 } });
    await page.reload();
    await signIn.click();
    await page.locator("[role=alert]").first().waitFor();
    must(/counter/.test(await alert()), await alert());
    await cdp.send("WebAuthn.removeVirtualAuthenticator", { authenticatorId: copy });
    const right = await device();
    await cdp.send("WebAuthn.addCredential", { authenticatorId: right, credential: { ...credentials[0], signCount: credentials[0].signCount + 10 } });
  });
  await report.step("a passkey that was removed opens nothing", async () => {
    await page.reload();
    await Promise.all([page.waitForURL((u) => u.pathname === "/"), signIn.click()]);
    await page.goto(base + "/operators");
    await page.click("form[action$='/remove'] button");
    await page.waitForURL("**/unlock**");
    await page.fill("[name=password]", password);
    await Promise.all([page.waitForURL("**/operators"), page.click("main form button")]);
    await page.click("form[action$='/remove'] button");
    await page.waitForURL("**/login**").catch(() => {}); // the session ends with the passkey that it began with
    await page.goto(base + "/login");
    await signIn.click();
    await page.locator("[role=alert]").first().waitFor();
    must(/nobody has registered/.test(await alert()), await alert());
  });
  await report.step("at an address there are none", async () => {
    await page.goto(base.replace("localhost", "127.0.0.1") + "/login");
    must((await signIn.count()) === 0, "the button is there");
  });
  report.check("no complaint of the browser while passkeys are used", page.complaints);
  await context.close();
}
