// A resolver for the tests, over UDP and TCP on port 53 of every address: answers any question with one record of the type that was asked
// for, from 192.0.2.7 or 2001:db8::7 on; a name that begins with "cut" over UDP with nothing but "truncated". Prints what it gets, one line of
// JSON a message, before it answers.
import { createSocket } from 'node:dgram';
import { createServer } from 'node:net';

const RDATA = { 1: 'c0000207', 28: '20010db8000000000000000000000007', 33: '000a000501bb0161076578616d706c6500', 16: '0568656c6c6f' };

function answer(query, isTcp) {
  let at = 12;
  while (at < query.length && query[at] !== 0) at += query[at] + 1;
  if (at + 5 > query.length) return Buffer.from('no question');
  const type = query.readUInt16BE(at + 1);
  const head = Buffer.from(query.subarray(0, at + 5));
  head[2] |= 0x80;
  head.writeUInt16BE(0, 8);
  head.writeUInt16BE(0, 10);
  const isCut = !isTcp && head.subarray(13, 16).toString() === 'cut';
  if (isCut) head[2] |= 0x02;
  head.writeUInt16BE(isCut ? 0 : 1, 6);
  if (isCut) return head;
  const rdata = Buffer.from(RDATA[type] ?? 'deadbeef', 'hex');
  const record = Buffer.from([0xc0, 12, type >> 8, type & 255, 0, 1, 0, 0, 0, 60, rdata.length >> 8, rdata.length & 255]);
  return Buffer.concat([head, record, rdata]);
}

function note(by, from, bytes) {
  process.stdout.write(`${JSON.stringify({ by, from, bytes: bytes.toString('hex') })}\n`);
}

const bound = ['udp4', 'udp6'].map((type) => {
  const socket = createSocket(type === 'udp6' ? { type, ipv6Only: true } : { type });
  socket.on('message', (bytes, { address, port }) => {
    note('udp', `${address}:${port}`, bytes);
    socket.send(answer(bytes, false), port, address);
  });
  return new Promise((resolve) => socket.bind(53, resolve));
});
const tcp = createServer((socket) => {
  socket.on('error', () => {});
  socket.on('data', (bytes) => {
    note('tcp', `${socket.remoteAddress}:${socket.remotePort}`, bytes.subarray(2));
    const said = answer(bytes.subarray(2), true);
    socket.end(Buffer.concat([Buffer.from([said.length >> 8, said.length & 255]), said]));
  });
});
await Promise.all([...bound, new Promise((resolve) => tcp.listen(53, '::', resolve))]);
process.stderr.write('ready\n');
