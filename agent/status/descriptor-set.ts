// The protobuf descriptors of our services (api/gen/descriptors.bin, written by `npm run build:proto`), for server reflection.
import { readFileSync } from 'node:fs';
import { createFileRegistry, type DescFile, type FileRegistry, fromBinary, toBinary } from '@bufbuild/protobuf';
import { FileDescriptorProtoSchema, FileDescriptorSetSchema } from '@bufbuild/protobuf/wkt';

/** Throws when the file is missing: the build is incomplete. */
export function loadDescriptorSet(): FileRegistry {
  // From the sources api is two folders up, from dist/agent/status three.
  for (const candidate of ['../../api/gen/descriptors.bin', '../../../api/gen/descriptors.bin']) {
    try {
      return createFileRegistry(fromBinary(FileDescriptorSetSchema, readFileSync(new URL(candidate, import.meta.url))));
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
    }
  }
  throw new Error('api/gen/descriptors.bin is missing: run `npm run build:proto`');
}

/** The encoded FileDescriptorProto of the file and of all that it imports, the file first. */
export function encodeWithImports(file: DescFile): Uint8Array[] {
  const seen = new Set<DescFile>();
  const visit = (next: DescFile): void => {
    if (seen.has(next)) return;
    seen.add(next);
    for (const dependency of next.dependencies) visit(dependency);
  };
  visit(file);
  return [...seen].map(({ proto }) => toBinary(FileDescriptorProtoSchema, proto));
}

/** The file that defines a message, enum, service, or a method or field of one; undefined when none does. */
export function fileOfSymbol(registry: FileRegistry, symbol: string): DescFile | undefined {
  const parent = symbol.slice(0, symbol.lastIndexOf('.'));
  const found = registry.get(symbol);
  if (found !== undefined) return found.file;
  const owner = registry.get(parent);
  const member = symbol.slice(parent.length + 1);
  if (owner?.kind === 'service') return owner.methods.some(({ name }) => name === member) ? owner.file : undefined;
  if (owner?.kind === 'message') return owner.fields.some(({ name }) => name === member) ? owner.file : undefined;
  if (owner?.kind === 'enum') return owner.values.some(({ name }) => name === member) ? owner.file : undefined;
  return undefined;
}
