// Manifests for tests of filters: a gateway on the loopback whose paths lead through filters to backends there.

export interface FilterUnderTest {
  readonly name: string;
  readonly module: string;
  readonly spec?: Readonly<Record<string, unknown>>;
}

export const manifest = (kind: string, apiVersion: string, name: string, spec: object): string =>
  JSON.stringify({ kind, apiVersion, metadata: { name }, spec });

export const filterManifest = ({ name, module, spec }: FilterUnderTest): string =>
  manifest('Filter', 'mesh.weft.dev/v1', name, { module, ...spec });

export const extension = (name: string) => ({ type: 'ExtensionRef', extensionRef: { group: 'mesh.weft.dev', kind: 'Filter', name } });

export const pathMatch = (value: string, headers: object[] = []) => ({ path: { type: 'PathPrefix', value }, headers });

export const routeManifest = (name: string, ...rules: object[]): string =>
  manifest('HTTPRoute', 'gateway.networking.k8s.io/v1', `r-${name}`, { parentRefs: [{ name: 'edge' }], rules });

/** Rules: each filter sees what goes to the path of its name. */
export const ruleOf = (path: string, filters: readonly string[], backend = 'echo'): object => ({
  matches: [pathMatch(path)],
  filters: filters.map(extension),
  backendRefs: [{ name: backend, port: 80 }],
});
