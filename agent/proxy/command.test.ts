// The flags of `weft proxy` against the engine that they are for: what it would refuse is refused before anything starts.
import { describe, expect, test } from '@jest/globals';
import { loadAddon } from '../native/addon.js';
import { type EngineLimits, type EngineOptions, MAX_TENANTS, TENANT_WORDS } from '../native/engine.js';
import { LIMITS, proxyCommand } from './command.js';
import { DEFAULT_LIMITS, makeConfig, type RawConfig, withinMemory } from './config.js';

/** What the flag made of it is not run; only what it says of a value counts. */
function refusalOf(flag: string, value: number): string | null {
  const said: string[] = [];
  const command = proxyCommand()
    .exitOverride()
    .configureOutput({ writeErr: (text) => said.push(text) })
    .action(() => {});
  try {
    command.parse([`--${flag}=${value}`], { from: 'user' });
    return null;
  } catch {
    return said.join('');
  }
}

/** What the engine says against these limits; null: nothing. */
function engineRefusal(limits: Partial<EngineLimits>): string | null {
  const options: EngineOptions = {
    limits: { ...DEFAULT_LIMITS, ...limits },
    outstanding: new Int32Array(1),
    connectionCounts: new Int32Array(3),
    counters: new Float64Array(loadAddon().counterNames().length),
    tenants: new Float64Array(MAX_TENANTS * TENANT_WORDS),
    accessLog: null,
    heartbeat: null,
    host: null,
    via: null,
    hairpin: { v4: '192.0.2.1', v6: '2001:db8::1' },
  };
  try {
    loadAddon()
      .createEngine(options, () => {})
      .close();
    return null;
  } catch (error) {
    return (error as Error).message;
  }
}

describe.each(LIMITS)('--%s', (flag, field, least, most) => {
  test('takes what the engine takes', () => {
    for (const value of [least, most])
      expect([value, refusalOf(flag, value), engineRefusal({ [field]: value })]).toEqual([value, null, null]);
  });

  test('refuses, naming the range, what the engine refuses', () => {
    for (const value of [least - 1, most + 1]) {
      expect(refusalOf(flag, value)).toContain(`Expected a whole number from ${least} to ${most}.`);
      expect(engineRefusal({ [field]: value })).toContain(`${field}: expected an integer from ${least} to ${most}`);
    }
  });
});

test('no namespace may take more than a quarter of the memory for its buffers, over all workers', () => {
  const config = makeConfig({ static: ['a.yaml'], overload: 'off', workers: 4, limits: DEFAULT_LIMITS } as unknown as RawConfig);
  const bytes = (limit: number): number => withinMemory(config, limit).limits.maxTenantBufferedBytes;
  expect(bytes(256 * 1_048_576)).toBe(16 * 1_048_576);
  expect(bytes(64 * 2 ** 30)).toBe(DEFAULT_LIMITS.maxTenantBufferedBytes);
  // None is known.
  expect(bytes(0)).toBe(DEFAULT_LIMITS.maxTenantBufferedBytes);
  expect(withinMemory(config, 1_048_576).limits.maxConnections).toBe(DEFAULT_LIMITS.maxConnections);
});
