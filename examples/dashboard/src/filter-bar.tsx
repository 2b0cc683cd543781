import { useEffect, useState } from "preact/hooks";
import { NO_CHOICES, RANGES, toggled, type ChipDimension, type Choices, type Range } from "./filter";
import { formatCount, formatValue } from "./format";
import { graphql } from "./gql";
import type { AuditEventFilter } from "./gql/graphql";
import { errorText, useAnswer } from "./panel";

const Facets = graphql(`
  query Facets($filter: AuditEventFilter) {
    auditFacets(dimensions: [ACTION_TYPE, STATUS, ACTION_NAME], filter: $filter, limit: 10) {
      dimension
      values {
        value
        count
      }
    }
  }
`);

const GROUPS: [ChipDimension, string][] = [
  ["ACTION_TYPE", "Action"],
  ["STATUS", "Status"],
  ["ACTION_NAME", "Name"],
];
const TYPING_MS = 300;

interface Props {
  choices: Choices;
  onChange: (choices: Choices) => void;
  filter: AuditEventFilter;
  news: number;
}

/** Free text, a time range, and a chip for each value that the matching events have. */
export function FilterBar({ choices, onChange, filter, news }: Props) {
  const { data, error } = useAnswer(Facets, { filter }, news);
  const [search, setSearch] = useState(choices.search);
  const [range, setRange] = useState<Range>("All time");

  useEffect(() => {
    if (search === choices.search) return;
    const timer = setTimeout(() => onChange({ ...choices, search }), TYPING_MS);
    return () => clearTimeout(timer);
  }, [search, choices]);

  function choose(name: Range) {
    const hours = RANGES[name];
    setRange(name);
    onChange({ ...choices, since: hours === null ? null : new Date(Date.now() - hours * 3_600_000).toISOString() });
  }

  function clear() {
    setSearch("");
    setRange("All time");
    onChange(NO_CHOICES);
  }

  const isFiltered = Object.keys(filter).length > 0;
  return (
    <search class="filters">
      <div class="line">
        <input
          type="search"
          aria-label="Search"
          placeholder="Search summaries, errors and names, e.g. refund -late"
          value={search}
          onInput={(event) => setSearch(event.currentTarget.value)}
        />
        <div class="segments" role="group" aria-label="Time range">
          {(Object.keys(RANGES) as Range[]).map((name) => (
            <button key={name} aria-pressed={name === range} onClick={() => choose(name)}>
              {name}
            </button>
          ))}
        </div>
        <button disabled={!isFiltered} onClick={clear}>
          Clear
        </button>
      </div>
      {error && <p class="error small">Could not load the facets: {errorText(error)}</p>}
      <div class="facets">
        {GROUPS.map(([dimension, label]) => {
          const counted = data?.auditFacets.find((facet) => facet.dimension === dimension)?.values ?? [];
          return (
            <div key={dimension} class="facet" role="group" aria-label={label}>
              <span class="muted small">{label}</span>
              {withChosen(counted, choices.chips[dimension]).map(({ value, count }) => (
                <button
                  key={value}
                  class="chip"
                  data-value={value}
                  aria-pressed={choices.chips[dimension].includes(value)}
                  onClick={() => onChange(toggled(choices, dimension, value))}
                >
                  {formatValue(value)} <span class="count">{formatCount(count)}</span>
                </button>
              ))}
            </div>
          );
        })}
      </div>
    </search>
  );
}

/** The counted values, and those that were chosen and match nothing: a chip must be there to be taken back. */
function withChosen(counted: { value?: string | null; count: string }[], chosen: string[]) {
  const named = counted.flatMap(({ value, count }) => (value == null ? [] : [{ value, count }]));
  const missing = chosen.filter((value) => !named.some((item) => item.value === value));
  return [...named, ...missing.map((value) => ({ value, count: "0" }))];
}
