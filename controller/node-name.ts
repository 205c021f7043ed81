// What a node may be called, on every stream that names one: it becomes part of etcd keys and the value of a metric's label.
export const NODE_NAME = /^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$/;
