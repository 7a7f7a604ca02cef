// Reads a document strictly: each field as the format writes it, none more, none less. `certificate.schema.json` says
// the same.
import { RECEIPT_NAMES, checksummed } from "./hashing.js";

export const FORMAT = "trine-certificate-1";
const MAX_HANDOVERS = 64;
const MAX_SIGNERS = 256;

export class CertificateError extends Error {
  name = "CertificateError";
}
export const fail = (message) => {
  throw new CertificateError(message);
};

const malformed = (where) => fail(`not a certificate: ${where} is not written as the format says`);

const text = (pattern) => (value, where) =>
  typeof value === "string" && pattern.test(value) ? value : malformed(where);
const hex = (bytes) => text(new RegExp(`^0x[0-9a-f]{${2 * bytes}}$`));
const integer = (most, least = 0) => (value, where) =>
  Number.isSafeInteger(value) && value >= least && value <= most ? value : malformed(where);
const below = (limit, read, least = 0n) => (value, where) => {
  const number = BigInt(read(value, where));
  return number >= least && number < limit ? number : malformed(where);
};
const list = (read, most, least = 0) => (value, where) =>
  Array.isArray(value) && value.length >= least && value.length <= most
    ? value.map((item, i) => read(item, `${where}[${i}]`))
    : malformed(where);
const object = (readers) => (value, where) => {
  if (typeof value !== "object" || value === null || Array.isArray(value)) malformed(where);
  const names = Object.keys(readers);
  const stray = Object.keys(value).find((name) => !Object.hasOwn(readers, name));
  if (stray !== undefined) malformed(`${where}.${stray}`);
  return Object.fromEntries(names.map((name) => [
    name, Object.hasOwn(value, name) ? readers[name](value[name], `${where}.${name}`) : malformed(`${where}.${name}`),
  ]));
};

const SAFE = Number.MAX_SAFE_INTEGER;
const wordOf = hex(32);
const decimal = text(/^(0|[1-9][0-9]{0,77})$/);
const bits = below(1n << 256n, text(/^0x(0|[1-9a-f][0-9a-f]{0,63})$/));
const address = (value, where) => {
  const found = text(/^0x[0-9a-fA-F]{40}$/)(value, where);
  return found === checksummed(found) ? found : malformed(where);
};
const signature = hex(128);
const members = (most) => list(object({
  index: integer(2 ** 16 - 1),
  weight: below(1n << 64n, decimal, 1n),
  key: hex(256),
  proof: list(wordOf, 16),
}), most);
const KINDS = {
  client: address, node: address, promptTokens: integer(2 ** 32 - 1), outputTokens: integer(2 ** 32 - 1),
  maxTokens: integer(2 ** 32 - 1), finishReason: integer(255), feeWei: below(1n << 256n, decimal),
  issuedAt: integer(SAFE), anchorBy: integer(SAFE),
};
const receipt = object(Object.fromEntries(RECEIPT_NAMES.map((name) => [name, KINDS[name] ?? wordOf])));

const document = object({
  format: text(new RegExp(`^${FORMAT}$`)),
  certificate: object({
    chainId: integer(SAFE, 1),
    batches: address,
    epoch: integer(SAFE),
    root: wordOf,
    canary: wordOf,
    index: integer(255),
    receipt,
    receiptSignature: hex(65),
    proof: list(wordOf, 8, 8),
    accepted: bits,
    rejected: bits,
    members: members(15),
    signature,
  }),
  keySets: list(object({
    epoch: integer(SAFE),
    root: wordOf,
    count: integer(2 ** 16, 3),
    totalWeight: below(1n << 128n, decimal, 1n),
    validUntil: integer(SAFE),
  }), MAX_HANDOVERS + 1, 1),
  handovers: list(object({ members: members(MAX_SIGNERS), signature }), MAX_HANDOVERS),
});

/** Reads a document, or its JSON. Throws CertificateError. */
export const readDocument = (given) => {
  let value = given;
  if (typeof given === "string") {
    let again;
    try {
      value = JSON.parse(given);
      again = JSON.stringify(value); // what is nested too deeply cannot be written
    } catch (error) {
      fail(`not a certificate: ${error.message}`);
    }
    // No string of the format has white space. What is left out when it is written anew stood there twice, or otherwise.
    if (given.replace(/\s/g, "") !== again) malformed("the JSON");
  }
  return document(value, "document");
};
