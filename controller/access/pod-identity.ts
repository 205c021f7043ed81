// On which node a pod runs, by its service account's token: asked of the API server, which alone knows. Owns which service account may be a node's agent.
import { z } from 'zod';
import { type ApiAnswer, ApiClient } from '../sources/kubernetes/api-client.js';
import type { ClusterAccess } from '../sources/kubernetes/cluster-access.js';

export type PodNode =
  | { readonly kind: 'found'; readonly node: string }
  | { readonly kind: 'refused'; readonly message: string }
  | { readonly kind: 'unavailable'; readonly message: string };

/** Of the token that agents are given: one for the API server itself is not taken. */
export const TOKEN_AUDIENCE = 'weft-controller';

const DEADLINE_MS = 5_000;
const MAX_BYTES = 1_048_576;
const POD_NAME = 'authentication.kubernetes.io/pod-name';
const POD_UID = 'authentication.kubernetes.io/pod-uid';

const review = z.object({
  status: z.object({
    authenticated: z.boolean().optional(),
    error: z.string().optional(),
    audiences: z.array(z.string()).optional(),
    user: z.object({ username: z.string().optional(), extra: z.record(z.string(), z.array(z.string())).optional() }).optional(),
  }),
});
const pod = z.object({ metadata: z.object({ uid: z.string() }), spec: z.object({ nodeName: z.string().optional() }) });

export class PodIdentity {
  readonly #client: ApiClient;
  readonly #namespace: string;
  readonly #serviceAccount: string;
  readonly #closing = new AbortController();

  /** `serviceAccount`: "<namespace>/<name>" of the agents. */
  constructor(access: ClusterAccess, serviceAccount: string) {
    this.#client = new ApiClient(access);
    const [namespace = '', name = ''] = serviceAccount.split('/');
    this.#namespace = namespace;
    this.#serviceAccount = `system:serviceaccount:${namespace}:${name}`;
  }

  /** Whether it looks like a JSON web token. */
  isLikely(token: string): boolean {
    return /^[\w-]+\.[\w-]+\.[\w-]+$/.test(token);
  }

  async nodeOf(token: string): Promise<PodNode> {
    const spec = { token, audiences: [TOKEN_AUDIENCE] };
    const body = { apiVersion: 'authentication.k8s.io/v1', kind: 'TokenReview', spec };
    const answer = await this.#client.post('/apis/authentication.k8s.io/v1/tokenreviews', body, this.#options());
    const reviewed = parsed(answer, review);
    if (reviewed.kind !== 'ok') return reviewed.refusal;
    const { authenticated, error, audiences, user } = reviewed.value.status;
    // A server that does not know audiences answers without them: then the token was for itself.
    if (authenticated !== true || audiences?.includes(TOKEN_AUDIENCE) !== true) {
      return {
        kind: 'refused',
        message: `the API server does not take the service account token for the audience ${TOKEN_AUDIENCE}: ${error ?? 'not authenticated'}`,
      };
    }
    if (user?.username !== this.#serviceAccount) {
      return {
        kind: 'refused',
        message: `the token is of ${user?.username}, agents run as ${this.#serviceAccount} (--node-service-account)`,
      };
    }
    const [name] = user.extra?.[POD_NAME] ?? [];
    const [uid] = user.extra?.[POD_UID] ?? [];
    if (name === undefined || uid === undefined) return { kind: 'refused', message: 'the token is bound to no pod: mount a projected one' };
    return this.#nodeOfPod(name, uid);
  }

  close(): void {
    this.#closing.abort();
    this.#client.close();
  }

  /** Not by the token's node claim, which servers before 1.32 do not have: the pod says it in every version. */
  async #nodeOfPod(name: string, uid: string): Promise<PodNode> {
    const path = `/api/v1/namespaces/${encodeURIComponent(this.#namespace)}/pods/${encodeURIComponent(name)}`;
    const found = parsed(await this.#client.get(path, this.#options()), pod);
    if (found.kind !== 'ok') return found.refusal;
    const { metadata, spec } = found.value;
    if (metadata.uid !== uid || spec.nodeName === undefined) return { kind: 'refused', message: `the pod ${name} of the token is gone` };
    return { kind: 'found', node: spec.nodeName };
  }

  #options() {
    return { deadlineMs: DEADLINE_MS, maxBytes: MAX_BYTES, signal: this.#closing.signal };
  }
}

function parsed<Value>(answer: ApiAnswer, schema: z.ZodType<Value>): { kind: 'ok'; value: Value } | { kind: 'no'; refusal: PodNode } {
  if (answer.kind === 'failure') {
    const message = `the Kubernetes API server could not be asked about the token: ${answer.message}`;
    return { kind: 'no', refusal: { kind: answer.status === 404 ? 'refused' : 'unavailable', message } };
  }
  const value = schema.safeParse(answer.value);
  if (value.success) return { kind: 'ok', value: value.data };
  return { kind: 'no', refusal: { kind: 'unavailable', message: 'the Kubernetes API server answered with something else' } };
}
