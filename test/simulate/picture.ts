// A result → a picture of it: lines over time, as an SVG of a few KiB that reads on light and dark pages.
import type { Result } from './scenarios.js';

const [WIDTH, HEIGHT] = [640, 240];
const [LEFT, RIGHT, TOP, BOTTOM] = [56, 16, 44, 32];
const COLOURS = ['#d1495b', '#2e86ab', '#7a9e3b'];
const TEXT = 'font-family="system-ui, sans-serif" font-size="12" fill="#808080"';

export function picture({ title, unit, stepMs, lines }: Result): string {
  const steps = Math.max(...lines.map(({ values }) => values.length));
  const top = niceAbove(Math.max(...lines.flatMap(({ values }) => values)));
  const x = (step: number): string => (LEFT + ((WIDTH - LEFT - RIGHT) * (step + 0.5)) / steps).toFixed(1);
  const y = (value: number): string => (HEIGHT - BOTTOM - ((HEIGHT - TOP - BOTTOM) * Math.min(value, top)) / top).toFixed(1);
  const seconds = (steps * stepMs) / 1_000;
  const grid = [0, 0.5, 1].map((part) => {
    const at = y(top * part);
    return `<path d="M${LEFT} ${at}H${WIDTH - RIGHT}" stroke="#808080" stroke-opacity=".3"/><text x="${LEFT - 6}" y="${Number(at) + 4}" text-anchor="end" ${TEXT}>${top * part}</text>`;
  });
  const times = [0, 0.25, 0.5, 0.75, 1].map((part) => {
    const at = LEFT + (WIDTH - LEFT - RIGHT) * part;
    return `<text x="${at}" y="${HEIGHT - BOTTOM + 18}" text-anchor="middle" ${TEXT}>${Math.round(seconds * part)} s</text>`;
  });
  const plots = lines.map(({ values }, index) => {
    const points = values.map((value, step) => `${x(step)},${y(value)}`).join(' ');
    return `<polyline points="${points}" fill="none" stroke="${COLOURS[index]}" stroke-width="2"/>`;
  });
  const legend = lines.map(({ name }, index) => {
    const at = LEFT + index * 200;
    return `<path d="M${at} 32h16" stroke="${COLOURS[index]}" stroke-width="2"/><text x="${at + 22}" y="36" ${TEXT}>${name}</text>`;
  });
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${HEIGHT}" width="${WIDTH}" height="${HEIGHT}">`,
    `<text x="${LEFT}" y="18" ${TEXT} font-weight="600">${title} (${unit})</text>`,
    ...legend,
    ...grid,
    ...times,
    ...plots,
    '</svg>',
    '',
  ].join('\n');
}

/** The next of 1, 2, 5, 10, … */
function niceAbove(value: number): number {
  const power = 10 ** Math.floor(Math.log10(Math.max(value, 1e-9)));
  return power * ([1, 2, 5, 10].find((step) => step * power >= value) ?? 10);
}
