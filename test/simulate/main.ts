// `npm run simulate -- [NAME…]`: outlier detection, balancing by latency, retry budgets, admission: the data path's own decisions under a load that
// is simulated, with and without the policy. Writes a picture each to docs/traffic, prints the figures. The same seed each time: what differs
// from the pictures that are there is a change of behaviour.
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { picture } from './picture.js';
import { SCENARIOS } from './scenarios.js';

const FOLDER = join('docs', 'traffic');

function main(names: readonly string[]): number {
  if (names.includes('--help') || names.includes('-h')) {
    console.log(`usage: npm run simulate -- [NAME…]   NAME: ${Object.keys(SCENARIOS).join(', ')}`);
    return 0;
  }
  const unknown = names.filter((name) => SCENARIOS[name] === undefined);
  if (unknown.length > 0) {
    console.error(`no simulation ${unknown.join(', ')}; there are: ${Object.keys(SCENARIOS).join(', ')}`);
    return 2;
  }
  for (const [name, scenario] of Object.entries(SCENARIOS)) {
    if (names.length > 0 && !names.includes(name)) continue;
    const result = scenario(1);
    const file = join(FOLDER, `${name}.svg`);
    writeFileSync(file, picture(result));
    console.log(`${name}: ${result.title}`);
    for (const [figure, value] of Object.entries(result.figures)) console.log(`  ${figure}: ${value}`);
    console.log(`  ${file}`);
  }
  return 0;
}

process.exitCode = main(process.argv.slice(2));
