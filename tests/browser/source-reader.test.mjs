// Model files over the network and from disk: what servers and connections do wrong, and what is made of it.
// Runs in node: source-reader.js and http-bytes.js need nothing but fetch and Blob.

import assert from "node:assert/strict";
import { createHash, randomBytes } from "node:crypto";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { after, before, test } from "node:test";

import { readableUrl } from "../../www/fetching/http-bytes.js";
import { SourceReader } from "../../www/fetching/source-reader.js";
import { sourceSpecs } from "../../www/api/sources.js";
import { serve } from "../tools/serve.mjs";

const SIZE = 700_001;
const bytes = randomBytes(SIZE);
const sha256 = createHash("sha256").update(bytes).digest("hex");
let folder;
let server;

before(async () => {
  folder = await mkdtemp(path.join(tmpdir(), "llava-web-"));
  await writeFile(path.join(folder, "model.gguf"), bytes);
  await writeFile(path.join(folder, "large.gguf"), Buffer.alloc(64 << 20));
  server = await serve({ root: folder });
});

after(async () => {
  await server.close();
  await rm(folder, { recursive: true });
});

const createHasher = () => {
  const hash = createHash("sha256");
  return { update: (piece) => void hash.update(piece), digestHex: () => hash.digest("hex") };
};

/** Opens a URL of the test server, with delays a test can wait for. */
const open = (query, options = {}) => SourceReader.open(
  { kind: "url", url: `${server.origin}/model.gguf?${query}&test=${Math.random()}`, name: "model.gguf" },
  { retryDelay: 5, createHasher, ...options });

/** Reads everything, in pieces that meet no boundary of the server's. */
async function readAll(reader, piece = 65_537) {
  const pieces = [];
  for (let at = 0; at < SIZE; at += piece) pieces.push(await reader.read(at, Math.min(piece, SIZE - at)));
  return Buffer.concat(pieces);
}

const requestsOf = (part) => server.requests.filter(({ url }) => url.includes(part));
const withCode = (code, ...words) => (error) => {
  assert.equal(error.code, code, `${error.code}: ${error.message}`);
  for (const word of words) assert.ok(error.message.includes(word), `"${word}" in: ${error.message}`);
  return true;
};

test("a whole file, and gaps that are skipped", async () => {
  const reader = await open("whole");
  assert.equal(reader.size, SIZE);
  assert.deepEqual(await readAll(reader), bytes);
  const gaps = await open("gaps");
  assert.deepEqual(Buffer.from(await gaps.read(10, 5)), bytes.subarray(10, 15));
  assert.deepEqual(Buffer.from(await gaps.read(600_000, 100_000)), bytes.subarray(600_000, 700_000));
  gaps.close();
});

test("reading backwards is a fault of ours, and says so", async () => {
  const reader = await open("backwards");
  await reader.read(100, 10);
  await assert.rejects(reader.read(50, 10), withCode("internal"));
  reader.close();
});

for (const query of ["noranges", "chunked", "noetag", "redirect", "rate=4000000", "nocors"]) {
  test(`a server with ${query}`, async () => assert.deepEqual(await readAll(await open(query)), bytes));
}

test("a connection that drops again and again goes on where it stopped", async () => {
  const reader = await open("drop=150000");
  assert.deepEqual(await readAll(reader), bytes);
  const ranges = requestsOf("drop=150000").map(({ range }) => range);
  assert.equal(ranges[0], undefined);
  assert.ok(ranges.slice(1).every((range) => /^bytes=\d+-$/.test(range)), ranges.join());
  assert.ok(ranges.length >= 5);
});

test("dropped before the first byte", async () => assert.deepEqual(await readAll(await open("drop=1&times=2")), bytes));

test("dropped without knowing the length", async () => assert.deepEqual(await readAll(await open("drop=300000&chunked")), bytes));

test("dropped, on a server without ranges: from the start again, past what is there", async () => {
  assert.deepEqual(await readAll(await open("drop=300000&times=2&noranges")), bytes);
});

test("a hash over dropped connections", async () => {
  const reader = await open("drop=200000", { sha256: sha256.toUpperCase() });
  await readAll(reader);
  await reader.finish();
});

test("dropped at the same byte every time: network, after a bounded number of attempts", async () => {
  const reader = await open("drop=300000&noranges", { retries: 3 });
  await assert.rejects(readAll(reader), withCode("network", "300000 of 700001"));
  assert.equal(requestsOf("drop=300000&noranges").length, 4);
});

test("the file changes between two connections: integrity", async () => {
  await assert.rejects(readAll(await open("drop=300000&newetag")), withCode("integrity", "changed"));
});

test("another range than was asked for: integrity", async () => {
  await assert.rejects(readAll(await open("drop=300000&wrongrange")), withCode("integrity"));
});

test("a length that is not true", async () => {
  const reader = await open("announce=800000");
  await readAll(reader);
  await assert.rejects(reader.read(SIZE, 10), (error) => ["network", "integrity"].includes(error.code));
});

test("a connection that falls silent is dropped and taken up again", async () => {
  assert.deepEqual(await readAll(await open("stall=400000&times=1", { stallLimit: 150 })), bytes);
  await assert.rejects(readAll(await open("stall=400000&noranges", { stallLimit: 100, retries: 1 })), withCode("network", "broke off"));
});

for (const [status, word] of [[404, "no such file"], [403, "sign"], [401, "sign"]]) {
  test(`status ${status}: network, at once`, async () => {
    await assert.rejects(open(`status=${status}`), withCode("network", String(status), `${server.origin}/model.gguf`, word));
    assert.equal(requestsOf(`status=${status}`).length, 1);
  });
}

for (const [status, word] of [[429, "Wait"], [500, "later"], [503, "later"]]) {
  test(`status ${status}: network, after new attempts; none needed where it passes`, async () => {
    await assert.rejects(open(`status=${status}`, { retries: 2 }), withCode("network", String(status), word));
    assert.equal(requestsOf(`status=${status}&test`).length, 3);
    assert.deepEqual(await readAll(await open(`status=${status}&times=2`)), bytes);
  });
}

test("a web page instead of a file: network", async () => {
  await assert.rejects(open("html"), withCode("network", "web page"));
});

test("a host that is not there: network, and what to do", async () => {
  await assert.rejects(SourceReader.open({ kind: "url", url: "http://127.0.0.1:9/model.gguf?token=secret", name: "x" }, { retryDelay: 1 }),
    (error) => withCode("network", "CORS", "choose it from disk")(error) && !error.message.includes("secret"));
});

test("a hash is of all bytes, also those that were skipped", async () => {
  const right = await open("hash", { sha256 });
  await right.read(5, 10);
  await right.read(500_000, 10);
  await right.finish();
  const wrong = await open("hash", { sha256: "0".repeat(64) });
  await wrong.read(0, 10);
  await assert.rejects(wrong.finish(), withCode("integrity", sha256));
});

test("a file that ends too early: invalid_gguf, with both numbers", async () => {
  const reader = await open("short");
  await assert.rejects(reader.read(SIZE - 10, 20), withCode("invalid_gguf", String(SIZE), String(SIZE + 10)));
  assert.equal(reader.failure?.code, "invalid_gguf");
});

test("what is not asked for is not downloaded", async () => {
  const reader = await SourceReader.open({ kind: "url", url: `${server.origin}/large.gguf`, name: "large.gguf" });
  await reader.read(0, 1 << 20);
  await new Promise((resolve) => setTimeout(resolve, 400));
  const [{ sent }] = requestsOf("/large.gguf");
  reader.close();
  // What the system's and the browser's own buffers hold.
  assert.ok(sent < 24 << 20, `${sent} of ${64 << 20} bytes were sent`);
});

test("a local file, with and without a hash", async () => {
  const blob = new Blob([bytes]);
  const reader = await SourceReader.open({ kind: "blob", blob, name: "a.gguf" });
  assert.equal(reader.size, SIZE);
  assert.deepEqual(await readAll(reader), bytes);
  const hashed = await SourceReader.open({ kind: "blob", blob, name: "a.gguf" }, { sha256, createHasher });
  await hashed.read(70_000, 10);
  await hashed.finish();
  const short = await SourceReader.open({ kind: "blob", blob: blob.slice(0, 100), name: "a.gguf" });
  await assert.rejects(short.read(90, 20), withCode("invalid_gguf", "100", "110"));
});

test("every kind of source", () => {
  const spec = (source) => sourceSpecs(source, "model");
  assert.deepEqual(spec("hf:owner/repo/sub dir/a b.gguf"),
    [{ kind: "url", url: "https://huggingface.co/owner/repo/resolve/main/sub%20dir/a%20b.gguf", name: "a b.gguf" }]);
  assert.equal(spec("https://huggingface.co/o/r/blob/main/a.gguf")[0].url, "https://huggingface.co/o/r/resolve/main/a.gguf");
  assert.deepEqual(spec(["https://a.example/1.gguf?key=1", "https://a.example/2.gguf"]).map(({ name }) => name), ["1.gguf", "2.gguf"]);
  assert.equal(spec(new File([bytes], "f.gguf"))[0].name, "f.gguf");
  assert.equal(spec(new Uint8Array(7).subarray(2))[0].blob.size, 5);
  assert.equal(spec(new ArrayBuffer(3))[0].blob.size, 3);
  for (const wrong of ["", "hf:owner/repo", "hf:owner/../x", "ftp://a.example/x", "file:///x", [], 7, {}, null, [[]]]) {
    assert.throws(() => spec(wrong), withCode("invalid_request", "model"));
  }
  assert.equal(readableUrl("https://user.example/a.gguf?token=secret#x"), "https://user.example/a.gguf");
});
