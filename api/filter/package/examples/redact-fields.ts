// JSON that goes out lacks the fields that are nobody's business outside; JSON that comes in is an object, or it comes no further.
// The Filter says how much of a body it reads: spec.body.maxBytes.
import type { Headers, OnRequest, OnResponse } from '@weft/filter';

const SECRET = new Set(['password', 'ssn']);

const isJson = (headers: Headers): boolean =>
  /^application\/json\b/.test(headers.get('content-type') ?? '') && !headers.has('content-encoding');

export const onRequest: OnRequest = ({ headers, body }) => {
  if (body === null || !isJson(headers)) return;
  try {
    if (typeof JSON.parse(body.text()) === 'object') return;
  } catch {
    // As what is no object.
  }
  return { respond: { status: 400, headers: { 'content-type': 'text/plain' }, body: 'a JSON object is expected\n' } };
};

export const onResponse: OnResponse = ({ headers, body }) => {
  if (body === null || !isJson(headers)) return;
  const redacted = JSON.stringify(JSON.parse(body.text(), (name, value: unknown) => (SECRET.has(name) ? undefined : value)));
  return { body: redacted, headers: { remove: ['etag'] } };
};
