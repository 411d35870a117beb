import { type ReactNode, useEffect, useRef, useState } from "react";
import type { Refusal } from "../api";

interface Props {
  title: string;
  action: string; // what the button that does it says
  keep: string; // and the one that does not
  act: () => Promise<void>;
  close: () => void;
  children: ReactNode;
}

/** Asks before something that cannot be undone. Stays where it is while the rows behind it move. */
export function Confirm({ title, action, keep, act, close, children }: Props) {
  const dialog = useRef<HTMLDialogElement>(null);
  const [error, setError] = useState("");
  const [busy, setBusy] = useState(false);
  useEffect(() => dialog.current?.showModal(), []);
  const acted = async () => {
    setBusy(true);
    try {
      await act();
      close();
    } catch (reason) {
      setError((reason as Refusal).message);
      setBusy(false);
    }
  };
  return (
    <dialog ref={dialog} aria-label={title} onClose={close}>
      <div className="stack">
        <h1>{title}?</h1>
        {children}
        {error && (
          <span className="signal bad" role="alert">
            {error}
          </span>
        )}
        <div className="inline">
          <button type="button" className="danger" disabled={busy} onClick={acted}>
            {action}
          </button>
          <button type="button" onClick={() => dialog.current?.close()}>
            {keep}
          </button>
        </div>
      </div>
    </dialog>
  );
}
