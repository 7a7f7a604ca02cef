export declare const FORMAT: "trine-certificate-1";

/** What does not hold, or is no certificate; the message says why. */
export declare class CertificateError extends Error {}

export interface KeySet {
  epoch: number;
  root: string;
  count: number;
  totalWeight: bigint | string;
  validUntil: number;
}

/** What the node has signed of the answer. Hashes are keccak256, times seconds since 1970. */
export interface Receipt {
  requestHash: string;
  client: string;
  node: string;
  modelId: string;
  inputHash: string;
  promptHash: string;
  outputHash: string;
  textHash: string;
  fingerprintHash: string;
  promptTokens: number;
  outputTokens: number;
  maxTokens: number;
  finishReason: number;
  engineClass: string;
  feeWei: bigint;
  issuedAt: number;
  anchorBy: number;
}

export interface Verified {
  /** What the committee has found: use an answer only if this is "accept". */
  result: "accept" | "reject" | "inconclusive";
  chainId: number;
  batches: string;
  batchId: string;
  index: number;
  epoch: number;
  /** How many verifiers have signed: 3, 7 or 15. */
  committee: number;
  handovers: number;
  /** Until when the certificate proves anything to somebody who gets it, in seconds. */
  validUntil: number;
  receipt: Receipt;
}

/**
 * Checks a certificate: its document, or the document's JSON, in which it also notices a name that stands twice.
 *
 * `root` is the id of the key set that you trust (`trine certificate root`), `at` when you got the file, in seconds since
 * 1970; now unless told otherwise. Throws CertificateError when anything does not hold. Returns also what was rejected:
 * look at `result`.
 */
export declare function verifyCertificate(document: unknown, options: { root: string; at?: number }): Verified;

/** Id of a key set of a network, by its chain and the address of its `Batches`. */
export declare function keySetIdOf(chainId: number, batches: string, set: KeySet): string;

/** Whether a text is the certified answer. */
export declare function isTextOf(text: string, verified: Pick<Verified, "receipt">, salt?: string): boolean;
