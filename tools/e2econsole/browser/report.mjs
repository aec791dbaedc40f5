// What was checked and how it went: a line for each check, those that failed with why.
export class Report {
  passed = 0;
  failed = 0;

  check(what, problems) {
    if (problems.length === 0) {
      this.passed++;
      console.log(`ok    ${what}`);
      return true;
    }
    this.failed++;
    console.log(`FAIL  ${what}`);
    for (const p of problems) console.log(`        ${p}`);
    return false;
  }

  // step runs a check that throws when it fails.
  async step(what, run) {
    try {
      await run();
      this.check(what, []);
    } catch (err) {
      this.check(what, [String(err?.message ?? err).replace(/\x1b\[\d+m/g, "").split("\n").slice(0, 6).join(" | ")]);
    }
  }
}

// must fails the step that it is in.
export function must(ok, otherwise) {
  if (!ok) throw new Error(otherwise);
}
