// Which version of the control protocol (api/proto/mesh/v1/discovery.proto) this software speaks, and with which others it goes along. What may
// change within a version, and what a new one is for: ARCHITECTURE.md, Versions.

/**
 * 1: not told, that is, before it was counted.
 * 2: both sides tell theirs; what of the mesh a node is told is in its resume token, behind the compiler.
 */
export const PROTOCOL = 2;

/** Null: they understand each other. `told`: as the peer told it, 0 where it doesn't. */
export function protocolFault(told: number, peer: string): string | null {
  const theirs = told === 0 ? 1 : told;
  if (Math.abs(theirs - PROTOCOL) <= 1) return null;
  const older = theirs < PROTOCOL ? peer : 'this side';
  return `${peer} speaks version ${theirs} of the control protocol, this side ${PROTOCOL}: only neighbours understand each other, upgrade ${older}, one version at a time`;
}
