/** The status pill, its explanation, the banner and what a screen reader is told. */
import { h, setAttr, setText } from "./dom";
import { icon } from "./icons";
import { hasUnsaved, type Session } from "./session";
import { notice, statusOf, type Notice, type Status } from "./status";

/** "Saving…" stays at least this long, so that it doesn't flicker at each key. Saved is thus shown late, never early. */
const SAVING_SHOWN_MS = 400;

export interface StatusView {
  readonly pill: HTMLElement[];
  readonly banner: HTMLElement;
  /** Shows `session`; `overriding`, if given, stands in for the banner its state would have. */
  show(session: Session, overriding: Notice | null): void;
}

export function createStatusView(retry: () => void): StatusView {
  const label = h("span", { class: "pill-label" });
  const more = h("span", { class: "pill-more" });
  const button = h(
    "button",
    { class: "pill", attrs: { type: "button", id: "status", popovertarget: "status-popover" } },
    h("span", { class: "pill-dot", attrs: { "aria-hidden": "true" } }),
    label,
    more,
  );
  const detail = h("p", {});
  const popover = h(
    "div",
    {
      class: "popover status-popover",
      attrs: { popover: "auto", id: "status-popover", role: "dialog", "aria-label": "Status" },
    },
    detail,
  );
  const spoken = h("span", {
    class: "visually-hidden",
    attrs: { role: "status", "aria-live": "polite", id: "status-spoken" },
  });

  const title = h("strong", {});
  const text = h("span", {});
  const again = h("button", { class: "button", attrs: { type: "button" }, on: { click: retry } }, "Try again");
  const banner = h(
    "div",
    { class: "banner", attrs: { role: "alert", hidden: true } },
    icon("alert"),
    h("p", {}, title, " ", text),
    again,
  );

  let savingSince: number | null = null;
  let timer = 0;
  let lastSpoken = "";

  const paint = (status: Status): void => {
    setAttr(button, "data-status", status.kind);
    setText(label, status.label);
    setText(more, status.more);
    setAttr(button, "aria-label", `Status: ${status.label.replace("…", "")}${status.more}`);
    setAttr(button, "title", status.detail);
    setText(detail, status.detail);
    // Speaking each save would talk over the person writing; what changes is whether the server is there.
    const speak = status.kind === "saving" || status.kind === "syncing" ? lastSpoken : `${status.label}${status.more}`;
    if (speak !== lastSpoken) setText(spoken, speak);
    lastSpoken = speak;
  };

  return {
    pill: [button, popover, spoken],
    banner,
    show(session, overriding) {
      const status = statusOf(session);
      clearTimeout(timer);
      const now = performance.now();
      if (status.kind === "saving") savingSince ??= now;
      const shownFor = savingSince === null ? SAVING_SHOWN_MS : now - savingSince;
      if (status.kind === "saved" && shownFor < SAVING_SHOWN_MS) {
        timer = window.setTimeout(() => {
          savingSince = null;
          paint(status);
        }, SAVING_SHOWN_MS - shownFor);
      } else {
        if (status.kind !== "saving") savingSince = null;
        paint(status);
      }

      const told = overriding ?? notice(session);
      setText(title, told === null ? "" : `${told.title}.`);
      setText(text, told?.text ?? "");
      again.hidden = overriding !== null;
      banner.hidden = told === null;
      banner.classList.toggle("grave", overriding !== null || session.state === "refused" || hasUnsaved(session));
    },
  };
}
