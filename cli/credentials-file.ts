// The file with what proves to a controller who is asking. Owns its form and who may read it.
import { readFileSync, statSync } from 'node:fs';
import { parse, stringify } from 'yaml';
import { z } from 'zod';
import { EXIT_USAGE, Failure } from './failure.js';

const form = z.strictObject({
  token: z.string().optional(),
  /** PEM, both or neither. */
  certificate: z.string().optional(),
  key: z.string().optional(),
  /** PEM; with a token it may be left out: the token pins it. */
  authorities: z.string().optional(),
});
export type Credentials = z.infer<typeof form>;

export function credentialsText(content: Credentials): string {
  return stringify(content, { lineWidth: 0 });
}

export function readCredentials(file: string): Credentials {
  let content: unknown;
  try {
    if ((statSync(file).mode & 0o077) !== 0) throw new Failure(`${file}: others may read it: chmod 600 ${file}`);
    content = parse(readFileSync(file, 'utf8'));
  } catch (error) {
    if (error instanceof Failure) throw error;
    throw new Failure(`${file}: ${(error as Error).message}`, EXIT_USAGE);
  }
  const checked = form.safeParse(content);
  if (checked.success) return checked.data;
  throw new Failure(`${file}: ${checked.error.issues.map(({ path, message }) => `${path.join('.')}: ${message}`).join('; ')}`, EXIT_USAGE);
}
