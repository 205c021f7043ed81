// What rate limits are for, as a key of the index.
import { qualifiedName } from '../resources/index.js';

interface Target {
  readonly kind: string;
  readonly name: string;
  readonly sectionName?: string | undefined;
}

/** `name`: "<namespace>/<name>"; of a Namespace its own. */
export function targetKey(kind: string, name: string, section = ''): string {
  return `${kind} ${name} ${section}`;
}

/** Of a policy in that namespace. */
export function keyOfTarget(namespace: string, { kind, name, sectionName }: Target): string {
  return targetKey(kind, kind === 'Namespace' ? name : qualifiedName(namespace, name), sectionName);
}
