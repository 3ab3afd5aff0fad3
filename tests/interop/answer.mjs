// The other side of tests/interop: one JSON question on standard input, one JSON answer on standard output.
// Blind RSA and HPKE are independent libraries. No npm package has RFC 9381 over Ed25519, so the VRF is written here
// from the RFC, over another library's curve: it shares no line and no arithmetic with ours.
import { createHash, webcrypto } from "node:crypto";
import { RSABSSA } from "@cloudflare/blindrsa-ts";
import { Chacha20Poly1305 } from "@hpke/chacha20poly1305";
import { CipherSuite, HkdfSha256 } from "@hpke/core";
import { XWing } from "@hpke/hybridkem-x-wing";
import { ed25519 } from "@noble/curves/ed25519.js";

const bytes = (hex) => Uint8Array.from(Buffer.from(hex, "hex"));
const hex = (data) => Buffer.from(data).toString("hex");
const joined = (...parts) => Uint8Array.from(Buffer.concat(parts.map((part) => Buffer.from(part))));

// --- blind RSA -------------------------------------------------------------------------------------------------------

const rsa = RSABSSA.SHA384.PSS.Deterministic();
const algorithm = { name: "RSA-PSS", hash: "SHA-384" };
const rsaPublic = (jwk) => webcrypto.subtle.importKey("jwk", jwk, algorithm, true, ["verify"]);
const rsaPrivate = (jwk) => webcrypto.subtle.importKey("jwk", jwk, algorithm, true, ["sign"]);

async function blind({ key, message }) {
  const { blindedMsg, inv } = await rsa.blind(await rsaPublic(key), bytes(message));
  return { blinded: hex(blindedMsg), inverse: hex(inv) };
}

async function blindSign({ key, blinded }) {
  return hex(await rsa.blindSign(await rsaPrivate(key), bytes(blinded)));
}

async function finalize({ key, message, signature, inverse }) {
  return hex(await rsa.finalize(await rsaPublic(key), bytes(message), bytes(signature), bytes(inverse)));
}

async function verifies({ key, message, signature }) {
  return rsa.verify(await rsaPublic(key), bytes(signature), bytes(message));
}

// --- HPKE with X-Wing ------------------------------------------------------------------------------------------------

const suite = new CipherSuite({ kem: new XWing(), kdf: new HkdfSha256(), aead: new Chacha20Poly1305() });

async function seal({ publicKey, plaintext, info }) {
  const recipientPublicKey = await suite.kem.deserializePublicKey(bytes(publicKey));
  const sender = await suite.createSenderContext({ recipientPublicKey, info: bytes(info) });
  return hex(joined(new Uint8Array(sender.enc), new Uint8Array(await sender.seal(bytes(plaintext)))));
}

async function open({ seed, sealed, info }) {
  const all = bytes(sealed);
  const recipientKey = await suite.kem.deserializePrivateKey(bytes(seed));
  const recipient = await suite.createRecipientContext({ recipientKey, enc: all.slice(0, 1120), info: bytes(info) });
  return hex(new Uint8Array(await recipient.open(all.slice(1120))));
}

// --- RFC 9381, ECVRF-EDWARDS25519-SHA512-TAI -------------------------------------------------------------------------

const { Point } = ed25519;
const order = Point.Fn.ORDER;
const sha512 = (...parts) => createHash("sha512").update(joined(...parts)).digest();
const number = (data) => BigInt("0x" + hex(Uint8Array.from(data).reverse()));
const little = (value) => Uint8Array.from(bytes(value.toString(16).padStart(64, "0"))).reverse();
const times = (point, scalar) => (scalar === 0n ? Point.ZERO : point.multiplyUnsafe(scalar));

function toCurve(publicKey, data) {
  for (let counter = 0; counter < 256; counter++) {
    const digest = sha512([3, 1], publicKey, data, [counter, 0]).subarray(0, 32);
    try {
      const point = Point.fromBytes(Uint8Array.from(digest)).clearCofactor();
      if (!point.is0()) return point;
    } catch {
      // Not a point: the next counter (section 5.4.1.1, step 5).
    }
  }
  throw new Error("no point");
}

const challenge = (...points) => sha512([3, 2], ...points.map((point) => point.toBytes()), [0]).subarray(0, 16);
const output = (gamma) => hex(sha512([3, 3], gamma.clearCofactor().toBytes(), [0]));

async function vrfProve({ secret, data }) {
  const expanded = createHash("sha512").update(bytes(secret)).digest();
  const clamped = Uint8Array.from(expanded.subarray(0, 32));
  clamped[0] &= 248;
  clamped[31] = (clamped[31] & 127) | 64;
  const scalar = number(clamped) % order;
  const own = Point.BASE.multiply(scalar);
  const point = toCurve(own.toBytes(), bytes(data));
  const gamma = point.multiply(scalar);
  const nonce = number(sha512(expanded.subarray(32), point.toBytes())) % order;
  const c = challenge(own, point, gamma, Point.BASE.multiply(nonce), point.multiply(nonce));
  const s = (nonce + number(c) * scalar) % order;
  return { proof: hex(joined(gamma.toBytes(), c, little(s))), output: output(gamma) };
}

async function vrfVerify({ publicKey, data, proof }) {
  const pi = bytes(proof);
  const own = Point.fromBytes(bytes(publicKey));
  const [gamma, c, s] = [Point.fromBytes(pi.slice(0, 32)), number(pi.slice(32, 48)), number(pi.slice(48))];
  const point = toCurve(own.toBytes(), bytes(data));
  const u = times(Point.BASE, s).subtract(times(own, c));
  const v = times(point, s).subtract(times(gamma, c));
  return hex(challenge(own, point, gamma, u, v)) === hex(pi.slice(32, 48)) ? output(gamma) : null;
}

const questions = { blind, blindSign, finalize, verifies, seal, open, vrfProve, vrfVerify };
const chunks = [];
for await (const chunk of process.stdin) chunks.push(chunk);
const { ask, ...values } = JSON.parse(Buffer.concat(chunks));
process.stdout.write(JSON.stringify(await questions[ask](values)));
