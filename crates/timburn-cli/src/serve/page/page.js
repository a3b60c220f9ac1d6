"use strict";

// Limits of the server; what is beyond them is made smaller here.
const MOST_BYTES = 10 * 1024 * 1024;
const MOST_PIXELS = 24e6;
const SHRUNK_SIDE = 2048;
const TOP = 5;
const PATIENCE = 60_000;
const RETRIES = 10;

const $ = id => document.getElementById(id);
let models = [];
let chosen = null;
// What is on the page: `blob` is the picture as it is sent, `explained` the class of the heat map.
const now = { name: "", blob: null, image: null, answer: null, explained: null, heat: null };
let running = new AbortController();
let token = "";
try { token = sessionStorage.getItem("token") ?? ""; } catch { /* Storage is off: the token lives as long as the page. */ }

/** What happened and what to do, in words; `again`: seconds after which the same request may work. */
class Failure extends Error {
  constructor(title, text, more = {}) {
    super(text);
    Object.assign(this, { title, again: null, retry: false, unauthorized: false, request: "" }, more);
  }
}

function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

const sentence = text => text.charAt(0).toUpperCase() + text.slice(1).replace(/\.?$/, ".");
const percent = score => (score > 0 && score < 0.0005 ? "< 0.1" : (100 * score).toFixed(1)) + "\u00a0%";
const megabytes = bytes => (bytes / 1e6).toFixed(1) + "\u00a0MB";

/** What the style sheet lays out: `empty`, or `full` with what is under way. */
function state(value) {
  document.body.className = value;
  $("choose").textContent = value === "empty" ? "Choose a picture" : "Choose another";
}

// ---- The server

const FAILURES = {
  not_an_image: text => new Failure("This picture cannot be read", text),
  too_large: text => new Failure("This picture is too large", text),
  overloaded: text => new Failure("The server is busy", text, { again: 1 }),
  not_ready: text => new Failure("The server is not ready", text, { again: 1 }),
  timeout: text => new Failure("This took too long", text, { retry: true }),
  unauthorized: text => new Failure("A token is needed", text, { unauthorized: true }),
  unknown_model: text => new Failure("This model is gone", text),
};

async function failure(response) {
  const said = await response.json().catch(() => ({}));
  const text = sentence(said.error ?? `the server answered ${response.status}`);
  const known = FAILURES[said.code] ?? (response.status === 401 ? FAILURES.unauthorized : null);
  const found = known ? known(text) : new Failure("The server has a problem", text, { retry: true });
  const wait = Number.parseInt(response.headers.get("Retry-After") ?? "", 10);
  if (found.again !== null && wait >= 0) found.again = Math.min(Math.max(wait, 1), 60);
  if (response.status >= 500) found.request = response.headers.get("X-Request-Id") ?? "";
  return found;
}

/** Sends a request. @throws Failure, or an AbortError when a newer picture took over */
async function call(path, { body, signal } = {}) {
  const limit = new AbortController();
  const stop = () => limit.abort();
  const late = setTimeout(stop, PATIENCE);
  signal?.addEventListener("abort", stop);
  try {
    const headers = token ? { Authorization: `Bearer ${token}` } : {};
    if (body) headers["Content-Type"] = body.type.startsWith("image/") ? body.type : "application/octet-stream";
    const response = await fetch(path, { method: body ? "POST" : "GET", body, headers, signal: limit.signal });
    if (!response.ok) throw await failure(response);
    // Within the time limit, too.
    return { headers: response.headers, blob: await response.blob() };
  } catch (error) {
    if (error instanceof Failure) throw error;
    signal?.throwIfAborted();
    const [title, text] = limit.signal.aborted ? ["No answer", `The server did not answer within ${PATIENCE / 1000} seconds.`]
      : navigator.onLine ? ["The server cannot be reached", "It may have been stopped. Check that it runs, then try again."]
      : ["You are offline", "Connect to the network; this goes on by itself then."];
    throw new Failure(title, text, { retry: true });
  } finally {
    clearTimeout(late);
  }
}

const query = (path, parameters) => `${path}?${new URLSearchParams(parameters)}`;
const which = () => (chosen ? { model: chosen.name } : {});

// ---- Models

async function loadModels() {
  models = JSON.parse(await (await call("api/models")).blob.text());
  chosen = models.find(({ name }) => name === chosen?.name) ?? models[0] ?? null;
  $("model").replaceChildren(...models.map(({ name }) => make("option", { selected: name === chosen.name }, name)));
  $("model").hidden = models.length < 2;
  $("model-name").hidden = models.length > 1;
  $("model-bar").hidden = !chosen;
  showModel();
}

function showModel() {
  if (chosen) {
    $("model-name").textContent = chosen.name;
    $("model-facts").textContent = `${chosen.classes.toLocaleString("en")} classes, ${chosen.input.join("\u00a0×\u00a0")}`;
    $("card").href = chosen.card.replace(/^\//, "");
  }
  showCurl();
}

/** A word as a POSIX shell takes it literally. */
const shell = word => `'${word.replaceAll("'", "'\\''")}'`;

function showCurl() {
  const url = new URL(query("api/classify", { ...which(), top_k: TOP }), document.baseURI).href;
  // curl reads commas, semicolons and quotes in the name of a form's file as its own syntax.
  const file = /^[^/;,"]+$/.test(now.name) ? now.name : "picture.jpg";
  const bearer = token ? `-H "Authorization: Bearer $TIMBURN_TOKEN" ` : "";
  $("curl").textContent = `curl ${bearer}-F ${shell("picture=@" + file)} ${shell(url)}`;
}

// ---- A picture comes

const ascii = (bytes, from, to) => String.fromCharCode(...bytes.subarray(from, to));

/** The format by the first bytes, as names lie; `null` for no picture. */
async function sniff(blob) {
  const bytes = new Uint8Array(await blob.slice(0, 32).arrayBuffer());
  const start = ascii(bytes, 0, 4);
  if (start.startsWith("\xff\xd8\xff")) return "JPEG";
  if (start === "\x89PNG") return "PNG";
  if (start === "GIF8") return "GIF";
  if (start === "RIFF" && ascii(bytes, 8, 12) === "WEBP") return "WebP";
  if (start.startsWith("BM")) return "BMP";
  if (start === "II*\0" || start === "MM\0*") return "TIFF";
  if (ascii(bytes, 4, 8) !== "ftyp") return null;
  const brands = ascii(bytes, 8, 32);
  return /avi[fs]/.test(brands) ? "AVIF" : /hei|hevc|mif1|msf1/.test(brands) ? "HEIC" : null;
}
const READABLE = ["JPEG", "PNG", "GIF", "WebP", "BMP", "TIFF"];

/** The picture as the browser shows it; `null` where it cannot. */
function decode(blob) {
  const image = new Image();
  image.draggable = false;
  image.src = URL.createObjectURL(blob);
  return new Promise(resolve => {
    image.onload = () => resolve(image.naturalWidth > 0 ? image : null);
    image.onerror = () => { free(image); resolve(null); };
  });
}

const free = image => { if (image) URL.revokeObjectURL(image.src); };

/** A JPEG of the picture, its longer side at most SHRUNK_SIDE; the browser has already turned it as its EXIF data says. */
function shrink(image) {
  const { naturalWidth: width, naturalHeight: height } = image;
  const scale = Math.min(1, SHRUNK_SIDE / Math.max(width, height));
  const canvas = make("canvas", { width: Math.ceil(width * scale), height: Math.ceil(height * scale) });
  const context = canvas.getContext("2d");
  context.imageSmoothingQuality = "high";
  // JPEG knows no transparency; the server lays pictures over white too.
  context.fillStyle = "#fff";
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.drawImage(image, 0, 0, canvas.width, canvas.height);
  return new Promise(resolve => canvas.toBlob(resolve, "image/jpeg", 0.92));
}

function unreadable(name, format, size) {
  const file = name ? `“${name}”` : "This file";
  if (size === 0) return new Failure("This file is empty", `${file} holds no bytes. Choose another file.`);
  if (format === "HEIC") {
    return new Failure("HEIC photos cannot be read here", `${file} is an HEIC photo, which neither this browser nor the server reads. `
      + "Save or share it as JPEG, or set the phone's camera to “most compatible”, then try again.");
  }
  if (READABLE.includes(format)) {
    return new Failure("This picture is too large", `${file} has ${megabytes(size)} of at most ${megabytes(MOST_BYTES)}, `
      + "and this browser cannot make it smaller. Save it smaller, then try again.");
  }
  if (format) return new Failure("This picture cannot be read", `${file} is ${format}; this browser does not know it. Save it as JPEG.`);
  return new Failure("This is not a picture", `${file} holds no picture, whatever its name says. Choose a ${READABLE.join(", ")} file.`);
}

/** What to send for a picture, and what to tell about it. @throws Failure */
async function prepare(blob, name, image, format) {
  const pixels = image ? image.naturalWidth * image.naturalHeight : 0;
  const large = blob.size > MOST_BYTES || pixels > MOST_PIXELS;
  if (READABLE.includes(format) && !large) {
    return { body: blob, note: image ? "" : `Your browser cannot show ${format}; the model reads it all the same.` };
  }
  const body = image && await shrink(image);
  if (!body) throw unreadable(name, format, blob.size);
  const was = `${image.naturalWidth}\u00a0×\u00a0${image.naturalHeight} pixels, ${megabytes(blob.size)}`;
  const note = large
    ? `Your browser made this picture smaller before sending it (${was}; ${megabytes(body.size)} sent).`
    : `Your browser made a JPEG of this picture before sending it; the server does not read ${format ?? "its format"}.`;
  return { body, note };
}

function take(files, source) {
  const [file] = files;
  if (!file) return fail(new Failure(`There is no picture in what you ${source}`, "Save the picture as a file, then choose or drop that."));
  look(file, file.name, files.length > 1 ? `One picture at a time: this is the first of ${files.length}.` : "");
}

/** Shows a picture and asks what is in it. What was there stays until the new one can be shown. */
async function look(blob, name, remark = "") {
  running.abort();
  const { signal } = running = new AbortController();
  if (now.blob) state("full busy");
  const format = await sniff(blob).catch(() => null);
  const image = await decode(blob);
  try {
    const { body, note } = await prepare(blob, name, image, format);
    if (signal.aborted) return free(image);
    clear();
    Object.assign(now, { name, image, blob: body });
    $("note").textContent = `${remark} ${note}`.trim();
    showPicture();
  } catch (error) {
    free(image);
    if (signal.aborted) return;
    clear();
    return fail(error);
  }
  classify();
}

function clear() {
  free(now.image);
  free(now.heat);
  Object.assign(now, { name: "", blob: null, image: null, answer: null, explained: null, heat: null });
  for (const id of ["alert", "frame", "note", "caption", "status"]) $(id).replaceChildren();
  for (const id of ["answer", "waiting", "figure", "cam-switch"]) $(id).hidden = true;
  $("cam").checked = false;
  showCurl();
}

function showPicture() {
  const { image, name } = now;
  if (image) image.alt = name ? `Your picture, ${name}` : "Your picture";
  $("frame").append(image ?? make("p", {}, name || "Picture"));
  // The frame takes the picture's shape, short of extremes; the heat map, a square, then stands within it.
  $("frame").style.aspectRatio = image ? Math.min(1.8, Math.max(0.8, image.naturalWidth / image.naturalHeight)) : "";
  $("figure").hidden = false;
  showCurl();
  state("full busy");
  if ($("main").getBoundingClientRect().top < 0) scrollTo(0, 0);
}

// ---- What the model says

async function classify(attempt = 1) {
  running.abort();
  const { signal } = running = new AbortController();
  $("alert").replaceChildren();
  for (const id of ["answer", "cam-switch"]) $(id).hidden = true;
  $("waiting").hidden = false;
  state("full busy");
  try {
    const start = performance.now();
    const { headers, blob } = await call(query("api/classify", { ...which(), top_k: TOP }), { body: now.blob, signal });
    now.answer = JSON.parse(await blob.text());
    showAnswer(headers.get("Server-Timing") ?? "", performance.now() - start);
  } catch (error) {
    if (!signal.aborted) fail(error, classify, attempt);
  }
}

function row({ label, score }) {
  const bar = make("span", { className: "bar" }, make("i"));
  bar.firstChild.style.width = `${Math.max(0.5, 100 * score)}%`;
  const button = make("button", { type: "button", onclick: () => explain(now.explained === label ? null : label) },
    make("span", { className: "label" }, label), " ", make("span", { className: "score" }, percent(score)), bar);
  button.dataset.label = label;
  button.ariaPressed = "false";
  return make("li", {}, button);
}

function showAnswer(timing, total) {
  const [first] = now.answer;
  $("waiting").hidden = true;
  $("best").textContent = first.label;
  $("best-score").textContent = percent(first.score);
  $("unsure").hidden = first.score >= 0.5;
  $("list").replaceChildren(...now.answer.map(row));
  const model = /\bmodel;[^,]*dur=([\d.]+)/.exec(timing)?.[1];
  $("timing").textContent = (model ? `Model ${Math.round(model)}\u00a0ms, ` : "") + `in all ${Math.round(total)}\u00a0ms`;
  $("answer").hidden = false;
  $("cam-switch").hidden = false;
  $("status").textContent = `Answer: ${now.answer.map(({ label, score }) => `${label}, ${percent(score)}`).join("; ")}.`;
  document.title = `${first.label} · timburn`;
  state("full");
}

/** Lays the heat map of a class over the picture; `null` takes it away. */
async function explain(label, attempt = 1) {
  running.abort();
  const { signal } = running = new AbortController();
  free(now.heat);
  now.heat?.remove();
  Object.assign(now, { heat: null, explained: label });
  $("alert").replaceChildren();
  $("caption").textContent = "";
  $("cam").checked = label !== null;
  for (const button of $("list").querySelectorAll("button")) button.ariaPressed = String(button.dataset.label === label);
  state(label === null ? "full" : "full explaining");
  if (label === null) return;
  try {
    const { blob } = await call(query("api/explain", { ...which(), class: label }), { body: now.blob, signal });
    const heat = await decode(blob);
    if (signal.aborted) return free(heat);
    if (!heat) throw new Failure("The heat map cannot be shown", "The server's answer is not a picture.", { retry: true });
    heat.alt = `Grad-CAM: what in the picture speaks for ${label}`;
    heat.className = "heat";
    now.heat = heat;
    $("frame").append(heat);
    $("caption").textContent = `Warm colours: what speaks for “${label}”. Shown is the part that the model sees.`;
    $("status").textContent = `Shown: what in the picture speaks for ${label}.`;
    state("full");
  } catch (error) {
    if (signal.aborted) return;
    await explain(null);
    fail(error, next => explain(label, next), attempt);
  }
}

// ---- Errors

const alert = (title, text, ...more) => make("div", { className: "alert" }, make("h2", {}, title), make("p", {}, text), ...more);

/** Shows what went wrong; `again` does the same once more. A busy server is asked again without a click, a few times. */
function fail(error, again = null, attempt = 1) {
  if (!(error instanceof Failure)) error = new Failure("The page has a problem", `${error.message ?? error}. Load the page again.`);
  $("waiting").hidden = true;
  state(now.blob ? "full" : "empty");
  if (error.unauthorized) return askToken(again);
  const box = alert(error.title, error.message);
  if (error.request) box.append(make("p", { className: "request" }, `Request ${error.request}`));
  const { signal } = running;
  if (again && error.again !== null && attempt <= RETRIES) {
    // The countdown is for the eye only: nobody wants it read aloud.
    const left = make("span", { ariaHidden: "true" });
    box.append(make("p", {}, "It is asked again by itself", left, "."));
    const due = Date.now() + 1000 * Math.max(error.again, attempt);
    const tick = setInterval(() => {
      left.textContent = ` in ${Math.max(0, Math.ceil((due - Date.now()) / 1000))} s`;
      if (signal.aborted) clearInterval(tick);
      else if (Date.now() >= due) {
        clearInterval(tick);
        again(attempt + 1);
      }
    }, 250);
  }
  if (again && (error.retry || error.again !== null)) {
    box.append(make("button", { type: "button", onclick: () => again() }, "Try again"));
    if (!navigator.onLine) addEventListener("online", () => signal.aborted || again(), { once: true, signal });
  }
  $("alert").replaceChildren(box);
}

// ---- Token

let afterToken = null;
function askToken(again) {
  // What was wanted first, whatever else is asked for on the way.
  if (again !== start) afterToken = again;
  $("token-title").textContent = token ? "This token was not accepted" : "This server asks for a token";
  $("token").value = "";
  $("token-dialog").returnValue = "";
  if (!$("token-dialog").open) $("token-dialog").showModal();
}

$("token-form").addEventListener("submit", async event => {
  event.preventDefault();
  token = $("token").value.trim();
  try { sessionStorage.setItem("token", token); } catch { /* As above. */ }
  $("token-dialog").close("given");
  $("alert").replaceChildren();
  if (!await start()) return;
  afterToken?.();
  afterToken = null;
});
$("token-dialog").addEventListener("close", () => {
  if ($("token-dialog").returnValue === "given") return;
  const ask = make("button", { type: "button", onclick: () => askToken(afterToken) }, "Enter the token");
  $("alert").replaceChildren(alert("A token is needed", "Without it this server classifies nothing.", ask));
});

// ---- Texts of the API, in a dialog: a plain link could not carry the token

/** Elements of a model card's Markdown; HTML stays text. */
function markdown(source) {
  const plain = text => text.trim().replace(/\\([\\`*_[\]|#~$])/g, "$1").replaceAll("&lt;", "<").replaceAll("&amp;", "&");
  // A bar within a cell is escaped, so that no space stands before it.
  const row = line => line.slice(1, -1).split(" | ").map((cell, index) => make(index ? "dd" : "dt", {}, plain(cell)));
  const block = lines => {
    const [heading, list] = [/^(#+) (.*)/.exec(lines[0]), /^(- |(\d+)\. )/.exec(lines[0])];
    if (heading) return make(heading[1].length > 1 ? "h4" : "h3", {}, plain(heading[2]));
    if (lines[0].startsWith("|")) return make("dl", {}, ...lines.filter(line => /[^|\s-]/.test(line)).flatMap(row));
    if (!list) return make("p", {}, plain(lines.join(" ")));
    const items = lines.map(line => make("li", {}, plain(line.replace(list[2] ? /^\d+\. / : "- ", ""))));
    const all = list[2] ? make("ol", { start: list[2] }, ...items) : make("ul", {}, ...items);
    return items.length > 50 ? make("details", {}, make("summary", {}, `All ${items.length}`), all) : all;
  };
  const parts = source.replace(/^---\n[^]*?\n---\n/, "").split(/^(`{3,}).*\n([^]*?)\n\1$/m);
  const blocks = text => text.split(/\n{2,}/).map(part => part.trim()).filter(Boolean).map(part => block(part.split("\n")));
  // By turns: text, the fence, what it holds.
  return make("div", {}, ...parts.flatMap((part, index) => [blocks, () => [], text => [make("pre", {}, text)]][index % 3](part)));
}

async function showText(event, title, render) {
  event.preventDefault();
  const path = event.currentTarget.getAttribute("href");
  try {
    const text = await (await call(path)).blob.text();
    $("text-title").textContent = title;
    $("text").replaceChildren(render(text));
    $("text-dialog").showModal();
    $("text").scrollTop = 0;
  } catch (error) {
    fail(error);
  }
}
$("card").addEventListener("click", event => showText(event, "Model card", markdown));
$("openapi").addEventListener("click", event => {
  if (token) showText(event, "API description", text => make("pre", {}, JSON.stringify(JSON.parse(text), null, 2)));
});
for (const button of document.querySelectorAll("[data-close]")) button.addEventListener("click", () => button.closest("dialog").close());

// ---- The ways a picture comes in

for (const [button, input] of [["choose", "file"], ["camera", "shot"]]) {
  $(button).addEventListener("click", () => $(input).click());
  $(input).addEventListener("change", () => {
    if ($(input).files.length) take([...$(input).files], "chose");
    // The same file chosen again is a change again.
    $(input).value = "";
  });
}
$("stage").addEventListener("click", event => {
  if (document.body.className === "empty" && !event.target.closest("button, input")) $("file").click();
});

for (const button of document.querySelectorAll("[data-example]")) {
  button.firstChild.draggable = false;
  button.addEventListener("click", async () => {
    try {
      const { blob } = await call(button.dataset.example);
      look(blob, button.dataset.example.split("/").pop());
    } catch (error) {
      fail(error, () => button.click());
    }
  });
}

addEventListener("paste", event => {
  const files = [...event.clipboardData.files];
  if (!files.length && event.target.closest?.("input")) return;
  event.preventDefault();
  take(files, "pasted");
});

addEventListener("dragenter", event => { $("dropping").hidden = !event.dataTransfer.types.includes("Files"); });
addEventListener("dragleave", event => { if (!event.relatedTarget) $("dropping").hidden = true; });
addEventListener("dragover", event => event.preventDefault());
addEventListener("drop", event => {
  event.preventDefault();
  $("dropping").hidden = true;
  take([...event.dataTransfer.files], "dropped");
});

$("cam").addEventListener("change", () => explain($("cam").checked ? now.answer[0].label : null));
$("model").addEventListener("change", () => {
  chosen = models[$("model").selectedIndex];
  showModel();
  if (!now.blob) return;
  explain(null);
  now.answer = null;
  classify();
});

$("copy").addEventListener("click", async () => {
  const text = $("curl").textContent;
  // This exists on https and localhost only.
  const copied = await navigator.clipboard?.writeText(text).then(() => true, () => false);
  getSelection().selectAllChildren($("curl"));
  const done = copied || document.execCommand("copy");
  $("copy").textContent = done ? "Copied" : "Selected";
  $("status").textContent = done ? "The command was copied." : "The command is selected; copy it.";
  setTimeout(() => { $("copy").textContent = "Copy"; }, 2000);
});

async function start(attempt = 1) {
  try {
    await loadModels();
    $("alert").replaceChildren();
    return true;
  } catch (error) {
    fail(error, start, attempt);
    return false;
  }
}
showCurl();
start();
