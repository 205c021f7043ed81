// `weft token|node|operator|authority|audit|whoami`: who may speak to the controllers, and what they did.
import { generateKeyPairSync } from 'node:crypto';
import { openSync, rmSync, writeFileSync } from 'node:fs';
import type { ClientUnaryCall } from '@grpc/grpc-js';
import { Command, InvalidArgumentError, Option } from 'commander';
import {
  type AccessClient,
  type AuditEntry,
  type CreateJoinTokenResponse,
  type CreateOperatorResponse,
  type ListAuditResponse,
  type ListAuthoritiesResponse,
  type ListJoinTokensResponse,
  type ListOperatorsResponse,
  type ListRevokedNodesResponse,
  Role,
  type WhoAmIResponse,
} from '../../api/gen/mesh/v1/access.js';
import { type Tail, withController } from '../connection.js';
import { EXIT_USAGE, Failure } from '../failure.js';
import { elapsed, instant, table } from '../terminal.js';
import { type Context, contextOf, durationMs, examples, type JsonFlags, jsonOption, wholeNumber } from './context.js';

const ROLES = { viewer: Role.VIEWER, operator: Role.OPERATOR, admin: Role.ADMIN } as const;

function durationSeconds(value: string): number {
  const ms = durationMs(value);
  if (ms % 1_000 !== 0) throw new InvalidArgumentError('Expected whole seconds, such as 30m.');
  return ms / 1_000;
}

function access<Response>(context: Context, start: (client: AccessClient, ...tail: Tail<Response>) => ClientUnaryCall): Promise<Response> {
  return withController(context.controller, (controller) => controller.access(start));
}

export function tokenCommand(): Command {
  const create = new Command('create')
    .description('Make a token by which one node joins once. It is printed alone on standard output.')
    .requiredOption('--node <name>', 'the node that may use it')
    .addOption(new Option('--ttl <duration>', 'how long it is good: 30m, 24h, at most 7d').argParser(durationSeconds).default(3_600, '1h'))
    .action(async ({ node, ttl }: { node: string; ttl: number }, self: Command) => {
      const context = contextOf(self);
      const { token, info } = await access<CreateJoinTokenResponse>(context, (client, ...tail) =>
        client.createJoinToken({ node, ttlSeconds: ttl }, ...tail),
      );
      context.print(token);
      context.printError(`token ${info?.id} for node ${node}, good for ${elapsed(ttl)}: put it where its agent's --join-token-file points`);
    });
  const list = new Command('list')
    .description('Show the tokens that live.')
    .addOption(jsonOption())
    .action(async ({ output }: JsonFlags, self: Command) => {
      const context = contextOf(self);
      const { tokens } = await access<ListJoinTokensResponse>(context, (client, ...tail) => client.listJoinTokens({}, ...tail));
      const rows = tokens.map((each) => [each.id, each.node, instant(each.expiresAtMs), each.used ? 'used' : 'not used', each.createdBy]);
      show(context, output, { tokens }, ['ID', 'NODE', 'UNTIL', 'STATE', 'CREATED BY'], rows, 'there is no token');
    });
  const revoke = new Command('revoke')
    .description('Make a token worth nothing. A node that has used it stays: weft node revoke.')
    .argument('<id>', 'of weft token list')
    .action(async (id: string, _: unknown, self: Command) => {
      const context = contextOf(self);
      await access(context, (client, ...tail) => client.revokeJoinToken({ id }, ...tail));
      context.print(`token ${id} revoked`);
    });
  const command = new Command('token').description('Tokens by which nodes join.').addCommand(create).addCommand(list).addCommand(revoke);
  return examples(command, ['weft token create --node node-a > /etc/weft/join-token', 'for the agent of node-a, good for an hour']);
}

export function nodeCommand(): Command {
  const revoke = new Command('revoke')
    .description(
      'Make every certificate that the node got until now worth nothing; its streams end. It joins anew with a join token made afterwards; with its pod’s token, in Kubernetes, once it is admitted.',
    )
    .argument('<node>')
    .option('--away', 'also where no node of that name is registered now')
    .action(async (node: string, { away = false }: { readonly away?: boolean }, self: Command) => {
      const context = contextOf(self);
      await access(context, (client, ...tail) => client.revokeNode({ node, away }, ...tail));
      context.print(`certificates of node ${node} revoked`);
    });
  const admit = new Command('admit')
    .description('Let a revoked node of Kubernetes join by its pod’s token again. Certificates from before stay worth nothing.')
    .argument('<node>')
    .action(async (node: string, _: unknown, self: Command) => {
      const context = contextOf(self);
      await access(context, (client, ...tail) => client.admitNode({ node }, ...tail));
      context.print(`node ${node} admitted`);
    });
  const revoked = new Command('revoked')
    .description('Show the nodes that were revoked.')
    .addOption(jsonOption())
    .action(async ({ output }: JsonFlags, self: Command) => {
      const context = contextOf(self);
      const { nodes } = await access<ListRevokedNodesResponse>(context, (client, ...tail) => client.listRevokedNodes({}, ...tail));
      const rows = nodes.map(({ node, atMs, admitted }) => [node, instant(atMs), admitted ? 'join token or pod' : 'join token']);
      show(context, output, { nodes }, ['NODE', 'REVOKED', 'JOINS BY'], rows, 'no node was revoked');
    });
  return new Command('node').description('Certificates of nodes.').addCommand(revoke).addCommand(admit).addCommand(revoked);
}

interface CreateOperator {
  readonly role: keyof typeof ROLES;
  readonly ttl?: number;
  readonly certificate?: boolean;
  readonly out?: string;
}

export function operatorCommand(): Command {
  const create = new Command('create')
    .description('Let somebody use the controllers from another host: a token, or a client certificate whose key is made here.')
    .argument('<name>')
    .addOption(
      new Option('--role <role>', 'viewer reads, operator changes resources, admin decides who may')
        .choices(Object.keys(ROLES))
        .makeOptionMandatory(),
    )
    .addOption(
      new Option('--ttl <duration>', 'how long it is good (default: until it is deleted; a certificate 365d)').argParser(durationSeconds),
    )
    .option('--certificate', 'a client certificate in place of a token')
    .option('--out <file>', 'write the credentials there, for --credentials (default: standard output)')
    .action(async (name: string, flags: CreateOperator, self: Command) => createOperator(name, flags, contextOf(self)));
  const list = new Command('list')
    .description('Show who may.')
    .addOption(jsonOption())
    .action(async ({ output }: JsonFlags, self: Command) => {
      const context = contextOf(self);
      const { operators } = await access<ListOperatorsResponse>(context, (client, ...tail) => client.listOperators({}, ...tail));
      const rows = operators.map((each) => [
        each.name,
        roleName(each.role),
        each.by,
        each.expiresAtMs === 0 ? 'ever' : instant(each.expiresAtMs),
        each.createdBy,
      ]);
      const shown = { operators: operators.map((each) => ({ ...each, role: roleName(each.role) })) };
      show(
        context,
        output,
        shown,
        ['NAME', 'ROLE', 'BY', 'UNTIL', 'CREATED BY'],
        rows,
        'there is no operator: only the local socket is open',
      );
    });
  const remove = new Command('delete')
    .description('Make an operator’s credentials worth nothing, at once.')
    .argument('<name>')
    .action(async (name: string, _: unknown, self: Command) => {
      const context = contextOf(self);
      await access(context, (client, ...tail) => client.deleteOperator({ name }, ...tail));
      context.print(`operator ${name} deleted`);
    });
  const command = new Command('operator')
    .description('Who may use the controllers.')
    .addCommand(create)
    .addCommand(list)
    .addCommand(remove);
  return examples(command, [
    'weft operator create ann --role operator --out ann.yaml',
    'ann: weft --controller HOST:15010 --credentials ann.yaml get services',
  ]);
}

async function createOperator(name: string, { role, ttl, certificate, out }: CreateOperator, context: Context): Promise<void> {
  // Before anything is made: the token is told once.
  const file = out === undefined ? null : newFile(out);
  const pair = certificate === true ? generateKeyPairSync('ec', { namedCurve: 'P-256' }) : null;
  const publicKey = pair === null ? Buffer.alloc(0) : pair.publicKey.export({ type: 'spki', format: 'der' });
  const answer = await access<CreateOperatorResponse>(context, (client, ...tail) =>
    client.createOperator({ name, role: ROLES[role], ttlSeconds: ttl ?? 0, publicKey }, ...tail),
  ).catch((error: unknown) => {
    if (out !== undefined) rmSync(out);
    throw error;
  });
  const authorities = answer.authorities.join('');
  const key = pair?.privateKey.export({ type: 'pkcs8', format: 'pem' }).toString();
  // YAML loads here, not with every command.
  const { credentialsText } = await import('../credentials-file.js');
  const text = credentialsText(
    key === undefined ? { token: answer.token, authorities } : { certificate: answer.certificate, key, authorities },
  );
  if (file === null) context.print(text.trimEnd());
  else writeFileSync(file, text);
  context.printError(`operator ${name}, ${role}${out === undefined ? '' : `: credentials in ${out}`}`);
}

/** For its owner alone. Throws Failure where there is one already, or none can be made. */
function newFile(path: string): number {
  try {
    return openSync(path, 'wx', 0o600);
  } catch (error) {
    throw new Failure(`--out ${path}: ${(error as Error).message}: expected the path of a new file; nothing was made`, EXIT_USAGE);
  }
}

export function authorityCommand(): Command {
  const list = new Command('list')
    .description('Show who signs the certificates of nodes and controllers.')
    .addOption(jsonOption())
    .action(async ({ output }: JsonFlags, self: Command) => {
      const context = contextOf(self);
      const answer = await access<ListAuthoritiesResponse>(context, (client, ...tail) => client.listAuthorities({}, ...tail));
      showAuthorities(context, output, answer);
    });
  const rotate = new Command('rotate')
    .description(
      'Make a new authority. It is trusted at once, signs when every node has heard of it, and the old one goes when all it signed has ended.',
    )
    .option('--immediately', 'the old ones are worth nothing at once: every node joins anew by a token. For a key that was stolen', false)
    .addOption(jsonOption())
    .action(async ({ immediately, output }: JsonFlags & { immediately: boolean }, self: Command) => {
      const context = contextOf(self);
      const answer = await access<ListAuthoritiesResponse>(context, (client, ...tail) => client.rotateAuthority({ immediately }, ...tail));
      showAuthorities(context, output, answer);
    });
  return new Command('authority').description('Who signs the certificates of nodes and controllers.').addCommand(list).addCommand(rotate);
}

function showAuthorities(context: Context, output: 'json' | undefined, { authorities }: ListAuthoritiesResponse): void {
  const rows = authorities.map(({ pin, state, expiresAtMs, changesAtMs }) => [
    pin,
    state,
    instant(expiresAtMs),
    changesAtMs === 0 ? '' : instant(changesAtMs),
  ]);
  show(context, output, { authorities }, ['PIN', 'STATE', 'UNTIL', 'NEXT CHANGE'], rows, 'there is none yet');
}

export function auditCommand(): Command {
  const command = new Command('audit')
    .description('Show who did what, and who was refused, the newest first. By what and from where they came, and long texts: -o json.')
    .addOption(new Option('--limit <count>', 'how many; 0: all that are kept').argParser(wholeNumber(9)).default(20))
    .addOption(jsonOption())
    .action(async ({ limit, output }: JsonFlags & { limit: number }, self: Command) => {
      const context = contextOf(self);
      const { entries } = await access<ListAuditResponse>(context, (client, ...tail) => client.listAudit({ limit }, ...tail));
      show(
        context,
        output,
        { entries: entries.map((entry) => ({ ...entry, at: instant(entry.atMs) })) },
        ['WHEN', 'WHO', 'WHAT', 'RESULT'],
        entries.map(auditRow),
        'nothing was done yet',
      );
    });
  return examples(command, ['weft audit --limit 100', 'the newest hundred'], ['weft audit --limit 0 -o json', 'all, for a script']);
}

const MAX_CELL = 60;

/** What is long ends in "…", and by what and from where somebody came stands in JSON alone: a row is for reading. */
function auditRow({ atMs, actor, peer, method, detail, result, message }: AuditEntry): string[] {
  const what = detail === '' ? method : `${method} ${detail}`;
  return [instant(atMs), actor === '' ? peer : actor, shortened(what), shortened(message === '' ? result : `${result}: ${message}`)];
}

function shortened(text: string): string {
  return text.length <= MAX_CELL ? text : `${text.slice(0, MAX_CELL - 1)}…`;
}

export function whoamiCommand(): Command {
  return new Command('whoami').description('Show who the controller takes you for.').action(async (_: unknown, self: Command) => {
    const context = contextOf(self);
    const { name, role, by } = await access<WhoAmIResponse>(context, (client, ...tail) => client.whoAmI({}, ...tail));
    context.print(`${name}, ${roleName(role)}, by ${by}`);
  });
}

function roleName(role: Role): string {
  return Role[role]?.toLowerCase() ?? '?';
}

function show(
  context: Context,
  output: 'json' | undefined,
  all: unknown,
  titles: readonly string[],
  rows: readonly (readonly string[])[],
  none: string,
): void {
  if (output === 'json') context.print(JSON.stringify(all, null, 2));
  else if (rows.length === 0) context.printError(none);
  else
    context.print(
      table(
        titles.map((title) => ({ title })),
        rows,
        context.colours,
      ),
    );
}
