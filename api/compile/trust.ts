// References to CA certificates (ConfigMaps, key ca.crt) → one PEM bundle. Those that can't be followed are reported and left out.
import { configMapText, trustFault } from '../resources/index.js';
import { nameOf, type ObjectIndex, type Stored } from './input.js';
import type { ConditionReason, ReportProblem } from './problem.js';
import { isGranted, notGranted } from './reference-grants.js';

export type TrustIndex = Pick<ObjectIndex, 'configMaps' | 'grantsByNamespace'>;

const CA_KEY = 'ca.crt';

interface Reference {
  readonly group: string;
  readonly kind: string;
  readonly name: string;
  readonly namespace?: string | undefined;
}

/** `path` is that of the list. Empty: there is none that can be used. */
export function trustOf(
  from: Stored<'BackendTLSPolicy'> | Stored<'Gateway'>,
  references: readonly Reference[],
  path: string,
  index: TrustIndex,
  report: ReportProblem,
): string {
  const bundles = references.flatMap((reference, position) => {
    const target = { kind: 'ConfigMap', namespace: reference.namespace ?? from.namespace, name: reference.name } as const;
    const name = nameOf(target);
    const refuse = (message: string, reason: ConditionReason): [] => {
      report(`${path}[${position}]`, `${message}: it is not used`, reason);
      return [];
    };
    if (reference.group !== '' || reference.kind !== 'ConfigMap')
      return refuse(
        `CA certificates of kind ${reference.kind} (group ${JSON.stringify(reference.group)}) are not supported`,
        'InvalidKind',
      );
    if (!isGranted(index, from, target)) return refuse(`ConfigMap ${name} ${notGranted(from.kind, target)}`, 'RefNotPermitted');
    const found = index.configMaps.get(name);
    if (found === undefined) return refuse(`ConfigMap ${name} doesn't exist`, 'InvalidCACertificateRef');
    const { text, fault } = readBundle(found.manifest);
    return fault === null ? [text] : refuse(`ConfigMap ${name}, ${fault}`, 'InvalidCACertificateRef');
  });
  return bundles.join('\n');
}

/** Reading certificates takes time, every revision is compiled, and validated manifests stay the same objects. */
const known = new WeakMap<object, { readonly text: string; readonly fault: string | null }>();

function readBundle(manifest: Stored<'ConfigMap'>['manifest']): { readonly text: string; readonly fault: string | null } {
  let read = known.get(manifest);
  if (read === undefined) {
    const text = configMapText(manifest, CA_KEY);
    const fault = text === null ? 'is not there' : trustFault(text);
    read = { text: text ?? '', fault: fault === null ? null : `key ${CA_KEY}: ${fault}` };
    known.set(manifest, read);
  }
  return read;
}
