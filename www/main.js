// The page: one element, and what it needs from this page's address.

import "./llava-chat.js";

// A link to this page may name the model: …/?model=hf:…&mmproj=hf:…  It is filled in, not loaded.
const chat = /** @type {import("./llava-chat.js").LlavaChat} */ (document.querySelector("llava-chat"));
const query = new URLSearchParams(location.search);
for (const name of /** @type {const} */ (["model", "mmproj", "prompt"])) {
  const value = query.get(name);
  if (value) chat[name] = value;
}
