// Loads the addon: the only file that knows where it and the program beside it lie.
import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { AccessLogAddon } from './access-log.js';
import type { CaptureAddon } from './capture.js';
import type { EngineAddon } from './engine.js';
import type { MessageSocketAddon } from './message-socket.js';

/** Walks up from this file (dist/agent/native or agent/native) to the folder that holds native/build. */
function addonPath(): string {
  const override = process.env.WEFT_ADDON;
  if (override !== undefined) return override;
  let folder = dirname(fileURLToPath(import.meta.url));
  for (;;) {
    const candidate = join(folder, 'native', 'build', 'Release', 'weft.node');
    if (existsSync(candidate)) return candidate;
    const parent = dirname(folder);
    if (parent === folder) break;
    folder = parent;
  }
  throw new Error('the native addon native/build/Release/weft.node is missing: run `npm run build:native`');
}

/** The program that enters network namespaces; native/src/netns. */
export function netnsProgram(): string {
  return join(dirname(addonPath()), 'weft-netns');
}

export type Addon = EngineAddon & AccessLogAddon & CaptureAddon & MessageSocketAddon;

export function loadAddon(): Addon {
  return createRequire(import.meta.url)(addonPath()) as Addon;
}
