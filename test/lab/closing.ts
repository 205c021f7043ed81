// What a test opens, to be closed at its end whatever comes of it.
import { afterEach } from '@jest/globals';

/** Push what closes it. Called once by a test file: at the end of each of its tests all is closed, the last first. */
export function closesAfterEach(): (() => unknown)[] {
  const closing: (() => unknown)[] = [];
  afterEach(async () => {
    for (const close of closing.splice(0).reverse()) await close();
  });
  return closing;
}
