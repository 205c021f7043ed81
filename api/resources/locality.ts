// Where requests go by the locality of endpoints, as DestinationRule (localityLbSetting) and TrafficPolicy say it. Owner: Istio API
// (LocalityLoadBalancerSetting), its webhook's validation.
import { z } from 'zod';
import { checkOneOf, flag, itemsOf, listOf, mapOf, uint32 } from './istio-common.js';
import { describe, fields, isUnchecked, type Report, type Unchecked, withRule } from './schema.js';

export const localityLbSetting = withRule(
  fields({
    distribute: listOf(fields({ from: z.string(), to: mapOf(uint32) })).optional(),
    failover: listOf(fields({ from: z.string(), to: z.string() })).optional(),
    failoverPriority: listOf(z.string()).optional(),
    enabled: flag,
  }),
  checkLocality,
);

const TOPOLOGY = /^(topology\.kubernetes\.io\/(region|zone)|topology\.istio\.io\/subzone)$/;

/** region, region/zone or region/zone/subzone, the last part perhaps "*"; none within another. */
function checkPlaces(places: readonly unknown[], refuse: (index: number, message: string) => void): void {
  // What all places below it begin with.
  const seen: string[] = [];
  places.forEach((place, index) => {
    if (typeof place !== 'string') return;
    const parts = place.split('/');
    const own = `${parts.at(-1) === '*' ? parts.slice(0, -1).join('/') : place}/`.replace(/^\/$/, '');
    const isPlace = parts.length <= 3 && !parts.includes('') && !own.includes('*');
    if (!isPlace) refuse(index, `expected region/zone/subzone, or the beginning of it and "*", found ${describe(place)}`);
    else if (seen.some((other) => own.startsWith(other) || other.startsWith(own)))
      refuse(index, `${describe(place)} overlaps with another one`);
    seen.push(own);
  });
}

function checkLocality(value: Unchecked, report: Report): void {
  checkOneOf(value, ['distribute', 'failover'], report);
  if (value.distribute !== undefined && value.failoverPriority !== undefined)
    report(['failoverPriority'], 'not with distribute: shares say where requests go');
  if (itemsOf(value.failover).length > 0 && Array.isArray(value.failoverPriority))
    value.failoverPriority.forEach((label: unknown, index) => {
      if (typeof label === 'string' && TOPOLOGY.test(label))
        report(['failoverPriority', index], 'not with failover, which says the regions');
    });
  checkPlaces(
    itemsOf(value.distribute).map(({ from }) => from),
    (index, message) => report(['distribute', index, 'from'], message),
  );
  itemsOf(value.distribute).forEach(({ to }, index) => {
    if (!isUnchecked(to)) return;
    const names = Object.keys(to);
    // More can't share 100.
    if (names.length <= 100) checkPlaces(names, (at, message) => report(['distribute', index, 'to', names[at] ?? ''], message));
    const total = Object.values(to).reduce((sum: number, share) => sum + (typeof share === 'number' ? share : 0), 0);
    if (total !== 100) report(['distribute', index, 'to'], `the shares of localities must sum up to 100, found ${total}`);
    for (const [name, share] of Object.entries(to))
      if (share === 0) report(['distribute', index, 'to', name], 'a share must not be 0: leave it out');
  });
  itemsOf(value.failover).forEach(({ from, to }, index) => {
    if (typeof from === 'string' && from === to) report(['failover', index, 'to'], `expected another region than from (${from})`);
    for (const [name, region] of Object.entries({ from, to }))
      if (typeof region === 'string' && /[/*]/.test(region))
        report(['failover', index, name], `expected a region, without zone and "*", found ${describe(region)}`);
  });
}
