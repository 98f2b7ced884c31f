/**
 * The private keys of the audit chain: `<data_dir>/keys/`, 0700, a file `KEYID.pem` (PKCS #8, 0600) each. Usually there is one;
 * which is in force, the chain says. A file is written to a temporary name, synced and renamed; it is not used before that.
 *
 * Nothing here stops anything: a file that is damaged is named and left as it is, one that others could read is used, its mode
 * mended, and that is said, because a signature by it proves less from then on.
 */
import { createPrivateKey, createPublicKey, generateKeyPairSync, type KeyObject, sign } from 'node:crypto';
import { constants } from 'node:fs';
import { chmod, mkdir, open, readdir, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { writeAtomically } from '../core/atomic-file.js';
import { reason, SkosError, systemCode } from '../core/errors.js';
import { keyIdOf, type Signer } from './checkpoint.js';

const FILE_MODE = 0o600;
const DIRECTORY_MODE = 0o700;
const OPEN_TO_OTHERS = 0o077;
/** An Ed25519 key in PEM takes 119 bytes. */
const MAX_FILE_BYTES = 4_096;
/** One in force, one from an unfinished rotation, a few damaged ones; beyond this the directory is not ours. */
const MAX_FILES = 64;
const NAME = /^([0-9a-f]{16})\.pem$/;

export interface Exposure {
  readonly keyId: string;
  readonly path: string;
  /** What others could do: "mode 644", "owner 1000". */
  readonly how: string;
}

export interface LoadedKeys {
  /** The one that was preferred, else the newest. */
  readonly key: Signer | undefined;
  readonly exposed: readonly Exposure[];
  /** One line for each file that could not be used. */
  readonly faults: readonly string[];
}

interface Candidate {
  readonly signer: Signer;
  readonly changedAtMs: number;
}

export class Keyring {
  readonly directory: string;
  readonly #node: string;

  constructor({ dataDir, node }: { dataDir: string; node: string }) {
    this.directory = join(dataDir, 'keys');
    this.#node = node;
  }

  /** Never rejects. */
  async load(preferred: string | undefined): Promise<LoadedKeys> {
    const exposed: Exposure[] = [];
    const faults: string[] = [];
    const found: Candidate[] = [];
    for (const name of await this.#names(faults)) {
      try {
        found.push(await this.#read(name, exposed));
      } catch (error) {
        faults.push(`${join(this.directory, name)}: ${reason(error)}`);
      }
    }
    found.sort((a, b) => b.changedAtMs - a.changedAtMs);
    const key = found.find(({ signer }) => signer.keyId === preferred) ?? found[0];
    return { key: key?.signer, exposed: exposed.filter(({ keyId }) => keyId === key?.signer.keyId), faults };
  }

  /** A new key, on disk. Rejects with SKOS_AUDIT_KEY. */
  async create(): Promise<Signer> {
    const { privateKey } = generateKeyPairSync('ed25519');
    const signer = signerOf(privateKey, this.#node);
    try {
      await this.#prepare();
      const pem = privateKey.export({ format: 'pem', type: 'pkcs8' });
      await writeAtomically(this.#path(signer.keyId), pem.toString(), FILE_MODE);
      return signer;
    } catch (error) {
      throw new SkosError('SKOS_AUDIT_KEY', `a key could not be written to ${this.directory}: ${reason(error)}`, {
        cause: error,
      });
    }
  }

  /** Removes a key that has handed over: whoever finds it later can sign nothing with it. Rejects as rm() does. */
  async retire(keyId: string): Promise<void> {
    await rm(this.#path(keyId), { force: true });
  }

  #path(keyId: string): string {
    return join(this.directory, `${keyId}.pem`);
  }

  async #prepare(): Promise<void> {
    await mkdir(this.directory, { recursive: true, mode: DIRECTORY_MODE });
    await chmod(this.directory, DIRECTORY_MODE);
  }

  async #names(faults: string[]): Promise<string[]> {
    try {
      const { mode } = await stat(this.directory);
      if ((mode & OPEN_TO_OTHERS) !== 0) await chmod(this.directory, DIRECTORY_MODE);
      const names = await readdir(this.directory);
      return names.filter((name) => NAME.test(name)).slice(0, MAX_FILES);
    } catch (error) {
      if (systemCode(error) !== 'ENOENT') faults.push(`${this.directory}: ${reason(error)}`);
      return [];
    }
  }

  async #read(name: string, exposed: Exposure[]): Promise<Candidate> {
    const path = join(this.directory, name);
    // Not through a link, which could lead to a file of somebody else; not waiting for one that is a FIFO.
    const file = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
    try {
      const found = await file.stat();
      const { mode, uid, size, mtimeMs } = found;
      if (!found.isFile()) throw new Error('it is no file');
      if (size > MAX_FILE_BYTES) throw new Error(`it has ${size} bytes`);
      const signer = signerOf(createPrivateKey(await file.readFile('utf8')), this.#node);
      if (`${signer.keyId}.pem` !== name) throw new Error(`it holds the key ${signer.keyId}`);
      const isOthers = uid !== process.geteuid?.();
      if ((mode & OPEN_TO_OTHERS) !== 0 || isOthers) {
        const how = isOthers ? `owner ${uid}` : `mode ${(mode & 0o777).toString(8)}`;
        exposed.push({ keyId: signer.keyId, path, how });
        await file.chmod(FILE_MODE).catch(() => undefined); // Not ours to change: that it is exposed is said anyway.
      }
      return { signer, changedAtMs: mtimeMs };
    } finally {
      await file.close();
    }
  }
}

function signerOf(privateKey: KeyObject, node: string): Signer {
  if (privateKey.asymmetricKeyType !== 'ed25519') throw new Error('it is no Ed25519 key');
  const publicKey = rawPublicKey(createPublicKey(privateKey));
  return {
    node,
    keyId: keyIdOf(publicKey),
    publicKey,
    sign: (text) => sign(null, Buffer.from(text, 'utf8'), privateKey).toString('hex'),
  };
}

/** The raw 32 bytes, hex. Throws for a key that is not Ed25519. */
export function rawPublicKey(key: KeyObject): string {
  const { x } = key.export({ format: 'jwk' });
  if (key.asymmetricKeyType !== 'ed25519' || x === undefined) throw new Error('it is no Ed25519 key');
  return Buffer.from(x, 'base64url').toString('hex');
}
