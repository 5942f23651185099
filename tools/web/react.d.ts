/** `<llava-chat>` in the JSX of React 18 and 19: importing `llava-web/react` defines the element, and tells TypeScript of it. */

import type { DetailedHTMLProps, HTMLAttributes } from "react";
import type { LlavaChat, LlavaChatProps } from "./llava-chat.js";

export * from "./llava-chat.js";

declare module "react" {
  namespace JSX {
    interface IntrinsicElements {
      "llava-chat": DetailedHTMLProps<HTMLAttributes<LlavaChat>, LlavaChat> & LlavaChatProps;
    }
  }
}
