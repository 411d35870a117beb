import { describe, expect, it } from "vitest";
import { around, aroundPaths, type Question, queryOf } from "./history";
import type { LogEntry } from "./types";

const ALL: Question = { service: "", severity: 0, text: "", trace: "", request: "", from: "", to: "" };

function line(id: string, timestamp: string): LogEntry {
  return { id, timestamp, service_name: "shop", level: "INFO", severity: 9, message: id, created_at: timestamp };
}

describe("queryOf", () => {
  it("asks for everything when nothing is wanted", () => {
    expect(queryOf(ALL, ["shop"])).toBe("");
  });
  it("turns part of a name into all services that have it, in a steady order", () => {
    expect(queryOf({ ...ALL, service: "SIM" }, ["sim-2", "shop", "sim-1"])).toBe("service=sim-1&service=sim-2");
  });
  it("asks for the name itself when none or too many have it", () => {
    const many = Array.from({ length: 51 }, (_, n) => `sim-${n}`);
    expect(queryOf({ ...ALL, service: "sim" }, many)).toBe("service=sim");
    expect(queryOf({ ...ALL, service: "gone" }, ["shop"])).toBe("service=gone");
  });
  it("takes every condition, and leaves out times that are none", () => {
    const from = "2024-01-15T10:30:00";
    const query = new URLSearchParams(queryOf({ ...ALL, severity: 13, text: "50% & more", trace: "t", request: "r", from, to: "soon" }, []));
    expect(Object.fromEntries(query)).toEqual({ min_level: "WARN", search: "50% & more", trace_id: "t", request_id: "r", start: new Date(from).toISOString() });
  });
});

describe("around", () => {
  it("asks for both sides with the moment itself in both", () => {
    const [before, after] = aroundPaths(line("b", "2024-01-15T10:30:00.000Z"));
    expect(new URLSearchParams(before.split("?")[1]).get("end")).toBe("2024-01-15T10:30:00.000Z");
    expect(new URLSearchParams(after.split("?")[1]).get("start")).toBe("2024-01-15T10:30:00.000Z");
    expect(after).toContain("order=asc");
  });
  it("shows every line once, oldest first, and the entry even if neither side has it", () => {
    const [a, b, c, d] = [line("a", "1"), line("b", "2"), line("c", "2"), line("d", "3")];
    expect(around([b, a], c, [b, d]).map((l) => l.id)).toEqual(["a", "b", "c", "d"]);
  });
});
