// Checks a certificate that travels: no chain, no network, nothing but the id of a key set that the reader trusts.
// docs/certificates.md has the rules; `trine.protocol.portable` is the reference, with the same test vectors.
import { bls12_381 } from "@noble/curves/bls12-381.js";
import { secp256k1 } from "@noble/curves/secp256k1.js";
import { keccak_256 } from "@noble/hashes/sha3.js";
import { bytesToHex, hexToBytes } from "@noble/hashes/utils.js";

import {
  batchId, checksummed, equal, handoverDigest, inBatch, inSet, keySetId, receiptDigest, resultDigest, textHash,
} from "./hashing.js";
import { CertificateError, FORMAT, fail, readDocument } from "./reading.js";

export { CertificateError, FORMAT };

const MAX_STEP_EPOCHS = 1024;
const MESSAGE_TAG = "BLS_SIG_BLS12381G1_XMD:SHA-256_SSWU_RO_POP_";
const bls = bls12_381.shortSignatures;
const { Point: G1 } = bls12_381.G1;
const { Point: G2 } = bls12_381.G2;

/** Field elements of EIP-2537's encoding: 64 bytes each, below the modulus. */
const elements = (bytes) => {
  const found = [];
  for (let at = 0; at < bytes.length; at += 64) {
    const value = BigInt("0x" + bytesToHex(bytes.subarray(at, at + 64)));
    if (value >= bls12_381.fields.Fp.ORDER) throw new RangeError("a coordinate is not below the field's modulus");
    found.push(value);
  }
  return found;
};
const checked = (point) => {
  point.assertValidity(); // on the curve, in the subgroup; infinity has no such coordinates
  return point;
};
const keyPoint = (bytes) => {
  const [x0, x1, y0, y1] = elements(bytes);
  return checked(G2.fromAffine({ x: { c0: x0, c1: x1 }, y: { c0: y0, c1: y1 } }));
};
const signaturePoint = (bytes) => {
  const [x, y] = elements(bytes);
  return checked(G1.fromAffine({ x, y }));
};

/** Whether all keys have signed the message, as one aggregate. */
const signedByAll = (keys, message, signature) => {
  const hashed = bls12_381.G1.hashToCurve(message, { DST: MESSAGE_TAG });
  let key, point;
  try {
    key = keys.map((one) => keyPoint(hexToBytes(one.slice(2)))).reduce((sum, one) => sum.add(one));
    point = signaturePoint(hexToBytes(signature.slice(2)));
  } catch {
    return false; // what is no point is nobody's
  }
  return !key.is0() && bls.verify(point, hashed, key);
};

/** Weight of distinct keys of the set that have all signed; undefined where they have not. */
const signedBy = (set, digest, members, signature) => {
  if (members.some((member, i) => i > 0 && member.index <= members[i - 1].index)) return undefined;
  if (members.length === 0 || !members.every((member) => inSet(set, member))) return undefined;
  if (!signedByAll(members.map(({ key }) => key), digest, signature)) return undefined;
  return members.reduce((sum, { weight }) => sum + weight, 0n);
};

const handsOver = (chainId, batches, current, following, { members, signature }) => {
  if (following.epoch <= current.epoch || following.epoch > current.epoch + MAX_STEP_EPOCHS) return false;
  const digest = handoverDigest(chainId, batches, current, following);
  const weight = signedBy(current, digest, members, signature);
  return weight !== undefined && weight * 3n > current.totalWeight * 2n;
};

const signerOf = (digest, signature) => {
  try {
    const bytes = hexToBytes(signature.slice(2));
    if (bytes[64] !== 27 && bytes[64] !== 28) return undefined;
    const recovered = secp256k1.Signature.fromBytes(bytes.subarray(0, 64)).addRecoveryBit(bytes[64] - 27);
    if (recovered.hasHighS()) return undefined;
    const key = recovered.recoverPublicKey(digest).toBytes(false);
    return checksummed("0x" + bytesToHex(keccak_256(key.subarray(1)).subarray(12)));
  } catch {
    return undefined;
  }
};

const resultOf = ({ accepted, rejected, index }) => {
  if ((accepted >> BigInt(index)) & 1n) return "accept";
  return (rejected >> BigInt(index)) & 1n ? "reject" : "inconclusive";
};

const requireCertificate = (c, set) => {
  if (c.epoch !== set.epoch) fail(`the certificate is of epoch ${c.epoch}, its last key set of ${set.epoch}`);
  if ((c.accepted & c.rejected) !== 0n) fail("the result says two things of one answer");
  if (![3, 7, 15].includes(c.members.length)) fail(`a committee has 3, 7 or 15 members, not ${c.members.length}`);
  if (!inBatch(c)) fail("the Merkle proof does not lead to the batch's root");
  const signer = signerOf(receiptDigest(c.chainId, c.batches, c.receipt), c.receiptSignature);
  if (signer !== c.receipt.node) fail(`the receipt is not signed by ${c.receipt.node}`);
  if (signedBy(set, resultDigest(c), c.members, c.signature) === undefined) {
    fail("the result is not signed by distinct keys of the epoch");
  }
};

/** Id of a key set: what people compare, and what readers trust. */
export const keySetIdOf = (chainId, batches, set) =>
  "0x" + bytesToHex(keySetId(chainId, batches, { ...set, totalWeight: BigInt(set.totalWeight) }));

/** Whether a text is the certified answer. `salt`: the order's, 32 bytes in hexadecimal, if it had one. */
export function isTextOf(text, { receipt }, salt) {
  if (salt !== undefined && !(typeof salt === "string" && /^(0x)?[0-9a-f]{64}$/i.test(salt))) fail("salt is no salt");
  return textHash(text, salt && hexToBytes(salt.replace(/^0x/, ""))) === receipt.textHash;
}

/**
 * Checks a certificate. See `index.d.ts`.
 */
export function verifyCertificate(document, { root, at = Math.floor(Date.now() / 1000) }) {
  if (typeof root !== "string" || !/^0x[0-9a-fA-F]{64}$/.test(root)) fail("root is no id of a key set");
  if (!Number.isSafeInteger(at) || at < 0) fail("at is no time in seconds");
  const { certificate, keySets, handovers } = readDocument(document);
  const { chainId, batches } = certificate;
  if (handovers.length !== keySets.length - 1) fail("a certificate has a hand-over between each key set and the next");
  if (!equal(keySetId(chainId, batches, keySets[0]), hexToBytes(root.slice(2)))) {
    const { epoch } = keySets[0];
    fail(`it begins with a key set of epoch ${epoch} whose id is not root: trine certificate root --epoch ${epoch} --id`);
  }
  const expired = keySets.find(({ validUntil }) => at > validUntil);
  if (expired) fail(`the key set of epoch ${expired.epoch} was good until ${expired.validUntil}, and it is ${at}`);
  requireCertificate(certificate, keySets.at(-1));
  handovers.forEach((handover, i) => {
    if (!handsOver(chainId, batches, keySets[i], keySets[i + 1], handover)) {
      fail(`epoch ${keySets[i].epoch} does not hand over to the key set of epoch ${keySets[i + 1].epoch}`);
    }
  });
  return {
    result: resultOf(certificate),
    chainId,
    batches,
    batchId: "0x" + bytesToHex(batchId(certificate)),
    index: certificate.index,
    epoch: certificate.epoch,
    committee: certificate.members.length,
    handovers: handovers.length,
    validUntil: Math.min(...keySets.map(({ validUntil }) => validUntil)),
    receipt: certificate.receipt,
  };
}
