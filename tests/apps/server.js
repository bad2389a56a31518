// One target: Socket.IO, SockJS and plain WebSockets, each of which answers `who` with
// the target's name. Says on its standard output whenever a request is of a session that
// it does not know: that is what stickiness is to prevent.
//
//   node server.js NAME ADDRESS PORT
"use strict";

const http = require("node:http");
const { Server } = require("socket.io");
const sockjs = require("sockjs");
const { WebSocketServer } = require("ws");

const [name, address, port] = process.argv.slice(2);

function say(event) {
  process.stdout.write(JSON.stringify({ name, ...event }) + "\n");
}

const server = http.createServer((request, response) => {
  if (request.url.startsWith("/socket.io/") || request.url.startsWith("/sock/")) return;
  response.end(name);
});
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
