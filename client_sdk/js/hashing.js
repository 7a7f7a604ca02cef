// What is hashed, and how: the words of Solidity's abi.encode, the trees, what keys sign. `trine.protocol` is the twin.
import { keccak_256 } from "@noble/hashes/sha3.js";
import { bytesToHex, concatBytes, hexToBytes, utf8ToBytes } from "@noble/hashes/utils.js";

const ZERO = new Uint8Array(32);
const typeHash = (text) => keccak_256(utf8ToBytes(text));

const RECEIPT_FIELDS = [
  ["requestHash", "bytes32"], ["client", "address"], ["node", "address"], ["modelId", "bytes32"],
  ["inputHash", "bytes32"], ["promptHash", "bytes32"], ["outputHash", "bytes32"], ["textHash", "bytes32"],
  ["fingerprintHash", "bytes32"], ["promptTokens", "uint32"], ["outputTokens", "uint32"], ["maxTokens", "uint32"],
  ["finishReason", "uint8"], ["engineClass", "bytes32"], ["feeWei", "uint256"], ["issuedAt", "uint64"],
  ["anchorBy", "uint64"],
];
export const RECEIPT_NAMES = RECEIPT_FIELDS.map(([name]) => name);
const RECEIPT = typeHash(`Receipt(${RECEIPT_FIELDS.map(([name, kind]) => `${kind} ${name}`).join(",")})`);
const DOMAIN = typeHash("EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)");
const RESULT = typeHash(
  "TrineResult(uint256 chainId,address batches,uint256 epoch,bytes32 batchId,uint256 accepted,uint256 rejected)",
);
const KEY_SET = typeHash(
  "TrineKeySet(uint256 chainId,address batches,uint256 epoch,bytes32 root,uint256 count,uint256 totalWeight,"
  + "uint256 validUntil)",
);
const HANDOVER = typeHash(
  "TrineHandover(uint256 chainId,address batches,uint256 signingEpoch,bytes32 signingRoot,uint256 epoch,bytes32 root,"
  + "uint256 count,uint256 totalWeight,uint256 validUntil)",
);

/** 32 bytes of a number, of hexadecimal digits (an address or a word), or of bytes. */
const word = (value) => {
  if (value instanceof Uint8Array) return value;
  if (typeof value === "string") return hexToBytes(value.slice(2).toLowerCase().padStart(64, "0"));
  return hexToBytes(BigInt(value).toString(16).padStart(64, "0"));
};
const hashOf = (...values) => keccak_256(concatBytes(...values.map(word)));

export const equal = (a, b) => a.length === b.length && a.every((byte, i) => byte === b[i]);

export const receiptHash = (receipt) => hashOf(RECEIPT, ...RECEIPT_FIELDS.map(([name]) => receipt[name]));

/** What the node has signed. */
export const receiptDigest = (chainId, batches, receipt) => {
  const domain = hashOf(DOMAIN, typeHash("Trine"), typeHash("1"), chainId, batches);
  return keccak_256(concatBytes(Uint8Array.of(0x19, 0x01), domain, receiptHash(receipt)));
};

export const batchId = (c) => hashOf(c.chainId, c.batches, c.receipt.node, c.receipt.modelId, c.root, c.canary);

/** What the committee has signed. */
export const resultDigest = (c) =>
  hashOf(RESULT, c.chainId, c.batches, c.epoch, batchId(c), c.accepted, c.rejected);

const setWords = (set) => [set.epoch, set.root, set.count, set.totalWeight, set.validUntil];

export const keySetId = (chainId, batches, set) => hashOf(KEY_SET, chainId, batches, ...setWords(set));

/** What keys of one set sign to hand over to the next. */
export const handoverDigest = (chainId, batches, current, following) =>
  hashOf(HANDOVER, chainId, batches, current.epoch, current.root, ...setWords(following));

// Trees

const less = (a, b) => {
  for (let i = 0; i < 32; i++) if (a[i] !== b[i]) return a[i] < b[i];
  return false;
};
const pair = (a, b) => keccak_256(less(a, b) ? concatBytes(a, b) : concatBytes(b, a));

const tokensOf = (node) => new DataView(node.buffer, node.byteOffset).getUint32(28);
const counting = (digest, tokens) => {
  if (tokens > 0xffffffff) return ZERO; // no root: a batch counts 32 bits of tokens
  const node = Uint8Array.from(digest);
  new DataView(node.buffer).setUint32(28, tokens);
  return node;
};

/** Whether the receipt is the batch's leaf. Every node counts the tokens below it in its last four bytes. */
export const inBatch = ({ root, index, receipt, proof }) => {
  const inner = keccak_256(hashOf(index, receiptHash(receipt)));
  const leaf = counting(inner, receipt.promptTokens + receipt.outputTokens);
  const above = (node, sibling) => counting(pair(node, word(sibling)), tokensOf(node) + tokensOf(word(sibling)));
  return !equal(leaf, ZERO) && equal(proof.reduce(above, leaf), word(root));
};

/** Whether a member is the set's leaf at its index. */
export const inSet = (set, { index, weight, key, proof }) => {
  const depth = Math.ceil(Math.log2(set.count));
  if (index >= set.count || proof.length !== depth) return false;
  const leaf = keccak_256(hashOf(index, keccak_256(hexToBytes(key.slice(2))), weight));
  return equal(proof.reduce((node, sibling) => pair(node, word(sibling)), leaf), word(set.root));
};

/** An address in EIP-55 form. */
export const checksummed = (address) => {
  const digits = address.slice(2).toLowerCase();
  const hash = bytesToHex(keccak_256(utf8ToBytes(digits)));
  return "0x" + [...digits].map((digit, i) => (parseInt(hash[i], 16) > 7 ? digit.toUpperCase() : digit)).join("");
};

/** Of a text under its order's salt: keccak256(0xff || salt || text), of the text alone without one. */
export const textHash = (text, salt) =>
  "0x" + bytesToHex(keccak_256(salt ? concatBytes(hexToBytes("ff"), salt, utf8ToBytes(text)) : utf8ToBytes(text)));
