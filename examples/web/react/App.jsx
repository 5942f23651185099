import { useEffect, useRef, useState } from "react";

import { useEngine } from "./use-engine.js";

/** The built-in mini model, which vite.config.js serves. Put in the URLs of another one, or hf:owner/repo/file.gguf. */
const MODEL = { model: "house.gguf", mmproj: "house-mmproj.gguf" };

export function App() {
  const { engine, progress, error } = useEngine(MODEL);
  const [picture, setPicture] = useState(/** @type {File | null} */ (null));
  const [question, setQuestion] = useState("What is in this picture?");
  const [answer, setAnswer] = useState("");
  /** Of the answer that is being written. */
  const running = useRef(/** @type {AbortController | null} */ (null));
  useEffect(() => () => running.current?.abort(), []);

  /** @param {{ preventDefault(): void }} event */
  async function ask(event) {
    event.preventDefault();
    if (!engine || !picture) return;
    running.current?.abort();
    const controller = running.current = new AbortController();
    setAnswer("");
    try {
      const stream = await engine.chat.completions.create({
        messages: [{ role: "user", content: [{ type: "image", image: picture }, { type: "text", text: question }] }],
        temperature: 0,
        stream: true,
        signal: controller.signal,
      });
      for await (const chunk of stream) {
        if (!controller.signal.aborted) setAnswer((text) => text + (chunk.choices[0]?.delta.content ?? ""));
      }
    } catch (error) {
      if (!controller.signal.aborted) setAnswer(error instanceof Error ? error.message : String(error));
    }
  }

  if (error) return <p role="alert">{error.message}</p>;
  return (
    <form onSubmit={ask}>
      <p><label>A drawing <input type="file" accept="image/*" onChange={({ target }) => setPicture(target.files?.[0] ?? null)} /></label></p>
      <p><label>Question <input value={question} onChange={({ target }) => setQuestion(target.value)} /></label></p>
      <p><button disabled={!engine || !picture}>{engine ? "Ask" : `Loading the model: ${Math.round(100 * progress)}%`}</button></p>
      <output>{answer}</output>
    </form>
  );
}
