// Runs a page's script as a browser would, with as much of a document as the script looks at: node page_browser.mjs
// URL STEPS, where STEPS is a JSON list of {fields, press}. Prints what is shown after each step, as JSON.
import { readFileSync } from "node:fs";
import vm from "node:vm";

const [url, steps] = [process.argv[2], JSON.parse(process.argv[3])];
const page = await (await fetch(url)).text();
const origin = new URL(url).origin;
const script = await (await fetch(origin + /<script src="([^"]+)"/.exec(page)[1])).text();

const element = (more) => ({ hidden: false, textContent: "", className: "", disabled: false, ...more });
const flow = /<form data-flow="(\w+)"( hidden)?>/.exec(page);
const buttons = [...page.matchAll(/<button type="submit"(?: name="(\w+)")?/g)].map((each) => element({ name: each[1] ?? "" }));
const inputs = Object.fromEntries([...page.matchAll(/<input id="(\w+)"/g)].map((each) => [each[1], element({ focus() {} })]));
const when = [...page.matchAll(/data-when="(\w+)" hidden/g)].map((each) =>
  element({ hidden: true, dataset: { when: each[1] }, querySelector: () => inputs.password }));
const shown = { status: element(), article: element({ hidden: true, innerHTML: "" }), h1: element() };
const saved = [];
let submit;
const form = element({
  hidden: Boolean(flow[2]),
  dataset: { flow: flow[1] },
  addEventListener: (_, listener) => (submit = listener),
  querySelectorAll: (selector) => (selector === "button" ? buttons : when),
});
const location = new URL(url);
const history = { state: null, replaceState(state, _, path) { this.state = state; location.href = origin + path; } };
const document = {
  title: "",
  documentElement: { dataset: { api: /data-api="([^"]+)"/.exec(page)[1] } },
  querySelector: (selector) => (selector === "h1" ? shown.h1 : form),
  getElementById: (id) => shown[id],
  createElement: () => ({ click() { saved.push(this.download); } }),
};
let fields = {};
const browser = {
  document, location, history, URLSearchParams, Object, Error, JSON, setTimeout: () => {},
  URL: Object.assign(URL, { createObjectURL: () => "blob:", revokeObjectURL() {} }),
  FormData: class { *[Symbol.iterator]() { yield* Object.entries(fields); } },
  fetch: (path, options) => fetch(origin + path, options),
};
vm.runInNewContext(script, browser);
const settled = async () => { for (let n = 0; n < 40; n += 1) await new Promise((done) => setTimeout(done, 5)); };
const state = () => ({
  status: shown.status.textContent, failed: shown.status.className === "failed", form: !form.hidden,
  asked: when.some((each) => !each.hidden), article: shown.article.innerHTML, address: location.href, saved,
  disabled: buttons.every((each) => each.disabled),
});
if (flow[1] === "content") await settled();
const results = [state()];
for (const step of steps) {
  fields = step.fields ?? {};
  const submitter = step.press ? { name: step.press } : { name: "" };
  await submit({ preventDefault() {}, submitter });
  results.push(state());
}
console.log(JSON.stringify(results));
