import { describe, expect, it } from "vitest";
import { filterOf, levelsOf, localTime, momentOf, type Question, queryOf, readQuestion, servicesMeant } from "./question";

const ALL: Question = readQuestion(new URLSearchParams());
const NOW = Date.parse("2024-01-15T12:00:00Z");
const asked = (more: Partial<Question>, services: string[] = []) => {
  const filter = filterOf({ ...ALL, ...more }, services, NOW);
  return filter && queryOf(filter).toString();
};

describe("filterOf", () => {
  it("asks for everything when nothing is wanted", () => {
    expect(asked({}, ["shop"])).toBe("");
  });
  it("turns part of a name into all services that have it, in a steady order", () => {
    expect(asked({ service: "SIM" }, ["sim-2", "shop", "sim-1"])).toBe("service=sim-1&service=sim-2");
  });
  it("is no question when it means too many", () => {
    const many = Array.from({ length: 51 }, (_, n) => `sim-${n}`);
    expect(asked({ service: "sim" }, many)).toBeNull();
    expect(asked({ service: "sim-7" }, many)).toBe("service=sim-7");
  });
  it("counts back from now, whatever else is given", () => {
    expect(filterOf({ ...ALL, last: "1h", to: "2020-01-01T00:00:00" }, [], NOW)).toEqual({ start: "2024-01-15T11:00:00.000Z" });
  });
  it("takes every condition, and leaves out times that are none", () => {
    const from = "2024-01-15T10:30:00";
    const filter = filterOf({ ...ALL, levels: ["warning", "critical"], text: "50% & more", exact: { trace_id: "t", host: "h" }, from, to: "soon" }, [], NOW);
    expect(filter).toEqual({ level: ["warn", "fatal"], search: "50% & more", trace_id: "t", host: "h", start: new Date(from).toISOString() });
  });
});

describe("readQuestion", () => {
  it("is what an address says, and nothing of what it does not know", () => {
    const question = readQuestion(new URLSearchParams("service=a&level=error,nonsense&last=2y&host=h&evil=1&batch_id="));
    expect(question).toEqual({ ...ALL, service: "a", levels: ["error"], exact: { host: "h" } });
  });
});

describe("servicesMeant", () => {
  it.each([
    ["", []],
    ["a", ["a"]],
    ["A", ["a", "data"]],
    ["at", ["data"]],
    ["gone", ["gone"]],
  ])("%j", (word, meant) => {
    expect(servicesMeant(word, ["data", "a", "shop"])).toEqual(meant);
  });
});

describe("levelsOf", () => {
  it.each([
    [null, null, []],
    ["", "x", []],
    ["error,info", "1", ["info", "error"]],
    [null, "13", ["warning", "error", "critical"]],
    [null, "9999", ["critical"]],
    [null, "-3", []],
  ])("%j %j", (level, severity, names) => {
    expect(levelsOf(level, severity)).toEqual(names);
  });
});

describe("local times of inputs", () => {
  it("are read back as the same moment, in whole seconds", () => {
    expect(momentOf(localTime("2024-07-15T12:00:01.250Z"))).toBe("2024-07-15T12:00:01.000Z");
  });
  it("take the whole of their last second", () => {
    expect(momentOf(localTime("2024-01-15T10:30:05Z"), true)).toBe("2024-01-15T10:30:05.999Z");
  });
  it.each(["", "soon", "0001-01-01T00:00:00", "0202-01-01T00:00:00"])("%j is none yet", (text) => {
    expect(momentOf(text)).toBe("");
  });
  it("are empty for what is no moment", () => expect(localTime("garbage")).toBe(""));
});
