/** Line icons on a 20-unit grid, drawn for this app. Inline, so that no address is loaded and they take the text's colour. */

const PATHS = {
  undo: "M7 4 3.5 7.5 7 11M4 7.5h7.5a4.25 4.25 0 0 1 0 8.5H8",
  redo: "M13 4l3.5 3.5L13 11M16 7.5H8.5a4.25 4.25 0 0 0 0 8.5H12",
  bold: "M6 4h4.8a3 3 0 0 1 0 6H6zM6 10h5.6a3 3 0 0 1 0 6H6z",
  italic: "M8.5 4H14M6 16h5.5M11.8 4 8.2 16",
  strike:
    "M3.5 10h13M13.8 6.4C13.4 4.9 12 4 10.1 4 8 4 6.4 5 6.4 6.9c0 1.5 1.1 2.4 2.8 3.1M6 13.4C6.4 15.1 8 16 10.1 16c2.2 0 3.8-1.1 3.8-3 0-1.3-.7-2.2-1.9-3",
  code: "M7 6 3 10l4 4M13 6l4 4-4 4",
  bullets: "M8 5h9M8 10h9M8 15h9M3.5 5h.01M3.5 10h.01M3.5 15h.01",
  numbers:
    "M8.5 5H17M8.5 10H17M8.5 15H17M3 4l1.2-.6V7.2M2.9 12.8c.2-.8.7-1.1 1.3-1.1.7 0 1.2.4 1.2 1 0 .9-1.3 1.5-2.5 3.4h2.7",
  tasks: "M3 5.2 4.3 6.5 6.8 3.8M3 13.2l1.3 1.3 2.5-2.7M9.5 5.5H17M9.5 13.5H17",
  quote: "M4 4v12M8 6h9M8 10h9M8 14h5.5",
  codeblock:
    "M5 3.5h10A1.5 1.5 0 0 1 16.5 5v10a1.5 1.5 0 0 1-1.5 1.5H5A1.5 1.5 0 0 1 3.5 15V5A1.5 1.5 0 0 1 5 3.5zM8.6 7.5 6.2 10l2.4 2.5M11.4 7.5l2.4 2.5-2.4 2.5",
  link: "M8.3 11.7a3.2 3.2 0 0 0 4.6 0l2.7-2.7a3.2 3.2 0 0 0-4.6-4.6l-.9.9M11.7 8.3a3.2 3.2 0 0 0-4.6 0L4.4 11a3.2 3.2 0 0 0 4.6 4.6l.9-.9",
  plus: "M10 4v12M4 10h12",
  arrow: "M4 10h12M11 5l5 5-5 5",
  check: "M4.5 10.5 8.2 14.2 15.5 6",
  clock: "M10 3.2a6.8 6.8 0 1 1 0 13.6 6.8 6.8 0 0 1 0-13.6zM10 6.2V10l2.6 1.6",
  server:
    "M4.5 4h11A1.5 1.5 0 0 1 17 5.5v2A1.5 1.5 0 0 1 15.5 9h-11A1.5 1.5 0 0 1 3 7.5v-2A1.5 1.5 0 0 1 4.5 4zM4.5 11h11a1.5 1.5 0 0 1 1.5 1.5v2a1.5 1.5 0 0 1-1.5 1.5h-11A1.5 1.5 0 0 1 3 14.5v-2A1.5 1.5 0 0 1 4.5 11zM6 6.5h.01M6 13.5h.01",
  alert: "M10 3.2 17.4 16H2.6zM10 8.2v3.6M10 13.9h.01",
  close: "M5 5l10 10M15 5 5 15",
} as const;

export type IconName = keyof typeof PATHS;

const SVG = "http://www.w3.org/2000/svg";

export function icon(name: IconName): SVGSVGElement {
  return drawn("icon", "0 0 20 20", [["path", { d: PATHS[name] }]]);
}

/** The mark: three carets in one line of text, each at its own height, like notes of a chord. */
export function logo(): SVGSVGElement {
  return drawn("logo", "0 0 24 24", [
    ["rect", { class: "logo-a", x: "3", y: "9", width: "4", height: "12", rx: "2" }],
    ["rect", { class: "logo-b", x: "10", y: "3", width: "4", height: "18", rx: "2" }],
    ["rect", { class: "logo-c", x: "17", y: "6", width: "4", height: "12", rx: "2" }],
  ]);
}

function drawn(name: string, viewBox: string, shapes: readonly [string, Record<string, string>][]): SVGSVGElement {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("class", name);
  svg.setAttribute("viewBox", viewBox);
  svg.setAttribute("aria-hidden", "true");
  for (const [tag, attrs] of shapes) {
    const shape = document.createElementNS(SVG, tag);
    for (const [key, value] of Object.entries(attrs)) shape.setAttribute(key, value);
    svg.append(shape);
  }
  return svg;
}
