/**
 * The page of one document: makes its parts and wires them. Runs the session machine: events in from the socket, the
 * offline copy, the browser and the document; effects out to the socket and one timer.
 */
import type { Editor } from "@tiptap/core";
import { Awareness } from "y-protocols/awareness";
import * as Y from "yjs";

import "./styles/document.css";
import "./styles/popover.css";
import "./styles/prose.css";

import { h, oncePerFrame } from "./dom";
import { openEditor, type Foreign } from "./editor";
import { icon, logo } from "./icons";
import { createLinkForm } from "./link-form";
import { openCopy } from "./offline-copy";
import { createPeopleView } from "./people-view";
import { ROOT } from "./person";
import { Presence } from "./presence";
import { pathOf, titleOf } from "./room";
import { initialSession, mayLoseEdits, step, type Event, type Session } from "./session";
import { DocumentSocket } from "./socket";
import { createStatusView } from "./status-view";
import { mayEdit, mayShow, type Notice } from "./status";
import { loadPerson, rememberOpened, savePerson } from "./storage";
import { createToolbar } from "./toolbar";

export function showDocument(root: HTMLElement, room: string): void {
  document.title = `${titleOf(room)} · Tutti`;
  rememberOpened(room, Date.now());

  const doc = new Y.Doc();
  const fragment = doc.getXmlFragment(ROOT);
  const presence = new Presence(new Awareness(doc), loadPerson());

  let session: Session = initialSession(navigator.onLine);
  let retryTimer = 0;
  let editor: Editor | null = null;
  let foreign: Foreign = [];
  let copyOrigin: object | null = null;

  const dispatch = (event: Event): void => {
    const [next, effects] = step(session, event);
    session = next;
    for (const effect of effects) {
      switch (effect.do) {
        case "connect":
          clearTimeout(retryTimer);
          socket.connect();
          break;
        case "disconnect":
          socket.disconnect();
          break;
        case "retryAfter":
          clearTimeout(retryTimer);
          retryTimer = window.setTimeout(() => dispatch({ type: "retryDue" }), effect.delayMs);
          break;
        default:
          effect satisfies never;
      }
    }
    drawn.schedule();
  };

  // Before the socket exists: an edit is noted, then the provider's own listener sends it, then that is noted.
  doc.on("update", (_update: Uint8Array, origin: unknown) => {
    // What the offline copy brings was written earlier, but if it comes late it is sent like any edit.
    const fromCopy = origin === copyOrigin && session.state !== "open";
    if (origin !== socket.origin && !fromCopy) dispatch({ type: "edited" });
  });
  const socket = new DocumentSocket(room, doc, presence.awareness, (event) =>
    dispatch(event.type === "closed" ? { ...event, jitter: Math.random() } : event),
  );

  const status = createStatusView(() => dispatch({ type: "retryAsked" }));
  const linkForm = createLinkForm();
  const askLink = (): void => {
    if (editor?.isEditable) linkForm.open(editor);
  };
  const toolbar = createToolbar(askLink);
  const sheet = h("div", { class: "sheet", attrs: { id: "editor" } }, skeleton());
  const page = h(
    "div",
    { class: "document-page" },
    h("a", { class: "skip-link", attrs: { href: "#editor" }, on: { click: focusEditor } }, "Skip to the text"),
    h(
      "header",
      { class: "bar" },
      h(
        "a",
        { class: "home", attrs: { href: "/", "aria-label": "Tutti, all documents", title: "All documents" } },
        logo(),
      ),
      h("h1", { class: "title", attrs: { title: room } }, titleOf(room)),
      ...status.pill,
      ...createPeopleView(presence, savePerson),
      shareButton(location.origin + pathOf(room)),
    ),
    toolbar.element,
    status.banner,
    h("main", { class: "scroller" }, sheet),
    h("p", { class: "visually-hidden", attrs: { id: "editor-help" } }, "Press Alt and F10 for the formatting toolbar."),
    linkForm.element,
  );
  root.replaceChildren(page);
  fitToKeyboard(page);

  const drawn = oncePerFrame(draw);
  function draw(): void {
    status.show(session, foreign.length > 0 ? foreignNotice(foreign) : null);
    if (editor === null && foreign.length === 0 && mayShow(session, fragment.length > 0)) mount();
    const editable = mayEdit(session);
    if (editor !== null && editor.isEditable !== editable) editor.setEditable(editable);
  }

  function mount(): void {
    sheet.replaceChildren();
    const takeDown = (names: Foreign): void => {
      foreign = names;
      editor = null;
      toolbar.detach();
      sheet.replaceChildren();
      drawn.schedule();
    };
    const opened = openEditor({ element: sheet, doc, presence, editable: mayEdit(session), onForeign: takeDown });
    if ("commands" in opened) {
      editor = opened;
      toolbar.attach(opened);
      // On a phone this would throw the keyboard in the reader's face.
      if (matchMedia("(pointer: fine)").matches && document.activeElement === document.body)
        opened.commands.focus("start");
    } else {
      takeDown(opened);
    }
  }

  function focusEditor(event: MouseEvent): void {
    event.preventDefault();
    editor?.commands.focus();
  }

  page.addEventListener("keydown", (event) => {
    if (event.altKey && event.key === "F10") {
      event.preventDefault();
      toolbar.element.querySelector<HTMLElement>('[tabindex="0"]')?.focus();
    } else if (
      event.key.toLowerCase() === "k" &&
      (event.ctrlKey || event.metaKey) &&
      !event.shiftKey &&
      !event.altKey
    ) {
      event.preventDefault();
      askLink();
    }
  });
  window.addEventListener("offline", () => dispatch({ type: "browserWentOffline" }));
  window.addEventListener("online", () => dispatch({ type: "browserCameOnline" }));
  window.addEventListener("beforeunload", (event) => {
    if (mayLoseEdits(session)) event.preventDefault();
  });

  drawn.schedule();
  void openCopy(room, doc, (copy) => dispatch({ type: "copyRead", copy })).then((origin) => {
    copyOrigin = origin;
  });
}

function foreignNotice(foreign: Foreign): Notice {
  return {
    title: "This document is not opened here",
    text: `It holds content this editor doesn’t know (${foreign.slice(0, 5).join(", ")}) and would remove. Use the app that wrote it.`,
  };
}

/** Grey lines while the text comes; they appear only if that takes a moment (style sheet). */
function skeleton(): HTMLElement {
  const lines = Array.from({ length: 5 }, () => h("span", { class: "skeleton-line" }));
  return h("div", { class: "skeleton", attrs: { role: "img", "aria-label": "Loading the document" } }, ...lines);
}

function shareButton(address: string): HTMLElement {
  const label = h("span", {}, "Copy link");
  const spoken = h("span", { class: "visually-hidden", attrs: { role: "status" } });
  let timer = 0;
  const button = h(
    "button",
    {
      class: "button share",
      attrs: { type: "button", title: "Copy the link to this document", "aria-label": "Copy link" },
      on: {
        click: async () => {
          const copied = await copyText(address);
          label.textContent = copied ? "Copied" : "Not copied";
          spoken.textContent = copied ? "Link copied" : "The link could not be copied; take it from the address bar";
          button.classList.toggle("done", copied);
          clearTimeout(timer);
          timer = window.setTimeout(() => {
            label.textContent = "Copy link";
            spoken.textContent = "";
            button.classList.remove("done");
          }, 2_000);
        },
      },
    },
    icon("link"),
    icon("check"),
    label,
    spoken,
  );
  return button;
}

async function copyText(text: string): Promise<boolean> {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return false; // not a secure context, or not allowed; the button says so
  }
}

/**
 * iOS lays its keyboard over the page instead of shrinking it; the page then takes the visible part's height, so that
 * the toolbar at the bottom stays above the keyboard. Elsewhere the viewport's own height is right already.
 */
function fitToKeyboard(page: HTMLElement): void {
  const viewport = window.visualViewport;
  if (viewport === null) return;
  const fit = oncePerFrame(() => {
    const covered = viewport.scale === 1 && window.innerHeight - viewport.height > 1;
    page.style.setProperty("--page-height", covered ? `${viewport.height}px` : "100dvh");
    page.style.setProperty("--page-top", covered ? `${viewport.offsetTop}px` : "0px");
  });
  viewport.addEventListener("resize", fit.schedule);
  viewport.addEventListener("scroll", fit.schedule);
}
