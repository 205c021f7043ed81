// Every refusal of docs/http1.md is counted under the name that it gives.
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { parseCases } from './case-file.js';
import { Street } from './lane.js';

let street: Street;
beforeAll(async () => {
  street = await Street.open();
});
afterAll(() => street.close());

const ASKED =
  'client sends\n| GET / HTTP/1.1\n| Host: a.test\n| X-Request-Id: p\n|\norigin receives\n| GET / HTTP/1.1\n| host: a.test\n| X-Request-Id: p\n| x-forwarded-for: 127.0.0.1\n| x-forwarded-proto: http\n|\norigin sends\n';

test.each([
  ['a malformed head', 'requests_refused_malformed', 'client sends\n| GET /\n|\nclient is refused with 400'],
  ['a head above its limits', 'requests_refused_head_size', 'client sends\n| GET /{a*70000} HTTP/1.1\n|\nclient is refused with 431'],
  ['a CONNECT without port', 'requests_refused_malformed', 'client sends\n| CONNECT a HTTP/1.1\n| Host: a\n|\nclient is refused with 400'],
  ['what is not served: a version', 'requests_refused_unsupported', 'client sends\n| GET / HTTP/2.0\n|\nclient is refused with 505'],
  [
    'what is not served: an expectation',
    'requests_refused_unsupported',
    'client sends\n| GET / HTTP/1.1\n| Host: a\n| Expect: tea\n|\nclient is refused with 417',
  ],
  [
    'a malformed body',
    'requests_refused_body',
    'client sends\n| POST / HTTP/1.1\n| Host: a\n| Transfer-Encoding: chunked\n|\n| x\nclient is refused with 400',
  ],
  ['a malformed answer', 'upstream_protocol_errors', `${ASKED}| HTTP/1.1 200 OK\n| A B: c\n|\nclient is answered 502`],
  ['an answer that breaks off', 'upstream_resets', `${ASKED}| HTTP/1.1 200 OK\n| Content-\\\norigin ends\nclient is answered 503`],
])('%s is counted as %s', async (_, counter, steps) => {
  const [played] = parseCases(`== one\n${steps}\n`, 'counters.test.ts');
  const before = await street.proxy.counter(counter);
  await street.lanes[0]!.play(played!, { kind: 'whole' });
  expect(await street.proxy.counter(counter)).toBe(before + 1);
});
