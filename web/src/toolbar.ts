/**
 * The formatting toolbar, after the WAI-ARIA toolbar pattern: one tab stop, arrow keys inside, pressed states. It asks
 * the editor once per frame what is active, however many transactions there were.
 */
import type { ChainedCommands, Editor } from "@tiptap/core";

import { h, oncePerFrame, setAttr } from "./dom";
import { toolChain } from "./editor";
import { icon, type IconName } from "./icons";

interface Tool {
  readonly id: string;
  readonly label: string;
  /** An icon, or the letters to show. */
  readonly face: IconName | { readonly text: string };
  /** As pressed on this machine's keyboard, `Mod` being Ctrl or Command. */
  readonly keys?: string;
  readonly run: (chain: ChainedCommands) => ChainedCommands;
  readonly active?: (editor: Editor) => boolean;
}

type Group = readonly Tool[];

const heading = (level: 1 | 2 | 3): Tool => ({
  id: `heading-${level}`,
  label: `Heading ${level}`,
  face: { text: `H${level}` },
  keys: `Mod+Alt+${level}`,
  run: (chain) => chain.toggleHeading({ level }),
  active: (editor) => editor.isActive("heading", { level }),
});

const GROUPS: readonly Group[] = [
  [
    { id: "undo", label: "Undo", face: "undo", keys: "Mod+Z", run: (chain) => chain.undo() },
    { id: "redo", label: "Redo", face: "redo", keys: "Mod+Shift+Z", run: (chain) => chain.redo() },
  ],
  [heading(1), heading(2), heading(3)],
  [
    mark("bold", "Bold", "Mod+B", (chain) => chain.toggleBold()),
    mark("italic", "Italic", "Mod+I", (chain) => chain.toggleItalic()),
    mark("strike", "Strikethrough", "Mod+Shift+S", (chain) => chain.toggleStrike()),
    mark("code", "Inline code", "Mod+E", (chain) => chain.toggleCode()),
  ],
  [
    block("bullets", "Bulleted list", "bulletList", "Mod+Shift+8", (chain) => chain.toggleBulletList()),
    block("numbers", "Numbered list", "orderedList", "Mod+Shift+7", (chain) => chain.toggleOrderedList()),
    block("tasks", "Task list", "taskList", "Mod+Shift+9", (chain) => chain.toggleTaskList()),
  ],
  [
    block("quote", "Quote", "blockquote", "Mod+Shift+B", (chain) => chain.toggleBlockquote()),
    block("codeblock", "Code block", "codeBlock", "Mod+Alt+C", (chain) => chain.toggleCodeBlock()),
  ],
];

const IS_APPLE = /Mac|iPhone|iPad/.test(navigator.userAgent);

export interface Toolbar {
  readonly element: HTMLElement;
  attach(editor: Editor): void;
  detach(): void;
}

/** `onLink` opens the form for a link; it is the one tool that is not a command by itself. */
export function createToolbar(onLink: () => void): Toolbar {
  let editor: Editor | null = null;
  const buttons = new Map<Tool, HTMLButtonElement>();
  const link: Tool = {
    id: "link",
    label: "Link",
    face: "link",
    keys: "Mod+K",
    run: (chain) => chain,
    active: (at) => at.isActive("link"),
  };

  const press = (tool: Tool): void => {
    if (editor === null || buttons.get(tool)?.getAttribute("aria-disabled") === "true") return;
    if (tool === link) onLink();
    else if (tool.id === "undo") editor.commands.undo();
    else if (tool.id === "redo") editor.commands.redo();
    else tool.run(toolChain(editor)).run();
  };

  const groups = [...GROUPS, [link]].map((group) =>
    h(
      "div",
      { class: "tool-group", attrs: { role: "group" } },
      ...group.map((tool) => {
        const button = toolButton(tool, () => press(tool));
        buttons.set(tool, button);
        return button;
      }),
    ),
  );
  const element = h(
    "div",
    { class: "toolbar", attrs: { role: "toolbar", "aria-label": "Formatting", "aria-controls": "editor" } },
    ...groups,
  );
  const order = [...buttons.values()];
  rove(element, order, () => editor?.commands.focus());

  const refresh = oncePerFrame(() => {
    for (const [tool, button] of buttons) {
      const usable = editor !== null && editor.isEditable && isUsable(editor, tool);
      setAttr(button, "aria-disabled", String(!usable));
      if (tool.active !== undefined) setAttr(button, "aria-pressed", String(editor !== null && tool.active(editor)));
    }
  });
  refresh.schedule();

  return {
    element,
    attach(to) {
      editor = to;
      to.on("transaction", refresh.schedule);
      to.on("update", refresh.schedule);
      refresh.schedule();
    },
    detach() {
      editor = null;
      refresh.schedule();
    },
  };
}

function mark(id: IconName, label: string, keys: string, run: Tool["run"]): Tool {
  return { id, label, face: id, keys, run, active: (editor) => editor.isActive(id) };
}

function block(id: IconName, label: string, node: string, keys: string, run: Tool["run"]): Tool {
  return { id, label, face: id, keys, run, active: (editor) => editor.isActive(node) };
}

/** Cheap questions only: this runs for each tool in each frame somebody types. */
function isUsable(editor: Editor, tool: Tool): boolean {
  if (tool.id === "undo") return editor.can().undo();
  if (tool.id === "redo") return editor.can().redo();
  // Code blocks hold no marks.
  const marksOnly = ["bold", "italic", "strike", "code", "link"].includes(tool.id);
  return !(marksOnly && editor.isActive("codeBlock"));
}

function toolButton(tool: Tool, press: () => void): HTMLButtonElement {
  const keys = tool.keys ?? "";
  return h(
    "button",
    {
      class: "tool",
      attrs: {
        type: "button",
        "data-tool": tool.id,
        "aria-label": tool.label,
        "aria-keyshortcuts": keys.replace("Mod", IS_APPLE ? "Meta" : "Control") || null,
        title: keys === "" ? tool.label : `${tool.label} (${readable(keys)})`,
        tabindex: "-1",
      },
      on: {
        // The selection stays where it is, and on a phone the keyboard stays open.
        mousedown: (event) => event.preventDefault(),
        click: press,
      },
    },
    typeof tool.face === "string" ? icon(tool.face) : tool.face.text,
  );
}

function readable(keys: string): string {
  if (!IS_APPLE) return keys.replace("Mod", "Ctrl");
  const signs: Record<string, string> = { Mod: "⌘", Shift: "⇧", Alt: "⌥" };
  return keys
    .split("+")
    .map((key) => signs[key] ?? key)
    .join("");
}

/** Arrow keys, Home and End move; the last place is remembered as the tab stop; Escape goes back to the text. */
function rove(element: HTMLElement, order: readonly HTMLButtonElement[], leave: () => void): void {
  let stop = order[0];
  if (stop !== undefined) stop.tabIndex = 0;
  element.addEventListener("focusin", (event) => {
    const target = order.find((button) => button === event.target);
    if (target === undefined) return;
    if (stop !== undefined) stop.tabIndex = -1;
    target.tabIndex = 0;
    stop = target;
  });
  element.addEventListener("keydown", (event) => {
    const at = order.findIndex((button) => button === document.activeElement);
    const to = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: order.length - 1 }[event.key];
    if (event.key === "Escape") leave();
    if (to === undefined || at < 0) return;
    event.preventDefault();
    order[(to + order.length) % order.length]?.focus();
  });
}
