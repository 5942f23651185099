/** `<llava-chat>` in Solid's JSX: importing `llava-web/solid` defines the element, and tells TypeScript of it. */

import type { JSX as SolidJSX } from "solid-js";
import type { LlavaChat, LlavaChatAttributes, LlavaChatEventMap, LlavaChatProperties } from "./llava-chat.js";

export * from "./llava-chat.js";

declare module "solid-js" {
  namespace JSX {
    interface IntrinsicElements {
      "llava-chat": SolidJSX.HTMLAttributes<LlavaChat> & LlavaChatAttributes
        & { [Name in keyof LlavaChatProperties as `prop:${Name}`]?: LlavaChatProperties[Name] }
        & { [Name in keyof LlavaChatEventMap as `on:${Name}`]?: (event: LlavaChatEventMap[Name]) => void };
    }
  }
}
