import { type ReactNode, useId } from "react";

/** A titled part of a page. */
export function Panel({ title, rest, children, className = "" }: { title: string; rest?: ReactNode; children: ReactNode; className?: string }) {
  const id = useId();
  return (
    <section className={`panel ${className}`} aria-labelledby={id}>
      <header>
        <h2 id={id}>{title}</h2>
        {rest && <div className="rest">{rest}</div>}
      </header>
      {children}
    </section>
  );
}

/** One of a few. */
export function Segmented<T extends string>({ label, value, options, onChange }: { label: string; value: T; options: readonly (readonly [T, string])[]; onChange: (next: T) => void }) {
  return (
    <div className="segmented" role="group" aria-label={label}>
      {options.map(([name, text]) => (
        <button key={name} type="button" aria-pressed={name === value} onClick={() => onChange(name)}>
          {text}
        </button>
      ))}
    </div>
  );
}
