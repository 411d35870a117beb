/** Everything of an alert that somebody may choose. */

import { useRef, useState } from "react";
import { changesOf, choiceOf, type FilterFields, FIELDS, joined, LEVELS, split, typeOf } from "../alerts";
import type { Alert, Channel, Filter, OwnChannel } from "../types";
import { Check, Choice, Field, Form, numberOf, type Options, Text, textOf } from "./form";
import { JsonTree } from "./json";

const ANY_LEVEL: Options = [["", "any"], ...LEVELS.map((word) => [word, word] as const)];
const SEVERITIES: Options = ["INFO", "WARN", "ERROR", "CRITICAL"].map((word) => [word, word] as const);
const TYPES: Options = [
  ["webhook", "webhook"],
  ["slack", "Slack"],
  ["email", "e-mail"],
  ["pagerduty", "PagerDuty"],
  ["*webhook", "the server's own webhook"],
  ["*slack", "the server's own Slack"],
  ["*email", "the server's own e-mail"],
  ["*pagerduty", "the server's own PagerDuty"],
];

/** `send` is given what POST and PUT take. */
export function AlertForm({ alert, tenant, send, cancel }: { alert?: Alert; tenant: boolean; send: (body: object) => Promise<void>; cancel: () => void }) {
  const opened = useRef(alert).current; // what is asked for again meanwhile must not look like a change made here
  const { fields, rest } = split(opened?.filter ?? {});
  const [rows, setRows] = useState<Row[]>(() => (alert?.channels ?? []).map((channel, id) => ({ id, channel, choice: choiceOf(channel) })));
  const next = useRef(rows.length);
  const changed = (body: object) => (opened ? changesOf(opened, body) : body);
  const title = alert ? "Change the alert" : "New alert";
  return (
    <Form
      label={title}
      submit={alert ? "Save" : "Create"}
      cancel={cancel}
      send={(given) =>
        send(changed({
          ...(tenant && { tenant_id: textOf(given, "tenant_id") }),
          name: textOf(given, "name"),
          description: textOf(given, "description") ?? "",
          filter: filterOf(given, rest),
          threshold: numberOf(given, "threshold"),
          window_mins: numberOf(given, "window_mins"),
          cooldown_mins: numberOf(given, "cooldown_mins"),
          severity: textOf(given, "severity"),
          channels: rows.map((row, place) => channelOf(given, `channels[${place}]`, row)),
        }))
      }
    >
      <div className="form-grid">
        <Text label="Name" name="name" maxLength={255} defaultValue={alert?.name ?? ""} autoFocus />
        <Choice label="Severity" name="severity" value={alert?.severity ?? "ERROR"} options={SEVERITIES} />
        {tenant && <Text label="Tenant" name="tenant_id" hint="A name or a UUID; empty: the default one." />}
        <Field label="Description" name="description" wide>
          {(marks) => <textarea {...marks} rows={2} maxLength={4096} defaultValue={alert?.description ?? ""} />}
        </Field>
      </div>
      <fieldset>
        <legend>Entries that it counts</legend>
        <div className="form-grid">
          <Text label="Service" name="filter.service" defaultValue={fields.service} hint="Its whole name; empty: any." />
          <Choice label="Level at least" name="filter.min_level" value={fields.min_level} options={ANY_LEVEL} />
          <Choice label="Level exactly" name="filter.level" value={fields.level} options={ANY_LEVEL} />
          <Text label="Text in the message" name="filter.search" maxLength={256} defaultValue={fields.search} />
          <Text label="Environment" name="filter.environment" defaultValue={fields.environment} />
          <Field label="Metadata" name="filter.metadata" wide hint="key=value, a line each; numbers, true and null are such, unless in quotes.">
            {(marks) => <textarea {...marks} rows={2} spellCheck={false} defaultValue={fields.metadata} />}
          </Field>
        </div>
        {Object.keys(rest).length > 0 && <JsonTree name="and, kept as it is" value={rest} open />}
      </fieldset>
      <fieldset>
        <legend>When it triggers</legend>
        <div className="form-grid">
          <Text label="Entries, at least" name="threshold" inputMode="numeric" defaultValue={alert?.threshold ?? 1} />
          <Text label="Within minutes" name="window_mins" inputMode="numeric" defaultValue={alert?.window_mins ?? 5} />
          <Text label="Then quiet for minutes" name="cooldown_mins" inputMode="numeric" defaultValue={alert?.cooldown_mins ?? 1} />
        </div>
      </fieldset>
      <fieldset>
        <legend>Whom it tells</legend>
        {rows.map((row, place) => (
          <ChannelRow
            key={row.id}
            at={`channels[${place}]`}
            number={place + 1}
            row={row}
            change={(choice) => setRows(rows.map((one) => (one.id === row.id ? { ...one, choice } : one)))}
            remove={() => setRows(rows.filter((one) => one.id !== row.id))}
          />
        ))}
        <button type="button" onClick={() => setRows([...rows, { id: next.current++, choice: "webhook" }])}>
          Add a channel
        </button>
      </fieldset>
    </Form>
  );
}

interface Row {
  id: number; // of the form, so that a row keeps what was typed while others go
  channel?: Channel; // as it is stored
  choice: string;
}

function ChannelRow({ at, number, row, change, remove }: { at: string; number: number; row: Row; change: (choice: string) => void; remove: () => void }) {
  const known: Partial<OwnChannel> = typeof row.channel === "object" ? row.channel : {};
  return (
    <div className="form-grid channel" role="group" aria-label={`Channel ${number}`}>
      <Field label="Channel" name={`${at}.type`}>
        {(marks) => (
          <select {...marks} value={row.choice} onChange={(event) => change(event.target.value)}>
            {TYPES.map(([value, text]) => (
              <option key={value} value={value}>
                {text}
              </option>
            ))}
          </select>
        )}
      </Field>
      {row.choice === "webhook" && (
        <>
          <Text label="Address" name={`${at}.url`} type="url" defaultValue={known.url ?? ""} placeholder="https://" />
          <Text label="Secret" name={`${at}.secret`} defaultValue={known.secret ?? ""} hint="Signs what is sent; empty: one is made." />
        </>
      )}
      {row.choice === "slack" && <Text label="Slack's webhook" name={`${at}.webhook`} type="url" defaultValue={known.webhook ?? ""} placeholder="https://" wide />}
      {row.choice === "email" && <Text label="Recipients" name={`${at}.recipients`} defaultValue={known.recipients?.join(", ") ?? ""} hint="With commas between." wide />}
      {row.choice === "pagerduty" && <Text label="Integration key" name={`${at}.${pagerKey(known)}`} defaultValue={known[pagerKey(known)] ?? ""} wide />}
      <span className="inline">
        {known.disabled && row.choice === choiceOf(row.channel!) && <Check name={`${at}.disabled`} label="Switched off" checked />}
        <button type="button" onClick={remove} aria-label={`Remove channel ${number}`}>
          Remove
        </button>
      </span>
    </div>
  );
}

function pagerKey(known: Partial<OwnChannel>): "routing_key" | "integration_key" {
  return known.routing_key === undefined ? "integration_key" : "routing_key";
}

function filterOf(given: FormData, rest: Filter): Filter {
  return joined(Object.fromEntries(FIELDS.map((name) => [name, textOf(given, `filter.${name}`) ?? ""])) as FilterFields, rest);
}

function channelOf(given: FormData, at: string, { choice }: Row): Channel {
  const type = typeOf(choice);
  const off = given.has(`${at}.disabled`) ? { disabled: true } : {};
  if (choice.startsWith("*")) return off.disabled ? { type, ...off } : type;
  const made: Record<string, unknown> = { type, ...off };
  for (const name of ["url", "secret", "webhook", "integration_key", "routing_key"]) {
    const text = textOf(given, `${at}.${name}`);
    if (text !== undefined) made[name] = text;
  }
  if (type === "email") made.recipients = (textOf(given, `${at}.recipients`) ?? "").split(",").map((one) => one.trim()).filter(Boolean);
  return made as unknown as OwnChannel;
}
