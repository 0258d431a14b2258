/** The start page: a new document, one by name, those opened here lately, and those the server knows. */
import { h } from "./dom";
import { icon, logo } from "./icons";
import { newRoomName, pathOf, roomFromInput, titleOf } from "./room";
import { fetchRooms, type Room } from "./rooms-api";
import { forgetRecent, loadRecent } from "./storage";

export function showStart(root: HTMLElement, problem: string | null): void {
  document.title = "Tutti";
  root.replaceChildren(
    h(
      "div",
      { class: "start-page" },
      h("header", { class: "start-bar" }, h("span", { class: "wordmark" }, logo(), "Tutti")),
      h(
        "main",
        { class: "start" },
        h("h1", {}, "Write together"),
        h(
          "p",
          { class: "lead" },
          "Everybody with the link writes in the same document, at the same time. Offline too.",
        ),
        problem === null ? null : h("p", { class: "problem", attrs: { role: "alert" } }, icon("alert"), problem),
        h("div", { class: "start-actions" }, newDocument(), openForm()),
        recentSection(),
        serverSection(),
      ),
    ),
  );
}

function newDocument(): HTMLElement {
  const go = (): void => location.assign(pathOf(newRoomName(crypto.getRandomValues(new Uint32Array(6)))));
  return h(
    "button",
    { class: "button primary large", attrs: { type: "button", id: "new" }, on: { click: go } },
    icon("plus"),
    "New document",
  );
}

function openForm(): HTMLElement {
  const input = h("input", {
    attrs: {
      id: "open-name",
      type: "text",
      autocomplete: "off",
      autocapitalize: "off",
      spellcheck: "false",
      placeholder: "Name or link",
      "aria-label": "Name or link of a document",
      "aria-describedby": "open-problem",
    },
    on: { input: () => problem.replaceChildren() },
  });
  const problem = h("p", { class: "field-problem", attrs: { id: "open-problem", role: "alert" } });
  const submit = (event: SubmitEvent): void => {
    event.preventDefault();
    const room = roomFromInput(input.value, location.origin);
    if (room !== null) location.assign(pathOf(room));
    else
      problem.textContent =
        input.value.trim() === "" ? "Give a name or paste a link." : "This is not a document of this site.";
  };
  return h(
    "form",
    { class: "open-form", on: { submit } },
    h("div", { class: "field-row" }, input, h("button", { class: "button", attrs: { type: "submit" } }, "Open")),
    problem,
  );
}

function recentSection(): HTMLElement | null {
  const recent = loadRecent();
  if (recent.length === 0) return null;
  const section = h(
    "section",
    { attrs: { "aria-labelledby": "recent-title" } },
    heading("recent-title", "clock", "Opened here"),
  );
  const list = h("ul", { class: "rooms" });
  for (const { room, openedAt } of recent) {
    const forget = (): void => {
      forgetRecent(room);
      item.remove();
      if (list.children.length === 0) section.remove();
    };
    const item = roomItem(
      room,
      [ago(openedAt)],
      h(
        "button",
        {
          class: "icon-button",
          attrs: { type: "button", "aria-label": `Forget ${titleOf(room)}`, title: "Remove from this list" },
          on: { click: forget },
        },
        icon("close"),
      ),
    );
    list.append(item);
  }
  section.append(list);
  return section;
}

function serverSection(): HTMLElement {
  const list = h("ul", { class: "rooms" });
  const foot = h("div", { class: "rooms-foot", attrs: { "aria-live": "polite" } });
  const section = h(
    "section",
    { attrs: { "aria-labelledby": "server-title" } },
    heading("server-title", "server", "On this server"),
    list,
    foot,
  );
  const load = async (after: string | null): Promise<void> => {
    foot.replaceChildren(h("p", { class: "muted" }, "Loading…"));
    try {
      const page = await fetchRooms(after);
      list.append(...page.rooms.map((room) => roomItem(room.name, facts(room), here(room))));
      const { next } = page;
      if (next !== null) foot.replaceChildren(action("Show more", () => load(next)));
      else if (list.children.length > 0) foot.replaceChildren();
      else foot.replaceChildren(h("p", { class: "empty" }, "No documents yet. The first one is yours."));
    } catch (error) {
      // Any failure means the same here: no list for now. What it was is for whoever looks into it.
      console.info("the list of documents could not be loaded:", error);
      foot.replaceChildren(
        h("p", { class: "muted" }, "The list could not be loaded."),
        action("Try again", () => load(after)),
      );
    }
  };
  void load(null);
  return section;
}

function heading(id: string, name: "clock" | "server", text: string): HTMLElement {
  return h("h2", { attrs: { id } }, icon(name), text);
}

function action(label: string, run: () => Promise<void>): HTMLElement {
  return h("button", { class: "button quiet", attrs: { type: "button" }, on: { click: () => void run() } }, label);
}

function roomItem(room: string, details: readonly string[], tail: HTMLElement | null): HTMLElement {
  return h(
    "li",
    { class: "room" },
    h(
      "a",
      { attrs: { href: pathOf(room), title: room } },
      h("span", { class: "room-title" }, titleOf(room)),
      h("span", { class: "room-details" }, details.join(" · ")),
    ),
    tail,
  );
}

function facts(room: Room): string[] {
  return [...(room.updatedAt === null ? [] : [ago(room.updatedAt)]), size(room.bytes)];
}

function here(room: Room): HTMLElement | null {
  return room.sessions === 0 ? null : h("span", { class: "here" }, `${room.sessions} here`);
}

function size(bytes: number): string {
  if (bytes < 1000) return `${bytes} B`;
  return bytes < 1e6 ? `${Math.round(bytes / 1000)} kB` : `${(bytes / 1e6).toFixed(1)} MB`;
}

const RELATIVE = new Intl.RelativeTimeFormat("en", { numeric: "auto" });
const STEPS: readonly [Intl.RelativeTimeFormatUnit, number][] = [
  ["day", 86_400],
  ["hour", 3_600],
  ["minute", 60],
];

function ago(time: number): string {
  const seconds = (time - Date.now()) / 1000;
  for (const [unit, length] of STEPS) {
    if (Math.abs(seconds) >= length) return RELATIVE.format(Math.round(seconds / length), unit);
  }
  return "just now";
}
