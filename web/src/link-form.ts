/** The small form for a link's address: a popover under the toolbar, filled from the link at the caret. */
import type { Editor } from "@tiptap/core";

import { h } from "./dom";
import { setLink } from "./editor";

export interface LinkForm {
  readonly element: HTMLElement;
  /** Shows the form for `editor`'s selection; without one, the word typed becomes the link's text. */
  open(editor: Editor): void;
}

export function createLinkForm(): LinkForm {
  let editor: Editor | null = null;
  const input = h("input", {
    attrs: {
      id: "link-address",
      type: "text",
      inputmode: "url",
      autocomplete: "off",
      spellcheck: "false",
      placeholder: "https://",
    },
  });
  const problem = h("p", { class: "field-problem", attrs: { id: "link-problem", role: "alert" } });
  input.setAttribute("aria-describedby", "link-problem");

  const close = (): void => {
    element.hidePopover();
    editor?.commands.focus();
  };
  const remove = h(
    "button",
    {
      class: "button quiet",
      attrs: { type: "button" },
      on: {
        click: () => {
          if (editor !== null) setLink(editor, "");
          close();
        },
      },
    },
    "Remove",
  );
  const form = h(
    "form",
    {
      class: "link-form",
      on: {
        submit: (event) => {
          event.preventDefault();
          if (editor === null) return;
          if (setLink(editor, input.value)) close();
          else problem.textContent = "This is not an address a link can have.";
        },
        input: () => problem.replaceChildren(),
      },
    },
    h("label", { attrs: { for: "link-address" } }, "Link to"),
    input,
    h("button", { class: "button primary", attrs: { type: "submit" } }, "Apply"),
    remove,
    problem,
  );
  const element = h(
    "div",
    {
      class: "popover link-popover",
      attrs: { popover: "auto", id: "link-popover", "aria-label": "Link", role: "dialog" },
      on: {
        keydown: (event) => {
          if (event.key !== "Escape") return;
          event.preventDefault();
          close();
        },
      },
    },
    form,
  );

  return {
    element,
    open(at) {
      editor = at;
      const href: unknown = at.getAttributes("link")["href"];
      input.value = typeof href === "string" ? href : "";
      remove.hidden = input.value === "";
      problem.replaceChildren();
      element.showPopover();
      input.select();
    },
  };
}
