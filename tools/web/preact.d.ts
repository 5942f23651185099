/** `<llava-chat>` in Preact's JSX: importing `llava-web/preact` defines the element, and tells TypeScript of it. */

import type { HTMLAttributes } from "preact";
import type { LlavaChat, LlavaChatProps } from "./llava-chat.js";

export * from "./llava-chat.js";

declare module "preact" {
  namespace JSX {
    interface IntrinsicElements {
      "llava-chat": HTMLAttributes<LlavaChat> & LlavaChatProps;
    }
  }
}
