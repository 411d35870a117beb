import { useEffect } from "react";

/** The page's name in the browser's tab and history. */
export function useTitle(name: string): void {
  useEffect(() => {
    document.title = `${name} · TraceHub`;
  }, [name]);
}
