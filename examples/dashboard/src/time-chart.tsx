import { useEffect, useRef, useState } from "preact/hooks";
import uPlot from "uplot";

interface Series {
  label: string;
  /** The name of a colour in style.css. */
  color: string;
  values: (number | null)[];
}

interface Props {
  /** Seconds since 1970, one a bucket. */
  times: number[];
  series: Series[];
  kind: "lines" | "bars";
  isLogarithmic?: boolean;
  format: (value: number) => string;
}

const HEIGHT = 190;
const DECADES = [1, 10, 100, 1000, 10_000, 100_000, 1_000_000];
const LOGARITHMIC: uPlot.Scale = { distr: 3, range: (_, min, max) => [min / 1.3, max * 1.3] };
const LINEAR: uPlot.Scale = { range: (_, __, max) => [0, max * 1.1] };
const logarithmicSplits = (_: uPlot, __: number, min: number, max: number) =>
  DECADES.flatMap((decade) => [decade, 3 * decade]).filter((value) => value >= min && value <= max);
const day = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short" });
const minute = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit" });
const second = new Intl.DateTimeFormat("en-GB", { timeStyle: "medium" });
const DAY_SECONDS = 86_400;

/** The day, or the time of the day, whichever the distance between two marks asks for. */
function timeLabels(_: uPlot, splits: number[], __: number, ___: number, step: number): string[] {
  const format = step >= DAY_SECONDS / 2 ? day : step >= 60 ? minute : second;
  return splits.map((at) => format.format(at * 1000));
}

/** uPlot in a box, redrawn when the data, the width or the colour scheme change. */
export function TimeChart({ times, series, kind, isLogarithmic = false, format }: Props) {
  const box = useRef<HTMLDivElement>(null);
  const chart = useRef<uPlot | null>(null);
  const isDark = useIsDark();
  const data: uPlot.AlignedData = [times, ...series.map((one) => one.values)];

  useEffect(() => {
    const element = box.current!;
    const styles = getComputedStyle(element);
    const color = (name: string) => styles.getPropertyValue(name).trim();
    const axis: uPlot.Axis = {
      stroke: color("--muted"),
      grid: { stroke: color("--line"), width: 1 },
      ticks: { show: false },
      font: "11px system-ui",
    };
    const plot = new uPlot(
      {
        width: element.clientWidth,
        height: HEIGHT,
        padding: [8, 8, 0, 0],
        cursor: { y: false, drag: { x: false, y: false } },
        scales: { y: isLogarithmic ? LOGARITHMIC : LINEAR },
        axes: [
          { ...axis, grid: { show: false }, size: 32, space: 64, values: timeLabels },
          {
            ...axis,
            size: 56,
            values: (_, splits) => splits.map(format),
            ...(isLogarithmic && { splits: logarithmicSplits, filter: (_: uPlot, splits: number[]) => splits }),
          },
        ],
        series: [
          { label: "From", value: (_, at) => (at === null ? "" : new Date(at * 1000).toLocaleString("en-GB")) },
          ...series.map((one) => ({
            label: one.label,
            stroke: color(one.color),
            value: (_: uPlot, value: number | null) => (value === null ? "" : format(value)),
            ...(kind === "bars"
              ? {
                  fill: color(one.color),
                  width: 0,
                  points: { show: false },
                  paths: uPlot.paths.bars!({ align: 1, size: [0.8] }),
                }
              : { width: 2, points: { show: true, size: 4, fill: color(one.color) } }),
          })),
        ],
      },
      data,
      element,
    );
    chart.current = plot;
    const resizing = new ResizeObserver(() => plot.setSize({ width: element.clientWidth, height: HEIGHT }));
    resizing.observe(element);
    return () => {
      resizing.disconnect();
      plot.destroy();
    };
  }, [isDark]);

  useEffect(() => chart.current?.setData(data), [JSON.stringify(data)]);

  return <div ref={box} class="chart" />;
}

function useIsDark(): boolean {
  const [query] = useState(() => matchMedia("(prefers-color-scheme: dark)"));
  const [isDark, setDark] = useState(query.matches);
  useEffect(() => {
    const look = () => setDark(query.matches);
    query.addEventListener("change", look);
    return () => query.removeEventListener("change", look);
  }, []);
  return isDark;
}
