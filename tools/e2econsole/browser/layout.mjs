// The layout of the pages as it was when somebody looked at it and found it good: landmarks and sections with their left edge, top, width and
// height in CSS pixels. Widths, edges and the order are the design's; heights are only for who reads this file: they follow the data.
import { readFileSync, writeFileSync } from "node:fs";

const edge = 10; // px, for left edges and widths

export class Layout {
  constructor(file, update) {
    this.file = file;
    this.update = update;
    this.known = update ? {} : JSON.parse(readFileSync(file, "utf8"));
  }

  compare(page, view, now) {
    if (this.update) {
      (this.known[page] ??= {})[view] = now;
      return [];
    }
    const was = this.known[page]?.[view];
    if (!was) return [`there is no layout of it; look at its picture, then: go run ./tools/e2econsole -update`];
    const bad = [];
    for (const [key, [left, , width]] of Object.entries(was)) {
      const b = now[key];
      if (!b) {
        bad.push(`${key} is gone`);
        continue;
      }
      if (Math.abs(b[0] - left) > edge || Math.abs(b[2] - width) > edge) bad.push(`${key} is ${b[2]} wide at ${b[0]}, was ${width} at ${left}`);
    }
    for (const key of Object.keys(now)) if (!was[key]) bad.push(`${key} is new`);
    const order = (list) => Object.entries(list).filter(([k]) => was[k] && now[k] && k.startsWith("section")).sort(([, a], [, b]) => a[1] - b[1] || a[0] - b[0]).map(([k]) => k).join(" ");
    if (order(was) !== order(now)) bad.push(`sections are in another order: ${order(now)}; was ${order(was)}`);
    return bad;
  }

  save() {
    if (!this.update) return;
    const page = ([name, views]) => `  ${JSON.stringify(name)}: {\n${Object.entries(views).map(([v, list]) => `    ${JSON.stringify(v)}: {\n${Object.entries(list).map(([k, b]) => `      ${JSON.stringify(k)}: [${b.join(", ")}]`).join(",\n")}\n    }`).join(",\n")}\n  }`;
    writeFileSync(this.file, `{\n${Object.entries(this.known).map(page).join(",\n")}\n}\n`);
  }
}
