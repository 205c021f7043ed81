// Builds native/build/Release/weft.node with cmake-js, offline (native/package.json makes it so): node_api.h comes from node-api-headers, uv.h from Node's own include folder.
// Builds nothing else: the BPF skeletons are build-bpf.mjs's.
//
// Usage: node deploy/bootstrap/build-native.mjs [--debug] [cmake-js arguments]
// WEFT_NODE_INCLUDE: folder that holds uv.h, where neither npm's nodedir nor the folder beside the node binary has it.
import { spawnSync } from 'node:child_process';
import { existsSync, realpathSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = join(dirname(fileURLToPath(import.meta.url)), '..', '..');

function nodeInclude() {
  const candidates = [
    process.env.WEFT_NODE_INCLUDE,
    process.env.npm_config_nodedir && join(process.env.npm_config_nodedir, 'include', 'node'),
    join(dirname(dirname(realpathSync(process.execPath))), 'include', 'node'),
  ].filter(Boolean);
  const found = candidates.find((folder) => existsSync(join(folder, 'uv.h')));
  if (found !== undefined) return found;
  process.stderr.write(
    `uv.h of Node ${process.version} was not found in ${candidates.join(' or ')}.\n` +
      'Install the headers of this Node version (Debian: libnode-dev; the nodejs.org archives hold them in include/node), or set ' +
      'WEFT_NODE_INCLUDE to the folder that holds uv.h.\n',
  );
  process.exit(1);
}

const args = process.argv.slice(2);
const cmakeJs = join(root, 'node_modules', 'cmake-js', 'bin', 'cmake-js');
const result = spawnSync(
  process.execPath,
  [
    cmakeJs,
    // Not 'compile': that answers an error in the code by emptying the folder, BPF skeletons included, and building all again.
    'build',
    '--directory',
    join(root, 'native'),
    '--out',
    join(root, 'native', 'build'),
    `--CDWEFT_NODE_INCLUDE=${nodeInclude()}`,
    ...args,
  ],
  { stdio: 'inherit', cwd: root },
);
if (result.error) throw result.error;
process.exit(result.status ?? 1);
