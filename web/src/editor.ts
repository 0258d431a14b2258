/**
 * The one file that owns the editor's DOM: Tiptap over the shared document. What the editor can hold is `EXTENSIONS`;
 * undo is the Yjs UndoManager's, so that it takes back one's own changes only.
 */
import { Editor, getSchema, type ChainedCommands, type Extensions } from "@tiptap/core";
import { Collaboration } from "@tiptap/extension-collaboration";
import { TaskItem, TaskList } from "@tiptap/extension-list";
import { Placeholder } from "@tiptap/extensions";
import { AllSelection, TextSelection } from "@tiptap/pm/state";
import StarterKit from "@tiptap/starter-kit";
import type * as Y from "yjs";

import { carets } from "./carets";
import { unknownAdditions, unknownContent } from "./content-guard";
import { ROOT } from "./person";
import type { Presence } from "./presence";

const CONTENT: Extensions = [
  StarterKit.configure({
    undoRedo: false,
    // It appends a paragraph to whatever changes arrive; with several people in the room each would append one.
    trailingNode: false,
    heading: { levels: [1, 2, 3] },
    dropcursor: { class: "drop-cursor", color: false, width: 2 },
    link: { openOnClick: false, defaultProtocol: "https", markdownLinks: true },
  }),
  TaskList,
  TaskItem.configure({
    nested: true,
    a11y: { checkboxLabel: (node, checked) => `${checked ? "Done" : "To do"}: ${node.textContent || "empty"}` },
  }),
];

const SCHEMA = getSchema(CONTENT);

/** What the editor could not show, by name; see `content-guard.ts`. */
export type Foreign = readonly string[];

export interface EditorOptions {
  readonly element: HTMLElement;
  readonly doc: Y.Doc;
  readonly presence: Presence;
  readonly editable: boolean;
  /** The document turned out to hold what this editor would destroy: it has taken itself down. */
  readonly onForeign: (foreign: Foreign) => void;
}

/** Mounts the editor, or names the content that forbids it. */
export function openEditor(options: EditorOptions): Editor | Foreign {
  const fragment = options.doc.getXmlFragment(ROOT);
  const foreign = unknownContent(fragment, SCHEMA);
  if (foreign.length > 0) return foreign;

  // Registered before the binding's own observer, so that destroying the editor here comes in time.
  const guard = (events: Y.YEvent<Y.AbstractType<unknown>>[], transaction: Y.Transaction): void => {
    if (transaction.local) return;
    const added = unknownAdditions(events, SCHEMA);
    if (added.length === 0) return;
    editor.destroy();
    options.onForeign(added);
  };
  fragment.observeDeep(guard as Parameters<typeof fragment.observeDeep>[0]);

  const editor = new Editor({
    element: options.element,
    editable: options.editable,
    // The style sheet has these rules; injected ones would need an exception in the content security policy.
    injectCSS: false,
    extensions: [
      ...CONTENT,
      Placeholder.configure({ placeholder: "Write something. Everybody with the link can join in." }),
      Collaboration.configure({ document: options.doc, field: ROOT }),
      carets(options.presence),
    ],
    editorProps: {
      attributes: {
        class: "prose",
        role: "textbox",
        "aria-multiline": "true",
        "aria-label": "Document text",
        "aria-describedby": "editor-help",
        spellcheck: "true",
      },
      // A sticky bar must not cover the line somebody jumps to.
      scrollMargin: 48,
      scrollThreshold: 48,
      handleClick: (_view, _at, event) => openLink(event),
    },
  });
  editor.on("destroy", () => fragment.unobserveDeep(guard as Parameters<typeof fragment.unobserveDeep>[0]));
  return editor;
}

/**
 * A chain for a toolbar's command: back in the text, and with "everything" as a selection of text. ProseMirror's own
 * all-selection starts outside the outermost block, where a quote can be put on but not taken off.
 */
export function toolChain(editor: Editor): ChainedCommands {
  return editor
    .chain()
    .focus(undefined, { scrollIntoView: false })
    .command(({ tr }) => {
      if (tr.selection instanceof AllSelection) {
        tr.setSelection(TextSelection.between(tr.doc.resolve(0), tr.doc.resolve(tr.doc.content.size)));
      }
      return true;
    });
}

/**
 * Links what is selected, or the link at the caret, to what was typed; with neither, inserts the address itself. An
 * empty one takes the link away, one without a scheme gets https. False, and nothing done, if it is no address.
 */
export function setLink(editor: Editor, typed: string): boolean {
  const address = typed.trim();
  if (address === "") return toolChain(editor).extendMarkRange("link").unsetLink().run();
  const href = /^([a-z][a-z0-9+.-]*:|[/#])/i.test(address) ? address : `https://${address}`;
  // Asked before the chain runs, for a chain does its other steps even when one refuses. `can` knows javascript: and co.
  if (!URL.canParse(href, location.href) || !editor.can().setLink({ href })) return false;
  if (editor.state.selection.empty && !editor.isActive("link")) {
    const linked = { type: "text", text: address, marks: [{ type: "link", attrs: { href } }] };
    return toolChain(editor).insertContent(linked).run();
  }
  return toolChain(editor).extendMarkRange("link").setLink({ href }).run();
}

/** A plain click puts the caret into a link; with Ctrl or Command it is followed, as in other editors. */
function openLink(event: MouseEvent): boolean {
  if (!(event.ctrlKey || event.metaKey) || !(event.target instanceof Element)) return false;
  const href = event.target.closest("a")?.getAttribute("href");
  if (!href) return false;
  window.open(href, "_blank", "noopener,noreferrer");
  return true;
}
