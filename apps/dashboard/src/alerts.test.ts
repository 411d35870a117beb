import { describe, expect, it } from "vitest";
import { changesOf, choiceOf, joined, linesOf, logsOf, metadataOf, split, wordsOf } from "./alerts";

describe("metadata lines", () => {
  it.each([
    [{ a: "b" }, "a=b"],
    [{ a: 5, b: "5", c: true, d: null, e: "true" }, 'a=5\nb="5"\nc=true\nd=null\ne="true"'],
    [{ "a.b": "x = y", id: "12345678901234567890" }, "a.b=x = y\nid=12345678901234567890"],
    [{ a: "two\nlines", b: " spaces ", c: "" }, 'a="two\\nlines"\nb=" spaces "\nc='],
  ])("%j", (metadata, lines) => {
    expect(linesOf(metadata)).toBe(lines);
    expect(metadataOf(lines)).toEqual(metadata);
  });
  it("are refused where there is no key", () => {
    expect(() => metadataOf("a=1\n=2")).toThrow("key=value");
    expect(() => metadataOf("words")).toThrow("key=value");
  });
  it("say nothing of what they could not say again", () => {
    expect(linesOf({ "a=b": "c" })).toBeNull();
    expect(linesOf("text")).toBeNull();
  });
});

describe("split and joined", () => {
  it.each([
    {},
    { service: "shop", min_level: "WARN", search: "50%", environment: "prod", metadata: { code: 5 } },
    { service: ["a", "b"], level: "notice", host: "h1", metadata: { "a=b": 1 } },
    { service: "shop", service_name: "other" },
  ])("keep %j", (filter) => {
    const { fields, rest } = split(filter);
    expect(joined(fields, rest)).toEqual(filter);
  });
  it("knows the other name of a service, and levels in any case", () => {
    expect(split({ service_name: "shop", level: "error" }).fields).toMatchObject({ service: "shop", level: "ERROR" });
  });
});

describe("logsOf", () => {
  it.each([
    [{}, "", false],
    [{ service: "a&b", min_level: "warn", search: "x y" }, "&service=a%26b&severity=13&text=x+y", false],
    [{ min_level: "emergency" }, "&severity=21", true],
    [{ min_level: "debug", host: "h" }, "&host=h", false],
    [{ host: "h", environment: "", level: ["ERROR", "info"] }, "&level=error%2Cinfo%2Cnotice&host=h", false],
    [{ trace_id: "t", level: "fatal" }, "&level=critical&trace_id=t", false],
    [{ level: "crit" }, "", true],
    [{ level: "error", min_level: "warn" }, "&severity=13", true],
    [{ host: ["a", "b"] }, "", true],
    [{ service: ["a", "b"] }, "", true],
  ])("%j", (filter, query, wider) => {
    expect(logsOf(filter)).toEqual({ href: `/live-logs?view=history${query}`, wider });
  });
});

it("says in words what is counted", () => {
  expect(wordsOf({ service: ["a", "b"], min_level: "WARN", metadata: { code: 5 } })).toEqual(["service a or b", "level at least WARN", "metadata code = 5"]);
});

it("tells a channel of one's own from the server's", () => {
  expect(choiceOf("slack")).toBe("*slack");
  expect(choiceOf({ type: "slack", disabled: true })).toBe("*slack");
  expect(choiceOf({ type: "webhook", url: "http://x" })).toBe("webhook");
});

describe("changesOf", () => {
  const opened = { name: "a", description: null, filter: { service: "s", metadata: { b: 1, a: 2 } }, threshold: 5, channels: [{ type: "webhook", url: "u", disabled: true }] };
  const same = { name: "a", description: "", filter: { metadata: { a: 2, b: 1 }, service: "s" }, threshold: 5, channels: [{ url: "u", type: "webhook", disabled: true }] };
  it("is nothing where nothing was changed", () => expect(changesOf(opened, same)).toEqual({}));
  it("is what was changed, lists and filters whole", () => {
    const changed = { ...same, description: "d", filter: { service: "t" }, channels: [] };
    expect(changesOf(opened, changed)).toEqual({ description: "d", filter: { service: "t" }, channels: [] });
  });
});
