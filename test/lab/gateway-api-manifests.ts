// For tests: manifests of the Gateway API's conformance suite on loopback. Each file has namespaces and addresses of its own, so that all are in
// force at once and none sees another's routes and grants; each Service one address by which its server knows who it is.
import { writeFileSync } from 'node:fs';
import { parseAllDocuments } from 'yaml';
import { testdata } from './testdata.js';

export interface Doc {
  readonly apiVersion: string;
  readonly kind: string;
  readonly metadata: { readonly name: string; readonly namespace?: string };
  readonly spec: Record<string, unknown> & {
    readonly parentRefs?: readonly { readonly name: string }[];
    readonly ports?: readonly ServicePort[];
  };
}

export interface ServicePort {
  readonly name?: string;
  readonly targetPort: number;
}

/** Deployments and the like run nowhere here, and slices are of addresses that nobody has. */
const LEFT_OUT: ReadonlySet<string> = new Set(['Deployment', 'EndpointSlice']);

export class GatewayApiManifests {
  readonly #backends = new Map<string, string>();
  readonly #names = new Map<string, string>();
  readonly #gateways = new Map<string, string>();

  /** `gateways`, `backends`: two and three bytes of their addresses ("127.72"), which no other file of tests has. `portOf`: where the server listens. */
  constructor(
    private readonly gateways: string,
    private readonly backends: string,
    private readonly portOf: (service: string, port: ServicePort) => number,
  ) {}

  /** All files, and what each file's namespace `infra` needs besides, as one file. */
  write(target: string, files: readonly string[], besides: readonly Doc[] = []): void {
    const objects = files.flatMap((file, index) =>
      documents(file, index, besides).flatMap((doc) => (LEFT_OUT.has(doc.kind) ? [] : this.#placed(doc, file))),
    );
    writeFileSync(target, objects.map((object) => JSON.stringify(object)).join('\n---\n'));
  }

  /** Without a name the file's Gateway "same-namespace", or the only one that it has. */
  addressOf(file: string, gateway: string | undefined): string {
    const name =
      gateway ??
      (this.#gateways.has(`${file} same-namespace`)
        ? 'same-namespace'
        : [...this.#gateways.keys()].find((key) => key.startsWith(`${file} `))!.slice(file.length + 1));
    return this.#gateways.get(`${file} ${name}`)!;
  }

  /** Name of the Service that the server at that address is. */
  nameAt(address: string | undefined): string | undefined {
    return this.#names.get(address ?? '');
  }

  #addressOf(service: string): string {
    const known = this.#backends.get(service);
    if (known !== undefined) return known;
    const address = `${this.backends}.${this.#backends.size + 1}`;
    this.#backends.set(service, address);
    this.#names.set(address, service);
    return address;
  }

  #placed(doc: Doc, file: string): object[] {
    const { name, namespace } = doc.metadata;
    if (doc.kind === 'Gateway') {
      const address = `${this.gateways}.${1 + Math.floor(this.#gateways.size / 200)}.${1 + (this.#gateways.size % 200)}`;
      this.#gateways.set(`${file} ${name}`, address);
      return [{ ...doc, spec: { ...doc.spec, gatewayClassName: 'weft', addresses: [{ value: address }] } }];
    }
    if (doc.kind !== 'Service') return [doc];
    const slice = {
      apiVersion: 'discovery.k8s.io/v1',
      kind: 'EndpointSlice',
      metadata: { name: `${name}-1`, namespace, labels: { 'kubernetes.io/service-name': name } },
      addressType: 'IPv4',
      ports: (doc.spec.ports ?? []).map((port) => ({ name: port.name ?? '', port: this.portOf(name, port) })),
      endpoints: [{ addresses: [this.#addressOf(name)] }],
    };
    return [doc, slice];
  }
}

/** The manifests of a file with those of the base that it names, in namespaces that no other has. */
function documents(file: string, index: number, besides: readonly Doc[]): Doc[] {
  const own = (text: string): string => text.replaceAll('gateway-conformance-', `f${index}-`);
  const parse = (name: string): Doc[] =>
    parseAllDocuments(own(testdata(`gateway-api-manifests/${name}.yaml`))).flatMap((doc) => (doc.toJS() as Doc | null) ?? []);
  const mine = parse(file);
  const wanted = new Set(mine.flatMap(({ spec }) => (spec?.parentRefs ?? []).map(({ name }) => name)));
  const base = parse('manifests').filter(
    ({ kind, metadata, spec }) =>
      kind === 'Namespace' ||
      (kind === 'Service' && spec.ports?.every(({ targetPort }) => targetPort !== 53)) ||
      (kind === 'Gateway' && wanted.has(metadata.name)),
  );
  return [...base, ...mine, ...(JSON.parse(own(JSON.stringify(besides))) as Doc[])];
}
