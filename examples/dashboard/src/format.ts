// The API sends BigInt and Decimal as text, so that no digit is lost. Numbers are made here, for display and charts.

const whole = new Intl.NumberFormat("en");
const compact = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });
const share = new Intl.NumberFormat("en", { style: "percent", maximumFractionDigits: 1 });
const dollars = new Intl.NumberFormat("en", { style: "currency", currency: "USD", maximumFractionDigits: 2 });
const cents = new Intl.NumberFormat("en", { style: "currency", currency: "USD", maximumSignificantDigits: 3 });
const threeDigits = new Intl.NumberFormat("en", { maximumSignificantDigits: 3 });
const clock = new Intl.DateTimeFormat("en-GB", { timeStyle: "medium" });
const day = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short" });

export const formatCount = (count: string) => whole.format(BigInt(count));
export const formatCompact = (count: string) => compact.format(BigInt(count));
export const formatShare = (rate: number) => share.format(rate);

export function formatUsd(amount: string): string {
  const number = Number(amount);
  return (number === 0 || number >= 1 ? dollars : cents).format(number);
}

export function formatLatency(ms: number | null | undefined): string {
  if (ms == null) return "–";
  return ms < 1000 ? `${Math.round(ms)} ms` : `${threeDigits.format(ms / 1000)} s`;
}

export const formatTime = (at: string) => clock.format(new Date(at));
export const formatMoment = (at: string) => `${day.format(new Date(at))} ${formatTime(at)}`;

/** The time when it was today, else the day. */
export const formatRecent = (at: string) =>
  new Date(at).toDateString() === new Date().toDateString() ? formatTime(at) : day.format(new Date(at));

const NAMES: Record<string, string> = {
  LLM_CALL: "LLM call",
  TOOL_INVOCATION: "Tool",
  ESCALATION: "Escalation",
};

/** An enum's value as people say it; other text as it is. */
export function formatValue(value: string): string {
  if (NAMES[value]) return NAMES[value];
  return /^[A-Z_]+$/.test(value) ? value.charAt(0) + value.slice(1).toLowerCase().replaceAll("_", " ") : value;
}
