// Values of headers as Envoy formats them: "%%" is a percent sign, %NAME% and %NAME(arguments)% are filled in. Owner: Envoy, as Istio's
// webhook checks it. Nothing is filled in here.

const ARGUMENTS = ' *(?:[^ [](?:\\\\.|[^\\\\)"])*|\\[ *"(?:\\\\.|[^\\\\)"])*"(?: *, *"(?:\\\\.|[^\\\\)"])*")* *\\] *)\\)';
const FORMAT = new RegExp(`^(?:[^%]|%%|%[^%(]+%|%[^%(]*\\(${ARGUMENTS} *%)*$`, 's');

export function isHeaderFormat(value: string): boolean {
  return FORMAT.test(value);
}

/** Of a value that is one. */
export function hasVariables(value: string): boolean {
  return value.replaceAll('%%', '').includes('%');
}

/** Of a value that is one: variables stay as they stand. */
export function formattedHeader(value: string): string {
  return value.replaceAll('%%', '%');
}
