// The boundary to unix sockets whose messages carry descriptors (SOCK_SEQPACKET, SCM_RIGHTS), which Node does not have.
// native/src/napi/message_socket_binding.cc defines the same functions in the same order. Main thread only.

/** What the kernel holds for the receiver is bounded too: send() throws EAGAIN when it does not read. */
export const MAX_MESSAGE_BYTES = 65_536;
export const MAX_MESSAGE_DESCRIPTORS = 64;

export interface Message {
  /** null: the peer has closed; no more comes. */
  readonly text: string | null;
  /** The receiver's to close. */
  readonly descriptors: readonly number[];
}

export interface MessageSocket {
  /** Of the process at the other end, as the kernel vouches for it (SO_PEERCRED). */
  readonly uid: number;
  readonly pid: number;
  /** Of a serving socket: who waits; null: nobody. */
  accept(): MessageSocket | null;
  /** The descriptors stay the caller's. Throws with `code`: EMSGSIZE above the bounds, EAGAIN, EPIPE. */
  send(text: string, descriptors: readonly number[]): void;
  /** null: nothing yet. Throws with `code`: EMSGSIZE above the bounds. */
  receive(): Message | null;
  /** Once, when there is something to accept or receive. Keeps the process alive until then. */
  whenReadable(callback: () => void): void;
  /** Idempotent. A callback that waits is not called. */
  close(): void;
}

export interface MessageSocketAddon {
  /** Makes the socket file, for its owner alone (0600). Throws with `code`: EADDRINUSE where there is a file. */
  serveMessages(path: string): MessageSocket;
  /** Throws with `code`: ENOENT, ECONNREFUSED: nobody serves. */
  connectMessages(path: string): MessageSocket;
  /** Of a descriptor that this process was started with, which is the socket's from then on. Throws with `code`: EBADF. */
  adoptMessages(descriptor: number): MessageSocket;
  /** Two ends of a byte stream (SOCK_STREAM), close-on-exec; both the caller's. */
  socketPair(): [number, number];
  closeDescriptor(descriptor: number): void;
}
