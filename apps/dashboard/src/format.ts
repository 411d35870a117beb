/** Numbers, times and shares as people read them. Pure. */

const whole = new Intl.NumberFormat("en-US", { maximumFractionDigits: 0 });
const tenth = new Intl.NumberFormat("en-US", { minimumFractionDigits: 1, maximumFractionDigits: 1 });

export function count(n: number): string {
  return whole.format(n);
}

/** A rate per second: one digit below 100, none above. */
export function rate(n: number): string {
  return n < 100 ? tenth.format(n) : whole.format(n);
}

export function percent(share: number): string {
  const value = share * 100;
  if (value === 0) return "0 %";
  return value < 0.1 ? "< 0.1 %" : `${tenth.format(value)} %`;
}

export function millis(ms: number | null): string {
  if (ms === null) return "–";
  if (ms < 10) return `${tenth.format(ms)} ms`;
  if (ms < 1000) return `${whole.format(ms)} ms`;
  return duration(ms);
}

/** 950 ms, 4.2 s, 3 min, 2 h 10 min, 5 d. */
export function duration(ms: number): string {
  if (ms < 1000) return `${whole.format(ms)} ms`;
  const s = ms / 1000;
  if (s < 60) return `${s < 10 ? tenth.format(s) : whole.format(s)} s`;
  const min = Math.floor(s / 60);
  if (min < 60) return `${min} min`;
  const h = Math.floor(min / 60);
  if (h < 48) return min % 60 ? `${h} h ${min % 60} min` : `${h} h`;
  return `${Math.floor(h / 24)} d`;
}

/** How long before `now` (Unix ms) it was: 4 s ago, 3 min ago; "in 2 min" of a clock that goes ahead. */
export function ago(iso: string, now: number): string {
  const age = now - Date.parse(iso);
  if (Number.isNaN(age)) return "–";
  const seconds = Math.round(Math.abs(age) / 1000);
  if (seconds === 0) return "now";
  const told = seconds < 60 ? `${seconds} s` : duration(seconds * 1000);
  return age > 0 ? `${told} ago` : `in ${told}`;
}

const pad = (n: number, width = 2) => String(n).padStart(width, "0");

export function clock(iso: string, withMillis = false): string {
  const at = new Date(iso);
  if (Number.isNaN(at.getTime())) return "–";
  const time = `${pad(at.getHours())}:${pad(at.getMinutes())}:${pad(at.getSeconds())}`;
  return withMillis ? `${time}.${pad(at.getMilliseconds(), 3)}` : time;
}

/** The time of day, and before it the day where it is not today's. */
export function when(iso: string, withMillis = false): string {
  const at = new Date(iso);
  const time = clock(iso, withMillis);
  if (at.toDateString() === new Date().toDateString() || Number.isNaN(at.getTime())) return time;
  return `${at.getFullYear()}-${pad(at.getMonth() + 1)}-${pad(at.getDate())} ${time}`;
}

export function plural(n: number, one: string, many = `${one}s`): string {
  return `${count(n)} ${n === 1 ? one : many}`;
}

/** `first–last`, or the number alone. */
export function range([first, last]: [number, number]): string {
  return first === last ? count(first) : `${count(first)} – ${count(last)}`;
}

const CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";

/** The same 128 bits as the UUID, in the letters of the logstream door; "–" where it is none. */
export function ulid(uuid: string): string {
  const digits = uuid.replaceAll("-", "");
  if (!/^[0-9a-f]{32}$/i.test(digits)) return "–";
  let bits = BigInt(`0x${digits}`);
  let text = "";
  for (let n = 0; n < 26; n += 1, bits >>= 5n) text = CROCKFORD[Number(bits & 31n)] + text;
  return text;
}
