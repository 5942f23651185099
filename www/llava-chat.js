// The custom element: `<script type="module" src="llava-chat.js"></script>`, then `<llava-chat model="…" mmproj="…"></llava-chat>`.

export { LlavaChat } from "./chat/element.js";
