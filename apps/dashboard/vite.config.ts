/// <reference types="node" />
import react from "@vitejs/plugin-react";
import { defineConfig } from "vite";

const backend = process.env.TRACEHUB_URL ?? "http://127.0.0.1:3001";
const api = ["/socket.io", "/metrics", "/proof", "/sequence", "/dead-letters", "/health", "/ingest", "/ack", "/api/v1", "/whoami", "/login", "/logout"];

export default defineConfig({
  plugins: [react()],
  // Inlined assets would be data: addresses, which the page's security policy does not allow.
  build: { assetsInlineLimit: 0, sourcemap: false, target: "es2022" },
  server: {
    host: "127.0.0.1",
    proxy: Object.fromEntries(api.map((path) => [path, { target: backend, ws: path === "/socket.io" }])),
  },
});
