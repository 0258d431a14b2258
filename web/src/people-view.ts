/** Who is here, in the top bar: a few avatars and a count; behind it everybody's name and the form for one's own. */
import { h, setAttr, setText } from "./dom";
import { COLORS, cleanName, initials, inkOn, NAME_LENGTH_MAX, type Person } from "./person";
import type { Presence } from "./presence";

/** Besides these, everybody else is one "+n"; the style sheet decides which of the two widths is shown. */
const AVATARS_WIDE = 4;
const AVATARS_NARROW = 2;
/** A list longer than this is not read by anybody, and is rebuilt on each change. */
const LISTED_MAX = 100;

export function createPeopleView(presence: Presence, save: (person: Person) => void): HTMLElement[] {
  const stack = h("span", { class: "avatars", attrs: { "aria-hidden": "true" } });
  const button = h(
    "button",
    { class: "people-button", attrs: { type: "button", popovertarget: "people-popover", id: "people" } },
    stack,
  );
  const count = h("h2", { class: "popover-title" });
  const list = h("ul", { class: "people-list" });
  const popover = h(
    "div",
    { class: "popover", attrs: { popover: "auto", id: "people-popover", role: "dialog", "aria-label": "People here" } },
    personForm(presence, save),
    count,
    list,
  );

  let shown = "";
  const draw = (): void => {
    const everybody: readonly Person[] = [presence.person, ...presence.peers];
    // Carets move all the time; names and colours hardly ever do.
    const now = everybody.map((person) => `${person.color}${person.name}`).join("\n");
    if (now === shown) return;
    shown = now;
    stack.replaceChildren(
      ...everybody.slice(0, AVATARS_WIDE).map(avatar),
      ...more("wide", everybody.length - AVATARS_WIDE),
      ...more("narrow", everybody.length - AVATARS_NARROW),
    );
    const label = everybody.length === 1 ? "Only you are here" : `${everybody.length} people are here`;
    setText(count, label);
    const names = everybody.slice(1, 6).map((person) => person.name);
    const others = everybody.length > 6 ? `, and ${everybody.length - 6} more` : "";
    setAttr(button, "aria-label", `${label}: ${["you", ...names].join(", ")}${others}`);
    setAttr(button, "title", label);
    list.replaceChildren(
      ...everybody
        .slice(0, LISTED_MAX)
        .map((person, at) =>
          h("li", {}, avatar(person), h("span", {}, person.name), at === 0 ? h("small", {}, "you") : null),
        ),
    );
  };
  presence.subscribe(draw);
  draw();
  return [button, popover];
}

function more(width: "wide" | "narrow", rest: number): HTMLElement[] {
  return rest > 0 ? [h("span", { class: `avatar more ${width}` }, `+${rest}`)] : [];
}

function avatar(person: Person): HTMLElement {
  const element = h("span", { class: "avatar", attrs: { "aria-hidden": "true" } }, initials(person.name));
  element.style.setProperty("--peer", person.color);
  element.style.setProperty("--peer-ink", inkOn(person.color));
  return element;
}

function personForm(presence: Presence, save: (person: Person) => void): HTMLElement {
  const change = (person: Person): void => {
    presence.setPerson(person);
    save(person);
  };
  const input = h("input", {
    attrs: { id: "own-name", type: "text", maxlength: String(NAME_LENGTH_MAX), autocomplete: "nickname" },
    on: {
      input: () => {
        const name = cleanName(input.value);
        if (name !== "") change({ ...presence.person, name });
      },
      blur: () => {
        input.value = presence.person.name;
      },
    },
  });
  input.value = presence.person.name;
  const swatches = COLORS.map(({ name, value }) => {
    const radio = h("input", {
      attrs: {
        type: "radio",
        name: "own-color",
        value,
        "aria-label": name,
        title: name,
        checked: value === presence.person.color,
      },
      on: { change: () => change({ ...presence.person, color: value }) },
    });
    radio.style.setProperty("--peer", value);
    return radio;
  });
  return h(
    "form",
    { class: "person-form", on: { submit: (event) => event.preventDefault() } },
    h("label", { attrs: { for: "own-name" } }, "Your name"),
    input,
    h("fieldset", { class: "swatches" }, h("legend", {}, "Your colour"), ...swatches),
  );
}
