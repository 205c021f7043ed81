// The part of node-zookeeper-client (1.1.3) that is used here; it brings no types.
declare module 'node-zookeeper-client' {
  export interface ZooKeeperError extends Error {
    getCode?(): number;
  }
  type Done<Result> = (error: ZooKeeperError | null, result: Result) => void;
  type Watcher = (event: unknown) => void;
  export interface Client {
    connect(): void;
    close(): void;
    on(event: 'connected' | 'connectedReadOnly' | 'disconnected' | 'expired' | 'authenticationFailed', listener: () => void): this;
    addAuthInfo(scheme: string, auth: Buffer): void;
    getChildren(path: string, watcher: Watcher, done: Done<string[]>): void;
    getData(path: string, watcher: Watcher, done: Done<Buffer | undefined>): void;
    exists(path: string, watcher: Watcher, done: Done<object | null>): void;
    create(path: string, data: Buffer, mode: number, done: Done<string>): void;
    setData(path: string, data: Buffer, done: Done<object>): void;
    remove(path: string, done: (error: ZooKeeperError | null) => void): void;
    mkdirp(path: string, done: Done<string>): void;
  }
  const zookeeper: {
    createClient(servers: string, options: { sessionTimeout: number; spinDelay: number; retries: number }): Client;
    readonly CreateMode: { readonly PERSISTENT: number; readonly EPHEMERAL: number };
    readonly Exception: { readonly NO_NODE: number };
  };
  export default zookeeper;
}
