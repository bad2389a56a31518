// Reads streams of bytes as Node's server does; one a line of base64 in, its requests as JSON
// out. All that follows from bytes has happened by the next turn of its loop.
const http = require("http"), { Duplex } = require("stream");
const turn = () => new Promise(setImmediate);
const order = (a, b) => (a[0] === b[0] ? (a[1] < b[1] ? -1 : 1) : a[0] < b[0] ? -1 : 1);
async function read(bytes) {
  const requests = [];
  const server = http.createServer({ requireHostHeader: false }, (request, response) => {
    const raw = request.rawHeaders, headers = [];
    for (let at = 0; at < raw.length; at += 2)
      headers.push([raw[at].toLowerCase(), raw[at + 1]]);
    const one = {
      method: request.method, target: request.url, headers: headers.sort(order),
      body: "", whole: false,
    };
    requests.push(one);
    request.setEncoding("latin1");
    request.on("data", (text) => (one.body += text));
    request.on("end", () => { one.whole = request.complete; response.end(); });
    request.on("error", () => {});
  });
  server.on("clientError", () => {});
  const socket = new Duplex({ read() {}, write: (chunk, encoding, done) => done() });
  socket.on("error", () => {});
  server.emit("connection", socket);
  socket.push(bytes);
  await turn();
  socket.push(null);
  await turn();
  return requests;
}
(async () => {
  const lines = require("fs").readFileSync(0, "latin1").split("\n").slice(0, -1);
  for (const line of lines)
    console.log(JSON.stringify(await read(Buffer.from(line, "base64"))));
})();
