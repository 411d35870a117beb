/** What the server says. Contracts: docs/protocol.md. */

export type Range = [number, number];
export type ServiceState = "ok" | "gapping" | "replaying" | "silent";

export interface Service {
  service: string;
  epoch: number;
  ackTill: number;
  highestSeen: number;
  missing: number[];
  missingRanges: Range[];
  missingCount: number;
  lostCount: number;
  inFlight: number;
  eps: number;
  errorRate: number;
  lagMs: number;
  oldestGapMs: number;
  lastSeen: string;
  state: ServiceState;
}

export interface Depth {
  depth: number;
  oldestMs: number;
}

export interface Worker {
  id: string;
  status: "idle" | "busy" | "dead";
  lastHeartbeat: string;
  jobsDone: number;
}

export interface Fault {
  action: string;
  active: boolean;
  until: string | null;
  parameters: { what?: string; worker?: string; jobs?: number };
}

export interface Snapshot {
  ts: string;
  eps: number;
  epsStored: number;
  errorRate: number;
  queue: { logs: Depth; retry: Depth; dead: number };
  ack: { p50Ms: number | null; p99Ms: number | null };
  services: Service[];
  workers: Worker[];
  replays: Record<ReplayStatus, number>;
  totals: {
    received: number;
    stored: number;
    duplicates: number;
    conflicts: number;
    lost: number;
    inFlight: number;
  };
  faults: Fault[];
  live: { sent: number; skipped: number; clients: number };
}

export interface Totals {
  produced: number;
  stored: number;
  buffered: number;
  inFlight: number;
  lost: number;
  unaccounted: number;
  duplicates: number;
  conflicts: number;
  expired: number;
  void: number;
}

export interface StreamProof extends Totals {
  service: string;
  epoch: number;
  ackTill: number;
  buffer: string;
  balanced: boolean;
}

export interface Proof {
  balanced: boolean;
  totals: Totals;
  streams: StreamProof[];
}

export type ReplayStatus = "pending" | "running" | "completed" | "lost";

export interface Replay {
  id: number;
  service: string;
  epoch: number;
  from: number;
  to: number;
  status: ReplayStatus;
  requestedBy: "gap" | "manual";
  attempts: number;
  found: number;
  inserted: number;
  createdAt: string;
  completedAt: string | null;
  latencyMs: number | null;
  error: string | null;
}

export interface LogEntry {
  id: string;
  service_name: string;
  level: string;
  level_text?: string;
  severity: number;
  message: string;
  timestamp: string;
  created_at: string;
  trace_id?: string;
  request_id?: string;
  metadata?: unknown;
  [more: string]: unknown;
}
