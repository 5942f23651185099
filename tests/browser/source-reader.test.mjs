// Model files over the network and from disk: what servers and connections do wrong, and what is made of it.
// Runs in node: source-reader.js and http-bytes.js need nothing but fetch and Blob.

import assert from "node:assert/strict";
import { createHash, randomBytes } from "node:crypto";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { after, before, test } from "node:test";

import { fileAddress, isSigned, readableUrl } from "../../www/fetching/address.js";
import { SourceReader } from "../../www/fetching/source-reader.js";
import { sourceSpecs } from "../../www/api/sources.js";
import { serve } from "../tools/serve.mjs";

const SIZE = 700_001;
const bytes = randomBytes(SIZE);
const sha256 = createHash("sha256").update(bytes).digest("hex");
let folder;
let server;
let other;

before(async () => {
  folder = await mkdtemp(path.join(tmpdir(), "llava-web-"));
  await writeFile(path.join(folder, "model.gguf"), bytes);
  await writeFile(path.join(folder, "large.gguf"), Buffer.alloc(64 << 20));
  await writeFile(path.join(folder, "empty.gguf"), "");
  other = await serve({ root: folder });
  server = await serve({ root: folder, elsewhere: other.origin });
});

after(async () => {
  await Promise.all([server.close(), other.close()]);
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

const requestsOf = (part) => [...server.requests, ...other.requests].filter(({ url }) => url.includes(part));
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

for (const query of ["noranges", "chunked", "noetag", "redirect", "rate=4000000", "most=50000", "gzip", "gzip&ranges", "chunked&noranges"]) {
  test(`a server with ${query}`, async () => assert.deepEqual(await readAll(await open(query)), bytes));
}

test("a connection that drops again and again goes on where it stopped", async () => {
  const reader = await open("drop=150000");
  assert.deepEqual(await readAll(reader), bytes);
  const ranges = requestsOf("drop=150000").map(({ range }) => range);
  assert.equal(ranges[0], "bytes=0-");
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

test("hosts that send only so much at once are asked for the rest at once", async () => {
  await readAll(await open("most=100000&own", { retryDelay: 60_000 }));
  assert.deepEqual(requestsOf("most=100000&own").map(({ range }) => range), [0, 1, 2, 3, 4, 5, 6, 7].map((i) => `bytes=${100_000 * i}-`));
});

test("a weak and a strong ETag, and those of a file and of its compressed form, are of one version", async () => {
  for (const etags of ['W/"a"|"a"', '"a-gzip"|"a"', '"a"|W/"a;br"']) {
    assert.deepEqual(await readAll(await open(`drop=300000&times=1&etags=${encodeURIComponent(etags)}`)), bytes);
  }
  await assert.rejects(readAll(await open(`drop=300000&times=1&etags=${encodeURIComponent('W/"a"|"b"')}`)), withCode("integrity", "changed"));
});

test("another ETag in the middle is no matter where a hash proves the whole; another length is", async () => {
  const reader = await open("drop=300000&newetag", { sha256 });
  assert.deepEqual(await readAll(reader), bytes);
  await reader.finish();
});

test("where a range of the beginning cannot be asked for, it is asked for without", async () => {
  assert.deepEqual(await readAll(await open("rangefails")), bytes);
  assert.deepEqual(requestsOf("rangefails").map(({ range }) => range), ["bytes=0-", undefined]);
});

test("an empty file: invalid_gguf", async () => {
  const reader = await SourceReader.open({ kind: "url", url: `${server.origin}/empty.gguf`, name: "empty.gguf" });
  await assert.rejects(reader.read(0, 24), withCode("invalid_gguf", "truncated"));
});

test("closed while it is being opened: no connection stays, and nobody waits", async () => {
  for (const query of ["stall=0", "status=503"]) {
    const url = `${server.origin}/model.gguf?${query}&closed`;
    const reader = new SourceReader({ kind: "url", url, name: "model.gguf" }, { retryDelay: 600_000, stallLimit: 600_000 });
    const opened = reader.open().then(() => reader.read(0, 10));
    const failed = assert.rejects(opened);
    while (requestsOf(`${query}&closed`).length === 0) await new Promise((resolve) => setTimeout(resolve, 5));
    reader.close();
    await failed;
    const [request] = requestsOf(`${query}&closed`);
    while (request.to === Infinity) await new Promise((resolve) => setTimeout(resolve, 5));
  }
});

test("no body, though all is well: network", async () => {
  await assert.rejects(open("status=204"), withCode("network", "204", "no file"));
});

test("a signature that expires in the middle is renewed where it was given", async () => {
  // The first hundred thousand bytes, then 403 for that signature.
  assert.deepEqual(await readAll(await open("signed=1&drop=100000")), bytes);
  assert.ok(requestsOf("X-Amz-Signature").length >= 7);
});

test("too many requests: waited for as long as the host says, or ever longer", async () => {
  const waits = async (query) => {
    await readAll(await open(query, { retryDelay: 10 }));
    const times = requestsOf(query).map(({ from }) => from);
    return times.slice(1).map((time, i) => time - times[i]);
  };
  const [first, second, third] = await waits("status=429&times=3");
  // In units of the delay: 2, 10, 30.
  assert.ok(first >= 19 && second >= 99 && third >= 299, [first, second, third].join());
  const [told] = await waits("status=429&times=1&retryafter=1");
  assert.ok(told >= 990, String(told));
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
  // Until nothing more is sent: what is on its way goes on coming for a moment.
  const [request] = requestsOf("/large.gguf");
  for (let still = 0, sent = 0; still < 10; still = request.sent === sent ? still + 1 : 0) {
    ({ sent } = request);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  const { sent } = request;
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
  assert.equal(spec("hf:owner/repo@v1.0/a.gguf")[0].url, "https://huggingface.co/owner/repo/resolve/v1.0/a.gguf");
  assert.equal(spec("https://huggingface.co/o/r/blob/main/a.gguf")[0].url, "https://huggingface.co/o/r/resolve/main/a.gguf");
  assert.deepEqual(spec(["https://a.example/1.gguf?key=1", "https://a.example/2.gguf"]).map(({ name }) => name), ["1.gguf", "2.gguf"]);
  assert.equal(spec(new File([bytes], "f.gguf"))[0].name, "f.gguf");
  assert.equal(spec(new Uint8Array(7).subarray(2))[0].blob.size, 5);
  assert.equal(spec(new ArrayBuffer(3))[0].blob.size, 3);
  for (const wrong of ["", "hf:owner/repo", "hf:owner/../x", "hf:owner/repo@/x", "hf:owner/repo@a@b/x", "hf:owner/repo@../x", "ftp://a.example/x", "file:///x", [], 7, {}, null, [[]]]) {
    assert.throws(() => spec(wrong), withCode("invalid_request", "model"));
  }
  assert.equal(readableUrl("https://user.example/a.gguf?token=secret#x"), "https://user.example/a.gguf");
});

test("what of an address says which file it is", () => {
  const same = (a, b) => assert.equal(fileAddress(a), fileAddress(b));
  const other = (a, b) => assert.notEqual(fileAddress(a), fileAddress(b));
  same("https://a.example/m.gguf", "https://a.example/m.gguf#part");
  same("https://huggingface.co/o/r/resolve/main/m.gguf", "https://huggingface.co/o/r/resolve/main/m.gguf?download=true");
  other("https://a.example/m.gguf", "https://a.example/m.gguf?download=true");
  other("https://a.example/m.gguf?v=1", "https://a.example/m.gguf?v=2");
  // Each cloud's signature, twice; what is no part of one stays.
  const bucket = "https://bucket.s3.amazonaws.com/m.gguf";
  for (const sign of [
    (n) => `X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=c${n}&X-Amz-Date=2026112${n}T000000Z&X-Amz-Expires=3600&X-Amz-SignedHeaders=host&X-Amz-Signature=f${n}&x-id=GetObject`,
    (n) => `AWSAccessKeyId=A${n}&Expires=179${n}&Signature=s${n}`,
    (n) => `Expires=179${n}&Policy=p${n}&Signature=s${n}&Key-Pair-Id=K${n}`,
    (n) => `X-Goog-Algorithm=GOOG4-RSA-SHA256&X-Goog-Credential=c${n}&X-Goog-Date=d${n}&X-Goog-Expires=60&X-Goog-SignedHeaders=host&X-Goog-Signature=${n}`,
    (n) => `sv=2024-11-04&st=a${n}&se=b${n}&sr=b&sp=r&sig=x${n}%3D`,
  ]) {
    same(`${bucket}?${sign(1)}`, `${bucket}?${sign(2)}`);
    same(`${bucket}?${sign(1)}`, bucket);
    other(`${bucket}?versionId=1&${sign(1)}`, `${bucket}?versionId=2&${sign(1)}`);
    assert.ok(isSigned(`${bucket}?${sign(1)}`));
  }
  // Words that a signature has among others do not make one.
  other("https://a.example/m.gguf?Expires=1", "https://a.example/m.gguf?Expires=2");
  other("https://a.example/m.gguf?sig=1", "https://a.example/m.gguf?sig=2");
  assert.ok(!isSigned("https://a.example/m.gguf?se=1&sig=2"));
  // Nothing to strip, nothing changed.
  assert.equal(fileAddress("https://a.example/a%20b.gguf?x=a+b&y"), "https://a.example/a%20b.gguf?x=a+b&y");
});
