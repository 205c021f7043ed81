// Parts of objects that contradict one another's: each object is told once, at the first of its parts that does.
import { type AnalysedObject, nameOf } from './world.js';

interface Conflict<Part> {
  readonly one: Part;
  /** Of the other objects, "namespace/name", by commas. */
  readonly names: string;
}

/** `meets` is asked of parts of two objects; it need not be quick. */
export function conflictsOf<Part extends { readonly object: AnalysedObject }>(
  parts: readonly Part[],
  meets: (one: Part, other: Part) => boolean,
): Conflict<Part>[] {
  const told = new Set<AnalysedObject>();
  return parts.flatMap((one) => {
    if (told.has(one.object)) return [];
    const others = parts.filter((other) => other.object !== one.object && meets(one, other));
    if (others.length === 0) return [];
    told.add(one.object);
    return [{ one, names: [...new Set(others.map(({ object }) => nameOf(object)))].join(', ') }];
  });
}
