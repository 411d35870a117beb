/** Forms whose mistakes the server tells: beside the field that it names, else beside the button. */

import { createContext, type FormEvent, type InputHTMLAttributes, type ReactNode, useContext, useId, useLayoutEffect, useRef, useState } from "react";
import type { Refusal } from "../api";

const Refused = createContext<{ field: string; message: string } | undefined>(undefined);

/** Sends what was given; whatever it throws is a Refusal, and the form stays as it is. */
export function Form({ label, submit, send, cancel, short = false, children }: { label: string; submit: string; send: (given: FormData) => Promise<void>; cancel?: () => void; short?: boolean; children: ReactNode }) {
  const form = useRef<HTMLFormElement>(null);
  const [refusal, setRefusal] = useState<Refusal>();
  const [named, setNamed] = useState(false); // a field here is the one that is refused
  const [busy, setBusy] = useState(false);
  useLayoutEffect(() => {
    const field = refusal && form.current?.querySelector<HTMLElement>("[aria-invalid=true]");
    setNamed(Boolean(field));
    field?.focus();
  }, [refusal]);
  const submitted = async (event: FormEvent<HTMLFormElement>) => {
    event.preventDefault();
    setBusy(true);
    try {
      await send(new FormData(event.currentTarget));
      setRefusal(undefined);
    } catch (reason) {
      setRefusal(reason as Refusal);
    }
    setBusy(false);
  };
  return (
    <Refused value={refusal && { field: refusal.field ?? (refusal.code === "invalid_tenant_id" ? "tenant_id" : ""), message: refusal.message }}>
      <form ref={form} className={short ? "form short" : "form"} aria-label={label} onSubmit={submitted} noValidate>
        {children}
        <div className="inline">
          <button type="submit" className="main" disabled={busy}>
            {submit}
          </button>
          {cancel && (
            <button type="button" onClick={cancel}>
              Cancel
            </button>
          )}
          {refusal && !named && (
            <span className="signal bad" role="alert">
              {refusal.field && <code>{refusal.field}</code>} {refusal.message}
            </span>
          )}
        </div>
      </form>
    </Refused>
  );
}

/** What is wrong with a field or with a part of it, as the server last said. */
function useWrong(name: string): string | undefined {
  const refused = useContext(Refused);
  const rest = refused?.field.startsWith(name) ? refused.field.slice(name.length) : undefined;
  return rest === "" || rest?.[0] === "." || rest?.[0] === "[" ? refused?.message : undefined;
}

interface Marks {
  id: string;
  name: string;
  "aria-invalid": true | undefined;
  "aria-describedby": string;
}

/** A label, what is labelled, and below it a hint or what is wrong. */
export function Field({ label, name, hint = "", wide = false, children }: { label: string; name: string; hint?: ReactNode; wide?: boolean; children: (marks: Marks) => ReactNode }) {
  const id = useId();
  const wrong = useWrong(name);
  return (
    <div className={wide ? "field wide" : "field"}>
      <label htmlFor={id}>{label}</label>
      {children({ id, name, "aria-invalid": wrong === undefined ? undefined : true, "aria-describedby": `${id}-more` })}
      <More id={`${id}-more`} wrong={wrong} hint={hint} />
    </div>
  );
}

function More({ id, wrong, hint }: { id: string; wrong: string | undefined; hint: ReactNode }) {
  return (
    <small id={id} className={wrong === undefined ? "soft" : "wrong"} role={wrong === undefined ? undefined : "alert"}>
      {wrong ?? hint}
    </small>
  );
}

export function Text({ label, name, hint, wide, ...input }: { label: string; name: string; hint?: ReactNode; wide?: boolean } & InputHTMLAttributes<HTMLInputElement>) {
  return (
    <Field label={label} name={name} hint={hint ?? ""} wide={wide ?? false}>
      {(marks) => <input autoComplete="off" {...input} {...marks} />}
    </Field>
  );
}

export type Options = readonly (readonly [string, string])[];

export function Choice({ label, name, value, options, hint }: { label: string; name: string; value: string; options: Options; hint?: ReactNode }) {
  return (
    <Field label={label} name={name} hint={hint ?? ""}>
      {(marks) => (
        <select {...marks} defaultValue={value}>
          {options.map(([given, text]) => (
            <option key={given} value={given}>
              {text}
            </option>
          ))}
        </select>
      )}
    </Field>
  );
}

export function Check({ name, label, checked, value }: { name: string; label: string; checked?: boolean; value?: string }) {
  const wrong = useWrong(name);
  return (
    <label className="check">
      <input type="checkbox" name={name} value={value ?? "on"} defaultChecked={checked ?? false} aria-invalid={wrong === undefined ? undefined : true} /> {label}
    </label>
  );
}

/** Any number of a few. */
export function Checks({ legend, name, options, checked, hint = "" }: { legend: string; name: string; options: Options; checked: readonly string[]; hint?: ReactNode }) {
  const id = useId();
  const wrong = useWrong(name);
  return (
    <fieldset className="checks" aria-describedby={id}>
      <legend>{legend}</legend>
      <div className="inline">
        {options.map(([value, text]) => (
          <Check key={value} name={name} value={value} label={text} checked={checked.includes(value)} />
        ))}
      </div>
      <More id={id} wrong={wrong} hint={hint} />
    </fieldset>
  );
}

/** What was written into a field; undefined for nothing. */
export function textOf(given: FormData, name: string): string | undefined {
  return String(given.get(name) ?? "").trim() || undefined;
}

/** The number in a field; what is no number goes as it is, for the server says what it wants there. */
export function numberOf(given: FormData, name: string): number | string | undefined {
  const text = textOf(given, name);
  return text !== undefined && /^-?\d+(\.\d+)?$/.test(text) ? Number(text) : text;
}
