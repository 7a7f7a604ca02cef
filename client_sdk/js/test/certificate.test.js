// The vectors that `trine.protocol.portable` is tested with.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import { CertificateError, isTextOf, keySetIdOf, verifyCertificate } from "../index.js";

const vectors = JSON.parse(readFileSync(new URL("../../../tests/vectors/certificate.json", import.meta.url), "utf8"));
const { at, certificates } = vectors;

const changed = (document, path, value) => {
  const copy = structuredClone(document);
  const place = path.slice(0, -1).reduce((found, step) => found[step], copy);
  place[path.at(-1)] = value;
  return copy;
};
const refused = (document, root, pattern = /./) => {
  assert.throws(() => verifyCertificate(document, { root, at }), (error) => {
    assert.ok(error instanceof CertificateError, error.stack);
    assert.match(error.message, pattern);
    return true;
  });
};

for (const [number, { document, rootId, result }] of certificates.entries()) {
  test(`certificate ${number} holds with nothing but a root`, () => {
    const found = verifyCertificate(document, { root: rootId, at });
    assert.equal(found.result, result);
    assert.equal(found.handovers, number);
    assert.deepEqual(verifyCertificate(JSON.stringify(document), { root: rootId, at }), found);
    assert.ok(isTextOf(vectors.text, found));
    assert.ok(!isTextOf(vectors.text + " ", found));
    const { chainId, batches } = vectors;
    assert.equal(keySetIdOf(chainId, batches, { ...document.keySets[0] }), rootId);
  });
}

test("a text is hashed under its order's salt", () => {
  const shared = JSON.parse(readFileSync(new URL("../../../tests/vectors/protocol.json", import.meta.url), "utf8"));
  for (const [i, text] of shared.text.entries()) {
    const [salted, bare] = [shared.text_salted[i], shared.text_bare[i]].map((textHash) => ({ receipt: { textHash } }));
    assert.ok(isTextOf(text, salted, shared.text_salt[i]));
    assert.ok(isTextOf(text, bare));
    assert.ok(!isTextOf(text, salted));
    assert.ok(!isTextOf(text, bare, shared.text_salt[i]));
  }
  assert.throws(() => isTextOf("", { receipt: {} }, "0x12"), CertificateError);
});

test("every field that is tampered with is noticed", () => {
  assert.ok(vectors.refused.length > 200);
  for (const { certificate, path, value } of vectors.refused) {
    const { document, rootId } = certificates[certificate];
    refused(changed(document, path, value), rootId);
  }
});

test("another root, another time", () => {
  const { document, rootId } = certificates[2];
  refused(document, "0x" + "00".repeat(32), /whose id is not root: trine certificate root --epoch/);
  refused(document, "0x12", /no id/);
  const { validUntil } = verifyCertificate(document, { root: rootId, at });
  assert.ok(verifyCertificate(document, { root: rootId, at: validUntil }));
  assert.throws(() => verifyCertificate(document, { root: rootId, at: validUntil + 1 }), /was good until/);
  assert.throws(() => verifyCertificate(document, { root: rootId, at: NaN }), CertificateError);
});

test("what is written in another way is refused", () => {
  const { document, rootId } = certificates[0];
  const { certificate, keySets } = document;
  for (const [path, value] of [
    [["certificate", "epoch"], String(certificate.epoch)],
    [["certificate", "root"], certificate.root.toUpperCase()],
    [["certificate", "accepted"], "0x0" + certificate.accepted.slice(2)],
    [["certificate", "batches"], certificate.batches.toLowerCase()],
    [["certificate", "members", 0, "weight"], Number(certificate.members[0].weight)],
    [["certificate", "rejected"], certificate.accepted],
    [["certificate", "members"], certificate.members.slice(0, 2)],
    [["certificate", "members"], [certificate.members[1], certificate.members[0], certificate.members[2]]],
    [["certificate", "members", 1], certificate.members[0]],
    [["certificate", "signature"], "0x" + "00".repeat(128)],
    [["certificate", "receiptSignature"], "0x" + "00".repeat(65)],
    [["keySets", 0, "totalWeight"], " " + keySets[0].totalWeight],
    [["keySets"], []],
    [["handovers"], [{ members: [], signature: "0x" + "00".repeat(128) }]],
    [["format"], "trine-certificate-2"],
    [["keySets", 0, "validUntil"], 2 ** 53],
  ]) refused(changed(document, path, value), rootId);
});

test("anything else is refused with an error of ours", () => {
  const { rootId } = certificates[0];
  for (const junk of [null, undefined, 7, "", "{", "[]", [], {}, { format: "trine-certificate-1" }, "null"]) {
    refused(junk, rootId, /not a certificate/);
  }
  refused("[".repeat(200_000) + "]".repeat(200_000), rootId, /not a certificate/);
  const poisoned = JSON.stringify(certificates[0].document).replace("{", '{"__proto__":{"format":1},');
  refused(poisoned, rootId, /not a certificate/);
  const text = JSON.stringify(certificates[0].document, null, 2);
  assert.ok(verifyCertificate(text, { root: rootId, at }));
  refused(text.replace("{", '{"format":"trine-certificate-1",'), rootId, /not a certificate/);
  refused(text.replace(/"index": (\d+)/, '"index": $1.0'), rootId, /not a certificate/);
});
