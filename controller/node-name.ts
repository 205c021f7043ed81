// What a node may be called, on every stream that names one: it becomes part of etcd keys and the value of a metric's label.
const NODE_NAME = /^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$/;

/** Null: a node may be called so. */
export function nodeNameFault(name: string): string | null {
  return NODE_NAME.test(name) ? null : `${JSON.stringify(name)} is no node name: expected lower-case letters, digits, "-" and "."`;
}
