// Builds targets of the core under ASan and UBSan into native/build-sanitize: its tests (core_tests) and its fuzz targets (fuzz_NAME; fuzz is
// all of them). With clang, as the addon is built with gcc: the warnings of both are errors. Plain Node, no packages.
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { capture } from './console.mjs';
import { ROOT } from './setup.mjs';

const FOLDER = 'native/build-sanitize';

/** `isIdle`: with the CPU time that nobody else wants. Throws SetupError with the compiler's last words. */
export async function buildSanitized(targets, { isIdle = false } = {}) {
  const compilers = ['-DCMAKE_C_COMPILER=clang', '-DCMAKE_CXX_COMPILER=clang++'];
  // -g1: a report's stack has its lines; variables would double the time of a build.
  const options = ['-DWEFT_SANITIZE=ON', '-DWEFT_TESTS=ON', '-DCMAKE_BUILD_TYPE=Debug', '-DCMAKE_CXX_FLAGS_DEBUG=-g1'];
  const patience = isIdle ? ['nice', '-n', '19'] : [];
  const cmake = (...args) => {
    const [command, ...rest] = [...patience, 'cmake', ...args];
    return capture(command, rest, { cwd: ROOT });
  };
  await cmake('-S', 'native', '-B', FOLDER, ...compilers, ...options);
  await cmake('--build', FOLDER, '-j', String(availableParallelism()), '--target', ...targets);
}

/** The path of a target that has been built. */
export function sanitized(target) {
  return join(ROOT, FOLDER, 'test', target);
}
