// One target: Socket.IO, SockJS and plain WebSockets, each of which answers `who` with
// the target's name. Says on its standard output whenever a request is of a session that
// it does not know: that is what stickiness is to prevent. Obeys on its standard input:
//
//   sick, well    what it says to health checks (`/health`)
//   late MILLISECONDS   HTTP requests are looked at so much later, health checks too;
//                       what is said over open WebSockets is not
//
//   node server.js NAME ADDRESS PORT
"use strict";

const http = require("node:http");
const readline = require("node:readline");
const { Server } = require("socket.io");
const sockjs = require("sockjs");
const { WebSocketServer } = require("ws");

const [name, address, port] = process.argv.slice(2);

let isWell = true;
let late = 0;

function say(event) {
  process.stdout.write(JSON.stringify({ name, ...event }) + "\n");
}

const server = http.createServer((request, response) => {
  if (request.url.startsWith("/socket.io/") || request.url.startsWith("/sock/")) return;
  if (request.url === "/health" && !isWell) response.statusCode = 503;
  response.end(name);
});
const emit = server.emit;
server.emit = function (event, ...rest) {
  if (event !== "request" || late === 0) return emit.call(server, event, ...rest);
  setTimeout(() => emit.call(server, event, ...rest), late);
  return true;
};
server.on("request", (request, response) => {
  response.on("finish", () => {
    // SockJS says so when something is sent to a session that is not there.
    if (response.statusCode === 404) say({ unknown: request.url });
  });
});

const io = new Server(server, { serveClient: false });
io.engine.on("connection_error", (error) => say({ unknown: error.req.url, why: error.message }));
io.on("connection", (socket) => socket.on("who", (answer) => answer(name)));

const sock = sockjs.createServer({ prefix: "/sock", log: () => {} });
sock.on("connection", (connection) => {
  connection.on("data", () => connection.write(name));
});
sock.installHandlers(server);

const plain = new WebSocketServer({ noServer: true });
plain.on("connection", (socket) => socket.on("message", () => socket.send(name)));
server.on("upgrade", (request, socket, head) => {
  if (!request.url.startsWith("/plain")) return;
  plain.handleUpgrade(request, socket, head, (opened) => plain.emit("connection", opened));
});

server.listen(Number(port), address, () => say({ ready: true }));

readline.createInterface({ input: process.stdin }).on("line", (order) => {
  const [word, milliseconds] = order.split(" ");
  if (word === "late") late = Number(milliseconds);
  else isWell = word === "well";
});
