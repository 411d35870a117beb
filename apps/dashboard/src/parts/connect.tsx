/** How a program follows the same logs: three lines to copy. A key is never shown, nor kept by the page. */

import { Panel } from "./panel";
import { Copy } from "./words";

export function Connect() {
  const { origin, host, protocol } = window.location;
  const socket = `${protocol === "https:" ? "wss" : "ws"}://${host}/ws?token=$TRACEHUB_KEY`;
  return (
    <Panel title="Follow the logs from elsewhere">
      <p className="soft small">Where keys are used, put one that may read into TRACEHUB_KEY; else leave it out.</p>
      <Line what="curl" text={`curl -H "Authorization: Bearer $TRACEHUB_KEY" "${origin}/api/v1/logs?page_size=20"`} />
      <Line what="Stream (SSE)" text={`curl -N -H "Authorization: Bearer $TRACEHUB_KEY" ${origin}/api/v1/logs/stream`} />
      <Line what="WebSocket" text={socket} />
    </Panel>
  );
}

function Line({ what, text }: { what: string; text: string }) {
  return (
    <div className="inline">
      <span className="soft small">{what}</span>
      <code>{text}</code>
      <Copy text={text} what={what} title={`Copy ${what}`} />
    </div>
  );
}
