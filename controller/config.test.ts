import { expect, test } from '@jest/globals';
import { controllerConfig, DEFAULT_FLAGS } from './config.js';

test('the defaults are valid, and the configuration is frozen', () => {
  const config = controllerConfig(DEFAULT_FLAGS);
  expect(config).toMatchObject({ etcdPrefix: '/weft', nodeTtlMs: 10_000, metricsListen: { host: '0.0.0.0', port: 15_021 } });
  expect(Object.isFrozen(config)).toBe(true);
});

test('a bad flag is named with what was expected', () => {
  expect(() => controllerConfig({ ...DEFAULT_FLAGS, etcd: ['nonsense'] })).toThrow('--etcd "nonsense": expected http://host:port');
  expect(() => controllerConfig({ ...DEFAULT_FLAGS, etcd: ['https://a:1', 'http://b:1'] })).toThrow('--etcd: all endpoints must be https');
  expect(() => controllerConfig({ ...DEFAULT_FLAGS, etcdPrefix: 'weft/' })).toThrow('--etcd-prefix');
  expect(() => controllerConfig({ ...DEFAULT_FLAGS, nodeTtl: '0.5' })).toThrow('--node-ttl "0.5": expected whole seconds');
  expect(() => controllerConfig({ ...DEFAULT_FLAGS, metricsListen: 'x' })).toThrow('--metrics-listen');
  expect(() => controllerConfig({ ...DEFAULT_FLAGS, etcdCert: '/c' })).toThrow('--etcd-cert and --etcd-key: give both or neither');
  expect(() => controllerConfig({ ...DEFAULT_FLAGS, etcdUser: 'u' })).toThrow('--etcd-user and --etcd-password-file');
  expect(() => controllerConfig({ ...DEFAULT_FLAGS, etcdCa: '/c' })).toThrow('"http://127.0.0.1:2379" is not https:');
  expect(() => controllerConfig({ ...DEFAULT_FLAGS, logLevel: 'loud' })).toThrow('--log-level');
  expect(() => controllerConfig({ ...DEFAULT_FLAGS, consul: 'localhost:8500' })).toThrow(
    '--consul "localhost:8500": expected http://host:port',
  );
  expect(() => controllerConfig({ ...DEFAULT_FLAGS, consulCa: '/x' })).toThrow('--consul-ca: needs --consul');
  expect(() => controllerConfig({ ...DEFAULT_FLAGS, consul: 'http://a:1', consulTokenFile: '/none' })).toThrow(
    '--consul-token-file "/none": can\'t be read',
  );
});

test('etcd may be given by socket, name or address', () => {
  const etcd = ['unix:/run/etcd.sock', 'http://etcd-0.etcd:2379', '127.0.0.1:2379', 'http://[::1]:2379'];
  expect(controllerConfig({ ...DEFAULT_FLAGS, etcd }).etcdEndpoints).toEqual(etcd);
});
