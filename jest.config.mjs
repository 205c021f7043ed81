// What jest runs: a project for each of its stages of `npm test`. swc takes the types away; it is tsc that checks them.

function project(displayName, testMatch) {
  return {
    displayName,
    testMatch: [`<rootDir>/${testMatch}`],
    testEnvironment: 'node',
    extensionsToTreatAsEsm: ['.ts'],
    transform: {
      '^.+\\.ts$': [
        '@swc/jest',
        { jsc: { parser: { syntax: 'typescript' }, target: 'es2022' }, module: { type: 'es6' }, sourceMaps: 'inline' },
      ],
    },
    moduleNameMapper: { '^(\\.{1,2}/.*)\\.js$': '$1' },
    modulePathIgnorePatterns: ['<rootDir>/dist/', '<rootDir>/native/build'],
    testPathIgnorePatterns: ['/node_modules/', '/dist/'],
  };
}

export default {
  // No test should wait this long: what is waited for has a deadline of its own, with a message. On a busy machine a process takes seconds to start.
  testTimeout: 120_000,
  workerIdleMemoryLimit: '512MB',
  projects: [
    project('unit', '{api,agent,controller,cli,deploy,test/chaos,test/simulate}/**/*.test.ts'),
    ...['integration', 'conformance', 'redirect', 'e2e'].map((stage) => project(stage, `test/${stage}/**/*.test.ts`)),
  ],
};
