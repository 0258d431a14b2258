/** Reads the address and shows its page. The editor is loaded only where one is needed. */
import "./styles/base.css";
import "./styles/start.css";

import { routeOf } from "./room";
import { showStart } from "./start-page";

const root = document.getElementById("app");
if (root === null) throw new Error("index.html has no #app");

const route = routeOf(location.pathname);
switch (route.page) {
  case "start":
    showStart(root, null);
    break;
  case "document": {
    const { showDocument } = await import("./document-page");
    showDocument(root, route.room);
    break;
  }
  case "unknown":
    showStart(root, "This address belongs to no document. Open one below, or start a new one.");
    break;
  default:
    route satisfies never;
}
