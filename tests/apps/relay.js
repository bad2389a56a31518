// Relays connections, each once its client has said something: a health check that only
// connects stays here. With `tls` it adds TLS, and the choice of HTTP/2, for a client that
// knows neither.
//
//   node relay.js [tls+]ADDRESS:PORT=ADDRESS:PORT...       listen there, connect there
"use strict";

const net = require("node:net");
const tls = require("node:tls");

const wanted = process.argv.slice(2);
let left = wanted.length;

function parse(place) {
  const [host, port] = place.split(":");
  return { host, port: Number(port), allowHalfOpen: true };
}

for (const one of wanted) {
  const [listen, to] = one.replace("tls+", "").split("=").map(parse);
  // The certificate is a test's own.
  const secured = { ...to, ALPNProtocols: ["h2"], rejectUnauthorized: false };
  const server = net.createServer({ allowHalfOpen: true }, (near) => {
    near.on("error", () => {});
    near.once("end", () => near.end());
    near.once("readable", () => {
      if (near.readableLength === 0) return;
      const far = one.startsWith("tls+") ? tls.connect(secured) : net.connect(to);
      far.setNoDelay(true);
      near.removeAllListeners("end");
      near.pipe(far).pipe(near);
      near.on("error", () => far.destroy());
      far.on("error", () => near.destroy());
    });
  });
  server.on("connection", (near) => near.setNoDelay(true));
  server.listen(listen.port, listen.host, () => {
    left -= 1;
    if (left === 0) process.stdout.write("ready\n");
  });
}
