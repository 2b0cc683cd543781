import type { AuditActionType, AuditDimension, AuditEventFilter, AuditEventStatus } from "./gql/graphql";

/** The facets that are offered as chips. */
export type ChipDimension = Extract<AuditDimension, "ACTION_TYPE" | "ACTION_NAME" | "STATUS">;

export const RANGES = { "1 hour": 1, "24 hours": 24, "7 days": 7 * 24, "All time": null } as const;
export type Range = keyof typeof RANGES;

/** What was chosen in the filter bar. */
export interface Choices {
  search: string;
  /** When the chosen range begins; null for all time. */
  since: string | null;
  chips: Record<ChipDimension, string[]>;
}

export const NO_CHOICES: Choices = {
  search: "",
  since: null,
  chips: { ACTION_TYPE: [], ACTION_NAME: [], STATUS: [] },
};

export function toggled(choices: Choices, dimension: ChipDimension, value: string): Choices {
  const chosen = choices.chips[dimension];
  const values = chosen.includes(value) ? chosen.filter((other) => other !== value) : [...chosen, value];
  return { ...choices, chips: { ...choices.chips, [dimension]: values } };
}

/** The one filter that every panel asks with. What is not chosen is left out. */
export function toFilter({ search, since, chips }: Choices): AuditEventFilter {
  const filter: AuditEventFilter = {};
  if (search.trim()) filter.search = search;
  if (since) filter.createdAt = { gte: since };
  if (chips.ACTION_TYPE.length) filter.actionType = { in: chips.ACTION_TYPE as AuditActionType[] };
  if (chips.ACTION_NAME.length) filter.actionName = { in: chips.ACTION_NAME };
  if (chips.STATUS.length) filter.status = { in: chips.STATUS as AuditEventStatus[] };
  return filter;
}
