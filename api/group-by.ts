/** Items by their key, or by each of several, in their order. */
export function groupBy<T>(items: readonly T[], keysOf: (item: T) => string | readonly string[]): Map<string, readonly T[]> {
  const groups = new Map<string, T[]>();
  const add = (key: string, item: T): void => {
    const group = groups.get(key);
    if (group === undefined) groups.set(key, [item]);
    else group.push(item);
  };
  for (const item of items) {
    const keys = keysOf(item);
    if (typeof keys === 'string') add(keys, item);
    else for (const key of keys) add(key, item);
  }
  return groups;
}
