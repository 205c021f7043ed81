// One endpoint of the traffic chaos, a process of its own that can be killed and stopped: answers as its parent last told it. Arguments: its port.
import { createServer } from 'node:http';

/** What answers are from now on. */
export interface Manner {
  readonly status: number;
  readonly delayMs: number;
}

let manner: Manner = { status: 200, delayMs: 0 };
process.on('message', (message: Manner) => {
  manner = message;
});
process.on('disconnect', () => process.exit(0));
createServer((_, response) => {
  const { status, delayMs } = manner;
  const answer = (): void => void response.writeHead(status).end(`${status}`);
  if (delayMs === 0) answer();
  else setTimeout(answer, delayMs);
}).listen(Number(process.argv[2]), '127.0.0.1', () => process.send?.('listening'));
