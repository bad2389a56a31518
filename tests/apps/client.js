// Clients of every kind, each of which asks again and again who is at the other end.
// For every line on its standard input it answers with one line: what each client has
// seen so far.
//
//   node client.js URL-FOR-COOKIES URL-FOR-IDS CLIENTS-OF-EACH-KIND
"use strict";

const { AsyncLocalStorage } = require("node:async_hooks");
const { randomUUID } = require("node:crypto");
const http = require("node:http");
const readline = require("node:readline");

// A cookie jar for everything that asks through node:http, one for each client.
const jars = new AsyncLocalStorage();
const request = http.request;
http.request = function (options, ...rest) {
  const jar = jars.getStore();
  const made = request.call(http, options, ...rest);
  if (!jar) return made;
  if (jar.cookie) made.setHeader("Cookie", jar.cookie);
  made.on("response", (response) => {
    for (const cookie of response.headers["set-cookie"] ?? []) jar.cookie = cookie.split(";")[0];
  });
  return made;
};

const { io } = require("socket.io-client");
const SockJS = require("sockjs-client");
const WebSocket = require("ws");

const [cookies, ids, count] = process.argv.slice(2);
// Long enough for thirty clients on a busy machine, short enough for many answers.
const PAUSE = 100;
// A session that is lost is begun again after this.
const AGAIN = 100;

class Client {
  constructor(kind) {
    // What a report says.
    this.kind = kind;
    this.connects = 0;
    this.answers = 0;
    this.wrong = 0;
    this.errors = [];
    // The sessions that ended, and who answered them.
    this.losses = [];
    this.target = null;
    this.id = null;
    this.transport = () => null;
  }

  // A session of this id has begun; `ask` asks once.
  begun(id, ask) {
    this.over();
    this.id = id;
    this.connects += 1;
    this.target = null;
    this.ask = ask;
    ask();
  }

  // The other end has answered with its name.
  answered(name) {
    this.answers += 1;
    if (this.target !== null && this.target !== name) this.wrong += 1;
    this.target = name;
    const ask = this.ask;
    setTimeout(() => ask === this.ask && ask(), PAUSE);
  }

  // The session that it has, if any, is over.
  over() {
    if (this.ask) this.losses.push({ target: this.target, id: this.id });
    this.ask = null;
  }

  lost(again) {
    this.over();
    if (again) setTimeout(again, AGAIN);
  }

  failed(error) {
    this.errors.push(String(error?.message ?? error));
  }
}

function socketIo(client, url, options) {
  const socket = io(url, {
    ...options,
    forceNew: true,
    reconnectionDelay: AGAIN,
    reconnectionDelayMax: AGAIN,
  });
  client.transport = () => socket.io.engine?.transport?.name ?? null;
  const ask = () => socket.emit("who", (name) => client.answered(name));
  socket.on("connect", () => client.begun(socket.io.engine.id, ask));
  socket.on("disconnect", () => client.lost());
  socket.on("connect_error", (error) => client.failed(error));
}

function sockJs(client, transport) {
  const begin = () => {
    const id = randomUUID();
    const options = { transports: [transport], sessionId: () => id };
    const socket = new SockJS(`${cookies}/sock`, null, options);
    socket.onopen = () => client.begun(id, () => socket.send("who"));
    socket.onmessage = (message) => client.answered(message.data);
    socket.onclose = () => client.lost(begin);
  };
  jars.run({}, begin);
}

// As a browser does it with script elements and a form: sockjs-client needs a document.
function jsonp(client) {
  const fetchText = (method, path, body) =>
    new Promise((resolve, reject) => {
      const headers = { "Content-Type": "application/x-www-form-urlencoded" };
      const made = http.request(cookies + path, { method, headers }, (response) => {
        let text = "";
        response.on("data", (piece) => (text += piece));
        response.on("error", reject);
        response.on("end", () => {
          if (response.statusCode === 200) resolve(text);
          else reject(new Error(`${response.statusCode} for ${path}`));
        });
      });
      made.on("error", reject);
      made.end(body);
    });
  const begin = async () => {
    const id = randomUUID();
    const session = `/sock/000/${id}`;
    let isOver = false;
    const end = () => {
      if (!isOver) client.lost(begin);
      isOver = true;
    };
    const body = "d=" + encodeURIComponent('["who"]');
    const ask = () => fetchText("POST", `${session}/jsonp_send`, body).catch(end);
    try {
      for (;;) {
        const script = await fetchText("GET", `${session}/jsonp?c=heard`);
        // What could not be sent has ended it already.
        if (isOver) return;
        const frame = JSON.parse(script.slice(script.indexOf('"'), script.lastIndexOf('"') + 1));
        if (frame === "o") client.begun(id, ask);
        else if (frame[0] === "a") JSON.parse(frame.slice(1)).forEach((name) => client.answered(name));
        else if (frame[0] === "c") break;
      }
    } catch {
      // Its target is gone.
    }
    end();
  };
  jars.run({}, begin);
}

function plain(client) {
  const begin = () => {
    const socket = new WebSocket(cookies.replace("http", "ws") + "/plain");
    socket.on("open", () => client.begun(null, () => socket.send("who")));
    socket.on("message", (name) => client.answered(String(name)));
    socket.on("error", (error) => client.failed(error));
    socket.on("close", () => client.lost(begin));
  };
  jars.run({}, begin);
}

const jar = { withCredentials: true };
const KINDS = {
  "socket.io polling": (client) => socketIo(client, cookies, { ...jar, transports: ["polling"] }),
  "socket.io upgrade": (client) => socketIo(client, cookies, jar),
  "socket.io sid": (client) => socketIo(client, ids, { transports: ["polling"] }),
  "socket.io sid upgrade": (client) => socketIo(client, ids, {}),
  "sockjs websocket": (client) => sockJs(client, "websocket"),
  "sockjs xhr-streaming": (client) => sockJs(client, "xhr-streaming"),
  "sockjs xhr-polling": (client) => sockJs(client, "xhr-polling"),
  "sockjs eventsource": (client) => sockJs(client, "eventsource"),
  "sockjs jsonp": jsonp,
  ws: plain,
};

const clients = [];
for (const [kind, begin] of Object.entries(KINDS)) {
  for (let number = 0; number < Number(count); number += 1) {
    const client = new Client(kind);
    clients.push(client);
    begin(client);
  }
}

readline.createInterface({ input: process.stdin }).on("line", () => {
  const report = clients.map((client) => {
    const { kind, connects, answers, wrong, errors, losses, target, id } = client;
    const transport = client.transport();
    return { kind, connects, answers, wrong, errors, losses, target, id, transport };
  });
  process.stdout.write(JSON.stringify(report) + "\n");
});
