// Regenerates api/gen from api/proto: needs protoc (Debian: protobuf-compiler). The result is committed, so only who changes a .proto runs it.
import { execFileSync } from 'node:child_process';
import { mkdirSync, readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('../..', import.meta.url));
const protoDir = join(root, 'api/proto');
const genDir = join(root, 'api/gen');
const files = readdirSync(protoDir, { recursive: true }).filter((name) => name.endsWith('.proto'));
/** Called through the engine, by the proxy's workers: they need the messages, and not grpc-js in each thread. */
const MESSAGES_ALONE = ['envoy/service/ratelimit/v3/rls.proto'];
const options = [
  'env=node',
  'esModuleInterop=true',
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
const protoc = (...args) => execFileSync('protoc', [...args, `-I${protoDir}`], { cwd: protoDir, stdio: 'inherit' });
rmSync(genDir, { recursive: true, force: true });
mkdirSync(genDir);
const generate = (services, names) =>
  protoc(
    `--plugin=${join(root, 'node_modules/.bin/protoc-gen-ts_proto')}`,
    `--ts_proto_out=${genDir}`,
    `--ts_proto_opt=${options},outputServices=${services}`,
    ...names,
  );
const isMessagesAlone = (name) => MESSAGES_ALONE.includes(name);
generate(
  'grpc-js',
  files.filter((name) => !isMessagesAlone(name)),
);
generate('none', files.filter(isMessagesAlone));
// For gRPC server reflection: our own services alone.
const own = files.filter((name) => name.startsWith('mesh/'));
protoc(`--descriptor_set_out=${join(genDir, 'descriptors.bin')}`, '--include_imports', ...own);
