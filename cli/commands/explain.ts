// `weft explain`: what happens to a request and why: which rule wins and why the others don't, what is changed, who gets it. A node's proxy answers by its
// own tables; with -f the same code does, by tables made of those files here.
import { readFileSync } from 'node:fs';
import { Command, InvalidArgumentError, Option } from 'commander';
import {
  type ExplainRequest,
  type ExplainResponse,
  ExplainResponse_Outcome,
  FilterVerdict_Verdict,
  RuleVerdict_Verdict,
} from '../../api/gen/mesh/v1/explain.js';
import type { Header } from '../../api/gen/mesh/v1/model.js';
import { type Controller, withController } from '../connection.js';
import { EXIT_USAGE, Failure } from '../failure.js';
import { readManifests } from '../manifest-files.js';
import { type Palette, table } from '../terminal.js';
import { type Context, contextOf, examples, filenameOption, jsonOption } from './context.js';
import { type LoggedRequest, readLogLine } from './explain-log.js';

interface Flags {
  readonly from?: string;
  readonly gateway?: string;
  readonly node?: string;
  readonly header?: readonly Header[];
  readonly data?: string;
  readonly log?: string;
  readonly filename?: readonly string[];
  readonly all?: boolean;
  readonly output?: 'json';
}

/** Explains by the files' objects; throws a Failure. It comes from outside because the CLI does not import the proxy. */
export type ExplainOffline = (
  files: readonly { readonly name: string; readonly content: string }[],
  request: ExplainRequest,
) => Promise<ExplainResponse>;

export function explainCommand(offline: ExplainOffline): Command {
  const command = new Command('explain')
    .description('Explain what happens to a request: the rule that wins and why others do not, what is changed, who gets it.')
    .argument('[method]', 'GET, POST, …')
    .argument('[url]', 'http://HOST[:PORT]/PATH, as the client asks for it')
    .option(
      '--from <workload>',
      'NAMESPACE/NAME of the workload that sends it; without it the request comes to a gateway, if one is for it',
    )
    .option('--gateway <gateway>', 'NAMESPACE/NAME of the gateway it comes to')
    .option('--node <node>', 'whose proxy is asked (default: the node of --from, else the first that knows the answer)')
    .addOption(new Option('-H, --header <name:value>', 'a header of the request; repeatable').argParser(headerOption))
    .option('-d, --data <body>', 'the body of the request, for filters that read it; @FILE reads it from there')
    .option('--log <line>', 'explain the request of this line of the access log; - reads it from standard input')
    .addOption(filenameOption())
    .option('--all', 'also the rules for other hosts')
    .addOption(jsonOption())
    .action(async (method: string | undefined, url: string | undefined, flags: Flags, self: Command) => {
      const context = contextOf(self);
      const { outcome, request } = requestOf(method, url, flags);
      const { filename } = flags;
      if (request === null)
        return context.print(
          flags.output === 'json'
            ? JSON.stringify({ logged: outcome }, null, 2)
            : `It had ${outcome}.\nWhat would become of it now can't be told: nothing was decided on it, or the line says too little.`,
        );
      const answer =
        filename === undefined ? await askNodes(request, flags.node, context) : await offline(await readManifests(filename), request);
      const shown = { ...answer };
      if (flags.all !== true) shown.rules = shown.rules.filter(({ why }) => !why.startsWith('is for the host '));
      if (flags.output === 'json')
        context.print(JSON.stringify({ ...(outcome === '' ? {} : { logged: outcome }), ...asJson(answer) }, null, 2));
      else context.print(explanation(outcome, shown, answer.rules.length - shown.rules.length, context.colours));
    });
  return examples(
    command,
    ['weft explain --from shop/cart GET http://catalog/items', 'in the mesh'],
    ['weft explain GET https://shop.example.com/ -H x-user:ann', 'at a gateway'],
    ['weft explain -f shop.yaml GET http://shop.example.com/', 'by files, before they are applied'],
    ['tail -1 access.log | weft explain --log -', 'a request that was refused'],
  );
}

function headerOption(text: string, before: readonly Header[] = []): Header[] {
  const colon = text.indexOf(':');
  if (colon < 1) throw new InvalidArgumentError('Expected NAME:VALUE.');
  return [...before, { name: text.slice(0, colon), value: text.slice(colon + 1).trim() }];
}

function requestOf(method: string | undefined, url: string | undefined, flags: Flags): LoggedRequest {
  const { from = '', gateway = '', header = [], data, log } = flags;
  const given = { from, gateway, headers: [...header], body: data === undefined ? undefined : bodyOf(data) };
  if (log !== undefined) {
    if (method !== undefined) throw new Failure('explain takes either METHOD URL or --log LINE', EXIT_USAGE);
    return readLogLine(log === '-' ? readFileSync(0, 'utf8').trim().split('\n').at(-1)! : log, given);
  }
  if (method === undefined || url === undefined) throw new Failure('explain needs METHOD and URL, or --log LINE', EXIT_USAGE);
  const whole = /^[a-z]+:\/\//i.test(url) ? url : `http://${url}`;
  return { outcome: '', request: { ...given, method: method.toUpperCase(), url: whole, client: '', clientIdentity: '' } };
}

function bodyOf(data: string): Buffer {
  if (!data.startsWith('@')) return Buffer.from(data);
  try {
    return readFileSync(data.slice(1));
  } catch (error) {
    throw new Failure(`--data: ${(error as Error).message}`, EXIT_USAGE);
  }
}

/** The node that is named; that of the workload; or one after the other until one knows the answer. */
async function askNodes(request: ExplainRequest, name: string | undefined, context: Context): Promise<ExplainResponse> {
  return withController(context.controller, async (controller) => {
    const { nodes } = await controller.listNodes();
    const running = nodes.filter(({ workloads }) => workloads.some((workload) => workload.name === request.from));
    const asked =
      name !== undefined ? [await controller.node(name)] : running.length > 0 ? running : nodes.filter(({ connected }) => connected);
    const failures: string[] = [];
    for (const node of asked) {
      const answer = await explained(controller, node, request);
      if (typeof answer !== 'string') return answer;
      failures.push(`${node.name}: ${answer}`);
    }
    throw new Failure(asked.length === 0 ? 'no node is connected: say what is meant with -f FILE' : [...new Set(failures)].join('\n'));
  });
}

async function explained(
  controller: Controller,
  node: Parameters<Controller['nodeExplain']>[0],
  request: ExplainRequest,
): Promise<ExplainResponse | string> {
  try {
    return await controller.nodeExplain(node, request);
  } catch (error) {
    if (error instanceof Failure) return error.message;
    throw error;
  }
}

const OUTCOMES: Readonly<Record<ExplainResponse_Outcome, string>> = {
  [ExplainResponse_Outcome.FORWARDED]: 'forwarded',
  [ExplainResponse_Outcome.ANSWERED]: 'answered',
  [ExplainResponse_Outcome.PASSED_ON]: 'passed-on',
  [ExplainResponse_Outcome.DEFERRED]: 'deferred',
};
const VERDICTS: Readonly<Record<RuleVerdict_Verdict, string>> = {
  [RuleVerdict_Verdict.WON]: 'won',
  [RuleVerdict_Verdict.BEATEN]: 'beaten',
  [RuleVerdict_Verdict.UNMET]: 'unmet',
  [RuleVerdict_Verdict.HIDDEN]: 'hidden',
};

const FILTER_VERDICTS: Readonly<Record<FilterVerdict_Verdict, string>> = {
  [FilterVerdict_Verdict.CONTINUED]: 'continued',
  [FilterVerdict_Verdict.ANSWERED]: 'answered',
  [FilterVerdict_Verdict.FAILED]: 'failed',
  [FilterVerdict_Verdict.NOT_ASKED]: 'not-asked',
};

function asJson(answer: ExplainResponse): object {
  const rules = answer.rules.map(({ verdict, ...rule }) => ({ ...rule, verdict: VERDICTS[verdict] }));
  const filters = answer.filters.map(({ verdict, ...filter }) => ({ ...filter, verdict: FILTER_VERDICTS[verdict] }));
  return { ...answer, outcome: OUTCOMES[answer.outcome], rules, filters };
}

function explanation(logged: string, answer: ExplainResponse, others: number, colours: Palette): string {
  const isGood = answer.outcome !== ExplainResponse_Outcome.ANSWERED || answer.status < 400;
  const flag = answer.responseFlag === '' ? '' : ` (${answer.responseFlag})`;
  const before = logged === '' ? '' : `It had ${colours.strong(logged)}.\nNow it `;
  const head = `${before}${before === '' ? 'Comes' : 'comes'} in at ${colours.strong(answer.entrance)} and ${(isGood ? colours.good : colours.bad)(`${answer.reason}${flag}`)}.`;
  const parts = [head, rulesText(answer, others, colours)];
  if (answer.filters.length > 0) parts.push(filtersText(answer, colours));
  if (answer.changes.length > 0) parts.push(listed('Changes', answer.changes, colours));
  if (answer.plan.length > 0) parts.push(listed('It', answer.plan, colours));
  if (answer.backends.length > 0) parts.push(backendsText(answer, colours));
  if (answer.endpoints.length > 0) parts.push(endpointsText(answer, colours));
  return parts.filter((part) => part !== '').join('\n\n');
}

function listed(title: string, lines: readonly string[], colours: Palette): string {
  return [colours.faint(title), ...lines.map((line) => `  ${line}`)].join('\n');
}

function rulesText({ rules, outcome }: ExplainResponse, others: number, colours: Palette): string {
  const signs = {
    [RuleVerdict_Verdict.WON]: colours.good('✓'),
    [RuleVerdict_Verdict.BEATEN]: colours.warn('↓'),
    [RuleVerdict_Verdict.UNMET]: colours.faint('✗'),
    [RuleVerdict_Verdict.HIDDEN]: colours.faint('-'),
  } as const;
  const rows = rules.map(({ route, host, match, verdict, why }) => [
    signs[verdict],
    route,
    host || '*',
    match,
    verdict === RuleVerdict_Verdict.WON ? 'wins' : why,
  ]);
  const more = others > 0 ? colours.faint(`${others} more for other hosts: --all`) : '';
  if (rows.length === 0) {
    const none =
      outcome === ExplainResponse_Outcome.FORWARDED ? 'No rules are there: it goes to the service it was sent to.' : 'No rules are there.';
    return more === '' ? colours.faint(none) : more;
  }
  const columns = [{ title: ' ' }, { title: 'RULE' }, { title: 'HOST' }, { title: 'MATCH' }, { title: 'WHY' }];
  return [table(columns, rows, colours), more].filter((part) => part !== '').join('\n');
}

function percent(share: number): string {
  return `${Math.round(share * 1_000) / 10} %`;
}

function filtersText({ filters }: ExplainResponse, colours: Palette): string {
  const shown = {
    [FilterVerdict_Verdict.CONTINUED]: 'goes on',
    [FilterVerdict_Verdict.ANSWERED]: colours.bad('answers'),
    [FilterVerdict_Verdict.FAILED]: colours.warn('fails'),
    [FilterVerdict_Verdict.NOT_ASKED]: colours.faint('not asked'),
  } as const;
  const rows = filters.flatMap(({ name, verdict, lines, busyUs, seesAnswers }) => {
    const said = [...lines, ...(seesAnswers ? [colours.faint('sees the answer')] : [])];
    return (said.length === 0 ? [''] : said).map((line, index) =>
      index === 0 ? [name, shown[verdict], busyUs === 0 ? '' : `${busyUs} µs`, line] : ['', '', '', line],
    );
  });
  return table([{ title: 'FILTER' }, { title: ' ' }, { title: 'TIME', align: 'right' }, { title: 'WHAT' }], rows, colours);
}

function backendsText({ backends }: ExplainResponse, colours: Palette): string {
  const rows = backends.map(({ service, share, chosen }) => [service, percent(share), chosen ? colours.good('drawn') : ' ']);
  return table([{ title: 'BACKEND' }, { title: 'SHARE', align: 'right' }, { title: ' ' }], rows, colours);
}

function endpointsText({ endpoints }: ExplainResponse, colours: Palette): string {
  const right = { align: 'right' as const };
  const columns = [
    { title: 'ENDPOINT' },
    { title: 'WEIGHT', ...right },
    { title: 'IN FLIGHT', ...right },
    { title: 'LATENCY', ...right },
    { title: 'SHARE NOW', ...right },
    { title: 'WHY' },
  ];
  const rows = endpoints.map(({ address, weight, weightSource, outstanding, latencyMs, share, chosen, outBecause }) => [
    chosen ? colours.good(address) : address,
    // By its own reports it has another one, which the share shows.
    weightSource === '' ? String(weight) : `${weightSource.startsWith('orca') ? '' : `${weight} `}${weightSource}`,
    String(outstanding),
    latencyMs === 0 ? '' : `${latencyMs.toFixed(1)} ms`,
    percent(share),
    outBecause === '' ? (chosen ? 'chosen this time' : ' ') : colours.warn(outBecause),
  ]);
  return table(columns, rows, colours);
}
