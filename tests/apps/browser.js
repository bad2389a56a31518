// Looks at pages with headless Chromium: what they say, what a WebSocket from them answers,
// by which protocol they came, and which cookies the browser keeps. One line of JSON a page.
//
//   node browser.js DIRECTORY NET_LOG URL...
"use strict";

const { spawn } = require("node:child_process");
const WebSocket = require("ws");

const [directory, netLog, ...pages] = process.argv.slice(2);

// In the page: a WebSocket to the same place is asked who it is, and to echo.
const ask = `new Promise((resolve, reject) => {
  const socket = new WebSocket("wss://" + location.host + "/ws");
  const said = [];
  socket.onopen = () => { socket.send("who"); socket.send("h\\u00e9llo"); };
  socket.onmessage = (event) => { if (said.push(event.data) === 2) socket.close(1000); };
  socket.onerror = () => reject(new Error("the WebSocket failed"));
  socket.onclose = (event) => resolve({
    said,
    code: event.code,
    page: document.body.innerText,
    protocol: performance.getEntriesByType("navigation")[0].nextHopProtocol,
    cookies_of_scripts: document.cookie,
  });
})`;

// The browser's side of the DevTools protocol.
class Browser {
  constructor(socket) {
    this.socket = socket;
    this.last = 0;
    this.waiting = new Map();
    socket.on("message", (text) => {
      const message = JSON.parse(text);
      const answer = this.waiting.get(message.id ?? message.method);
      this.waiting.delete(message.id ?? message.method);
      answer?.(message);
    });
  }

  async call(method, params, sessionId) {
    const id = ++this.last;
    const answered = this.event(id);
    this.socket.send(JSON.stringify({ id, method, params, sessionId }));
    const { result, error } = await answered;
    if (error) throw new Error(`${method}: ${error.message}`);
    return result;
  }

  event(name) {
    return new Promise((resolve) => this.waiting.set(name, resolve));
  }
}

function start() {
  const chromium = spawn(
    "chromium",
    [
      "--headless=new",
      "--no-sandbox",
      "--disable-gpu",
      "--ignore-certificate-errors",
      "--remote-debugging-port=0",
      `--user-data-dir=${directory}`,
      `--log-net-log=${netLog}`,
      "about:blank",
    ],
    { stdio: ["ignore", "ignore", "pipe"] },
  );
  process.on("exit", () => chromium.kill("SIGKILL"));
  let said = "";
  return new Promise((resolve, reject) => {
    chromium.on("error", reject);
    chromium.on("exit", () => reject(new Error(`chromium ended: ${said}`)));
    chromium.stderr.on("data", (piece) => {
      said += piece;
      const found = /DevTools listening on (ws:\S+)/.exec(said);
      if (found) resolve(found[1]);
    });
  });
}

async function look(browser, url) {
  const { targetId } = await browser.call("Target.createTarget", { url: "about:blank" });
  const { sessionId } = await browser.call("Target.attachToTarget", { targetId, flatten: true });
  await browser.call("Page.enable", {}, sessionId);
  const loaded = browser.event("Page.loadEventFired");
  await browser.call("Page.navigate", { url }, sessionId);
  await loaded;
  const asked = { expression: ask, awaitPromise: true, returnByValue: true };
  const { result, exceptionDetails } = await browser.call("Runtime.evaluate", asked, sessionId);
  if (exceptionDetails) throw new Error(JSON.stringify(exceptionDetails));
  const { cookies } = await browser.call("Network.getCookies", { urls: [url] }, sessionId);
  await browser.call("Target.closeTarget", { targetId });
  await browser.call("Storage.clearCookies", {});
  return { ...result.value, cookies };
}

async function main() {
  const socket = new WebSocket(await start());
  await new Promise((resolve, reject) => socket.on("open", resolve).on("error", reject));
  const browser = new Browser(socket);
  for (const url of pages) {
    process.stdout.write(`${JSON.stringify(await look(browser, url))}\n`);
  }
  // In order, so that its log is whole.
  const closed = new Promise((resolve) => socket.on("close", resolve));
  await browser.call("Browser.close", {});
  await closed;
  process.exit(0);
}

main().catch((error) => {
  process.stderr.write(`${error.stack}\n`);
  process.exit(1);
});
