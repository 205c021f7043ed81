// An object as it is shown: what is stored, and what the newest compilation says of it in `status`, in the words of the Gateway API. Writes nothing.
import { type Problem, statusOf } from '../../api/compile/index.js';
import { objectKey, withoutSecrets } from '../../api/resources/index.js';
import { isUnchecked, type Unchecked } from '../../api/resources/schema.js';
import type { CompiledModel } from '../compile/model-compiler.js';
import type { StoredObject } from '../store/view.js';

/** Where nobody but Weft has a word for it: something of the object is valid and has no effect. */
const ACTED_ON = 'mesh.weft.dev/ActedOn';
const MAX_TOLD = 5;

/** By the compilation: it is asked for many objects. */
const byObject = new WeakMap<CompiledModel, ReadonlyMap<string, readonly Problem[]>>();

function problemsOf(model: CompiledModel, key: string): readonly Problem[] {
  let known = byObject.get(model);
  if (known === undefined) {
    const grouped = new Map<string, Problem[]>();
    for (const problem of model.problems) {
      const own = objectKey(problem.kind, problem.namespace, problem.name);
      const list = grouped.get(own);
      if (list === undefined) grouped.set(own, [problem]);
      else list.push(problem);
    }
    known = grouped;
    byObject.set(model, known);
  }
  return known.get(key) ?? [];
}

/** `model` null: nothing was compiled yet, and nothing is said. Values of Secrets are hidden. */
export function shownObject({ ref, record, modRevision }: StoredObject, model: CompiledModel | null): unknown {
  const manifest = withoutSecrets(record.manifest);
  if (!isUnchecked(manifest)) return manifest;
  const metadata = { ...(isUnchecked(manifest.metadata) ? manifest.metadata : {}), resourceVersion: String(modRevision) };
  const status = model === null ? null : statusIn(model, ref, record.generation, manifest);
  return { ...manifest, metadata, ...(status === null ? {} : { status }) };
}

function statusIn(
  model: CompiledModel,
  { kind, namespace, name }: StoredObject['ref'],
  generation: number,
  manifest: Unchecked,
): Unchecked | null {
  const key = objectKey(kind, namespace, name);
  const problems = problemsOf(model, key);
  const object = { metadata: { namespace, name, generation }, body: { ...manifest, status: undefined } };
  const judged = {
    kind,
    object,
    problems,
    isOurGateway: () => true,
    attachments: model.attachments,
    nodeAddresses: model.nodeAddresses,
  };
  const status = statusOf(judged, '') ?? (problems.length === 0 ? {} : { conditions: [accepted(problems)] });
  const conditions = [...(Array.isArray(status.conditions) ? status.conditions : []), ...actedOn(model, key)];
  const whole = conditions.length === 0 ? status : { ...status, conditions };
  return Object.keys(whole).length === 0 ? null : whole;
}

/** Of a kind for which the Gateway API has no conditions. What has no effect somewhere has one elsewhere. */
function accepted(problems: readonly Problem[]): Unchecked {
  const refused = problems.find(({ reason }) => reason === 'Invalid' || reason === 'Conflicted');
  const first = refused ?? problems[0];
  const message = first === undefined ? '' : `${first.path}: ${first.message}`;
  if (refused !== undefined) return { type: 'Accepted', status: 'False', reason: refused.reason, message };
  return { type: 'ResolvedRefs', status: 'False', reason: first?.reason ?? 'Invalid', message };
}

function actedOn({ warnings }: CompiledModel, key: string): Unchecked[] {
  const own = warnings.get(key) ?? [];
  if (own.length === 0) return [];
  const told = own.slice(0, MAX_TOLD).map(({ path, message }) => `${path}: ${message}`);
  const more = own.length > MAX_TOLD ? `; and ${own.length - MAX_TOLD} more` : '';
  return [{ type: ACTED_ON, status: 'False', reason: 'NotActedOn', message: `${told.join('; ')}${more}` }];
}
