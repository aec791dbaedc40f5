// Drives the console in a browser and says what is wrong with it. The only argument is a file of JSON that tools/e2econsole writes.
import { mkdirSync, readFileSync } from "node:fs";
import { Browser, logIn, navigation } from "./browser.mjs";
import { keyboard } from "./keyboard.mjs";
import { Layout } from "./layout.mjs";
import { gone, live } from "./live.mjs";
import { axe } from "./look.mjs";
import { everyPage, further, light, policyHolds, withoutScript } from "./pages.mjs";
import { passkeys } from "./passkeys.mjs";
import { forms, settings, setup } from "./people.mjs";
import { Report } from "./report.mjs";
import { typing } from "./typing.mjs";

const config = JSON.parse(readFileSync(process.argv[2], "utf8"));
mkdirSync(config.shots, { recursive: true });
const report = new Report();
const browser = await Browser.launch(config);
const part = (name) => !config.only || config.only.includes(name);
try {
  const cookies = await logIn(browser, config.base, config.operator, config.password);
  config.cookiesOf = (base) => logIn(browser, base, config.operator, config.password);
  const listed = await navigation(browser, config.base, cookies);
  const paths = [...listed, ...(await further(browser, config, cookies, listed))];
  const layout = new Layout(config.layoutFile, config.update);
  const all = { browser, config, report, cookies, layout, paths: [...paths, "/password"] };
  console.log(`pages: ${all.paths.join(" ")}`);
  if (part("pages")) await everyPage(all);
  if (part("policy")) await policyHolds(all);
  if (part("policy")) await light(all);
  if (part("noscript")) await withoutScript({ ...all, paths });
  if (part("keyboard")) await keyboard({ ...all, paths: config.short ? paths.slice(0, 3) : all.paths });
  if (part("live")) await live(all);
  if (part("typing")) await typing(all);
  if (part("forms")) await forms(all);
  if (part("settings")) await settings(all);
  const axeOf = async (page, name) => {
    await page.evaluate(browser.axeSource);
    report.check(`${name}: axe`, await page.evaluate(axe));
  };
  if (part("setup")) await setup({ ...all, axeOf });
  if (part("passkeys")) await passkeys({ ...all, axeOf });
  if (part("gone") && !config.short) await gone(all);
  layout.save();
} finally {
  await browser.close();
}
console.log(`${report.passed} passed, ${report.failed} failed`);
process.exitCode = report.failed ? 1 : 0;
