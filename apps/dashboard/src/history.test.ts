import { describe, expect, it } from "vitest";
import { levelOf, type Question, queryOf, servicesMeant } from "./history";

const ALL: Question = { service: "", severity: 0, text: "", trace: "", request: "", from: "", to: "" };

describe("queryOf", () => {
  it("asks for everything when nothing is wanted", () => {
    expect(queryOf(ALL, ["shop"])).toBe("");
  });
  it("turns part of a name into all services that have it, in a steady order", () => {
    expect(queryOf({ ...ALL, service: "SIM" }, ["sim-2", "shop", "sim-1"])).toBe("service=sim-1&service=sim-2");
  });
  it("is no question when it means too many", () => {
    const many = Array.from({ length: 51 }, (_, n) => `sim-${n}`);
    expect(queryOf({ ...ALL, service: "sim" }, many)).toBeNull();
    expect(queryOf({ ...ALL, service: "sim-7" }, many)).toBe("service=sim-7");
  });
  it("takes the whole of its last second", () => {
    const end = new URLSearchParams(queryOf({ ...ALL, to: "2024-01-15T10:30:05Z" }, []) ?? "").get("end");
    expect(end).toBe("2024-01-15T10:30:05.999Z");
  });
  it("takes every condition, and leaves out times that are none", () => {
    const from = "2024-01-15T10:30:00";
    const query = new URLSearchParams(queryOf({ ...ALL, severity: 13, text: "50% & more", trace: "t", request: "r", from, to: "soon" }, []) ?? "");
    expect(Object.fromEntries(query)).toEqual({ min_level: "WARN", search: "50% & more", trace_id: "t", request_id: "r", start: new Date(from).toISOString() });
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

describe("levelOf", () => {
  it.each([
    [null, 0],
    ["x", 0],
    ["8", 0],
    ["10", 9],
    ["17", 17],
    ["9999", 21],
  ])("%j", (text, level) => {
    expect(levelOf(text)).toBe(level);
  });
});
