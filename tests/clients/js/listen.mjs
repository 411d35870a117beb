// socket.io-client, as a program would use it: node listen.mjs <url> <count> prints what `log:new` brought, a line each
import { io } from "socket.io-client";

const [url, count] = process.argv.slice(2);
const socket = io(url, { transports: ["websocket"], reconnection: false });
let heard = 0;
socket.on("connect", () => console.log("connected"));
socket.on("connect_error", (error) => {
  console.error(error.message);
  process.exit(1);
});
socket.on("log:new", (entry) => {
  console.log(JSON.stringify(entry));
  heard += 1;
  if (heard === Number(count)) socket.close();
});
