// In CI a test that failed is tried once more, and its error logged: most drive real sockets, processes and kernels, and one late packet on a
// busy machine is no reason to refuse a change. What passed only then is named at the end of the stage (deploy/bootstrap/test.mjs). Elsewhere nothing is tried again.
import { jest } from '@jest/globals';

if (process.env.CI === 'true') jest.retryTimes(1, { logErrorsBeforeRetry: true });
