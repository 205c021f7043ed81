// Which resources of an update tables can be made with. One that they can't be made with must not keep all others out: it is found by halves, left as it was
// before and refused, like one that does not decode. Knows nothing of what is built.
import type { Rejection, ResourceName } from '../../../api/gen/mesh/v1/discovery.js';
import { ResourceType } from '../../../api/gen/mesh/v1/model.js';
import { messageOf } from '../../../api/message-of.js';
import { type Model, type ModelUpdate, resourceKey } from '../../model/model.js';

/** Of tables, for one update. What is not known to be good then is refused together. */
const MAX_BUILDS = 64;

export interface Builder<Built> {
  /** Of the model as it is now. Throws with what is wrong. */
  build(): Built;
  /** It comes to nothing: another one is taken. */
  discard(built: Built): void;
}

/** Brings the model to the update, but for what is `rejected`. Throws what the first build did where the update's resources are not the reason. */
export function admit<Built>(
  model: Model,
  update: ModelUpdate,
  builder: Builder<Built>,
): { readonly built: Built; readonly rejected: Rejection[] } {
  const rejected = model.apply(update);
  try {
    return { built: builder.build(), rejected };
  } catch (error) {
    const bad = new Set(rejected.map(resourceKey));
    const found = bisect(
      model,
      update.resources.filter((name) => !bad.has(resourceKey(name))),
      { error, builder },
    );
    return { built: found.built, rejected: [...rejected, ...found.rejected] };
  } finally {
    model.settle();
  }
}

function bisect<Built>(
  model: Model,
  brought: readonly ResourceName[],
  { error, builder }: { readonly error: unknown; readonly builder: Builder<Built> },
): { readonly built: Built; readonly rejected: Rejection[] } {
  model.exchange(brought);
  let built = orThrow(() => builder.build(), error);
  const rejected: Rejection[] = [];
  // Routes last: without what they are attached to there is nothing of them in the tables, and that would be blamed when it comes.
  const open = halves([...brought].sort((a, b) => Number(isRoute(a)) - Number(isRoute(b))));
  for (let builds = 1; ; builds++) {
    const part = open.pop();
    if (part === undefined) break;
    model.exchange(part);
    try {
      const better = builder.build();
      builder.discard(built);
      built = better;
    } catch (fault) {
      model.exchange(part);
      if (part.length === 1 || builds >= MAX_BUILDS)
        for (const { type, name } of part) rejected.push({ type, name, error: `no tables can be made with it: ${messageOf(fault)}` });
      else open.push(...halves(part));
    }
  }
  // Names that only a failed attempt had, or had not, may have moved ids.
  builder.discard(built);
  return { built: builder.build(), rejected };
}

function isRoute({ type }: ResourceName): boolean {
  return type === ResourceType.HTTP_ROUTE || type === ResourceType.CONNECTION_ROUTE;
}

/** The first one last. */
function halves(part: readonly ResourceName[]): (readonly ResourceName[])[] {
  const middle = Math.ceil(part.length / 2);
  return [part.slice(middle), part.slice(0, middle)].filter(({ length }) => length > 0);
}

function orThrow<Result>(work: () => Result, error: unknown): Result {
  try {
    return work();
  } catch {
    throw error;
  }
}
