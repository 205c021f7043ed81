// The addon as tests of the engine have it: the path, for workers, and what it exports.
import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import type { EngineAddon } from '../engine.js';

export const ADDON = process.env.WEFT_ADDON ?? join(process.cwd(), 'native/build/Release/weft.node');
if (!existsSync(ADDON)) throw new Error(`${ADDON} is missing: run \`npm run build:native\``);

export function addon(): EngineAddon {
  return createRequire(join(process.cwd(), 'package.json'))(ADDON) as EngineAddon;
}
