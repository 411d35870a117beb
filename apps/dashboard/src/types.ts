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
  app_id?: string;
  category?: string;
  metadata?: unknown;
  [more: string]: unknown;
}

export const DEFAULT_TENANT = "00000000-0000-0000-0000-000000000000";

export type KeyScope = "write" | "read" | "admin";

export interface ApiKey {
  id: string;
  name: string;
  scopes: KeyScope[];
  tenant_id: string | null;
  app_key: string | null;
  doors: string[] | null;
  rate: number | null;
  expires_at: string | null;
  created_at: string;
}

export interface Policy {
  id: string;
  tenant_id: string;
  retention_days: number;
  max_size_gb: number;
  archive_enabled: boolean;
  archive_path: string | null;
  created_at: string;
  updated_at: string;
}

export interface Run {
  id: string;
  started_at: string | null;
  finished_at: string | null;
  dry_run: boolean;
  archived: number;
  deleted_rows: number;
  dropped_partitions: number;
  error: string | null;
  tenants: number;
}

export type ChannelType = "webhook" | "slack" | "email" | "pagerduty";
export interface OwnChannel {
  type: ChannelType;
  disabled?: boolean;
  url?: string;
  secret?: string;
  webhook?: string;
  recipients?: string[];
  integration_key?: string;
  routing_key?: string;
}
export type Channel = ChannelType | OwnChannel; // a bare word is the server's own
export type Filter = Record<string, unknown>;

export interface Alert {
  id: string;
  tenant_id: string;
  name: string;
  description: string;
  enabled: boolean;
  filter: Filter;
  threshold: number;
  window_mins: number;
  severity: "INFO" | "WARN" | "ERROR" | "CRITICAL";
  cooldown_mins: number;
  channels: Channel[];
  last_triggered: string | null;
  created_at: string;
  updated_at: string;
}

export interface Delivery {
  id: string;
  type: ChannelType;
  status: "pending" | "sent" | "failed";
  attempts: number;
  http_status: number | null;
  error: string | null;
  created_at: string;
  next_attempt_at: string | null;
  finished_at: string | null;
}
