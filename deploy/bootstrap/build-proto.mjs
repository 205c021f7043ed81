// Regenerates api/gen from api/proto: needs protoc (Debian: protobuf-compiler). The result is committed, so only who changes a .proto runs it.
import { execFileSync } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('../..', import.meta.url));
const protoDir = join(root, 'api/proto');
const files = readdirSync(join(protoDir, 'mesh/v1')).map((name) => `mesh/v1/${name}`);
const options = [
  'env=node',
  'esModuleInterop=true',
  'outputServices=grpc-js',
  'forceLong=number',
  'importSuffix=.js',
  'oneof=unions-value',
  'useDate=false',
  'outputJsonMethods=false',
  'exportCommonSymbols=false',
  'removeEnumPrefix=true',
  'useExactTypes=false',
  'unrecognizedEnum=false',
].join(',');
execFileSync(
  'protoc',
  [
    `--plugin=${join(root, 'node_modules/.bin/protoc-gen-ts_proto')}`,
    `--ts_proto_out=${join(root, 'api/gen')}`,
    `--ts_proto_opt=${options}`,
    // For gRPC server reflection.
    `--descriptor_set_out=${join(root, 'api/gen/descriptors.bin')}`,
    '--include_imports',
    `-I${protoDir}`,
    ...files,
  ],
  { cwd: protoDir, stdio: 'inherit' },
);
