// OpenTelemetry's own exporter, as a program would use it: node emit.mjs <url> <service> <count>
import { SeverityNumber } from "@opentelemetry/api-logs";
import { OTLPLogExporter } from "@opentelemetry/exporter-logs-otlp-http";
import { resourceFromAttributes } from "@opentelemetry/resources";
import { BatchLogRecordProcessor, LoggerProvider } from "@opentelemetry/sdk-logs";

const [url, service, count] = process.argv.slice(2);
const processor = new BatchLogRecordProcessor({ exporter: new OTLPLogExporter({ url }) });
const provider = new LoggerProvider({
  resource: resourceFromAttributes({ "service.name": service, "deployment.environment.name": "test" }),
  processors: [processor],
});
const logger = provider.getLogger("tests.clients.js", "1.0");
for (let n = 0; n < Number(count); n += 1) {
  logger.emit({
    severityNumber: SeverityNumber.WARN,
    severityText: "WARN",
    body: n % 2 ? `line ${n} of Größe €` : { n, list: [1, 2.5, "drei", true] },
    timestamp: 1_731_868_800_000 + n,
    attributes: { n, "user.id": `u-${n}`, nested: { deep: ["x", n] } },
  });
}
await provider.forceFlush();
await provider.shutdown();
