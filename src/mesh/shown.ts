/** Text from strangers, as it may be shown in a log line or a report: bounded, and without control characters. */
const MAX_SHOWN_LENGTH = 80;

export function shown(text: string, maxLength = MAX_SHOWN_LENGTH): string {
  const printable = text.slice(0, maxLength).replace(/\p{Cc}/gu, ' ');
  return text.length > maxLength ? `${printable}…` : printable;
}
