// In a pod of the lab: servers with names, or a client that asks what it is told.
//   serve '[[port, name, "http" or "grpc"], …]'   says "ready"; answers with its name and the fields that it saw
//   ask                                            a request a line on standard input, its answer a line on standard output, by `id`
import { Agent, createServer, request } from 'node:http';
import { connect, createServer as createHttp2Server } from 'node:http2';
import { createInterface } from 'node:readline';

const [role, names] = process.argv.slice(2);
if (role === 'serve') serve(JSON.parse(names));
else ask();

function serve(servers) {
  let left = servers.length;
  for (const [port, backend, protocol] of servers) {
    const server = protocol === 'grpc' ? callServer(backend) : requestServer(backend);
    server.listen(port, '0.0.0.0', () => {
      if (--left === 0) console.log('ready');
    });
  }
}

function requestServer(backend) {
  return createServer((asked, response) => {
    for (const line of String(asked.headers['x-echo-set-header'] ?? '').split(', ')) {
      const [name, value] = line.split(': ');
      if (value !== undefined) response.setHeader(name, value);
    }
    const delay = Number(new URL(asked.url, 'http://a').searchParams.get('delay'));
    const end = () => response.end(JSON.stringify({ backend, headers: { ...asked.headers, ':path': asked.url } }));
    if (delay > 0) setTimeout(end, delay);
    else end();
  });
}

function callServer(backend) {
  return createHttp2Server().on('stream', (stream, headers) => {
    const seen = JSON.stringify({ backend, headers });
    stream.respond({ ':status': 200, 'content-type': 'application/grpc', 'x-seen': seen }, { waitForTrailers: true });
    stream.on('wantTrailers', () => stream.sendTrailers({ 'grpc-status': '0' }));
    stream.resume().end();
  });
}

function ask() {
  const agent = new Agent({ keepAlive: true });
  const say = (id, status, headers, seen) => console.log(JSON.stringify({ id, status, headers, seen }));
  createInterface({ input: process.stdin }).on('line', (line) => {
    const asked = JSON.parse(line);
    const failed = (error) => say(asked.id, 0, { error: error.code }, null);
    if (asked.isCall) call(asked, say).catch(failed);
    else {
      const sent = request({ ...asked, agent }, (response) => {
        let text = '';
        response.on('data', (piece) => {
          text += piece;
        });
        response.on('end', () => say(asked.id, response.statusCode, response.headers, text.startsWith('{') ? JSON.parse(text) : null));
      });
      sent.on('error', failed).end();
    }
  });
}

function call({ id, host, port, path, headers }, say) {
  return new Promise((resolve, reject) => {
    const session = connect(`http://${host}:${port}`).on('error', reject);
    const sent = { ':method': 'POST', ':path': path, 'content-type': 'application/grpc', te: 'trailers' };
    const { host: authority, ...others } = headers;
    const stream = session.request({ ...sent, ':authority': authority, ...others }).on('error', reject);
    let told = {};
    stream.on('response', (head) => {
      told = { ...head };
    });
    stream.on('trailers', (trailers) => {
      told = { ...told, ...trailers };
    });
    stream.on('close', () => {
      session.close();
      say(id, Number(told['grpc-status']), told, told['x-seen'] === undefined ? null : JSON.parse(told['x-seen']));
      resolve();
    });
    stream.resume().end(Buffer.alloc(5));
  });
}
