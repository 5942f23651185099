// Turns of the event loop.

const channel = new MessageChannel();
/** @type {(() => void)[]} */
const waiting = [];
channel.port1.onmessage = () => waiting.shift()?.();

/**
 * Resolves in a task of its own: messages that have come in are seen first. Timers would cost 4 ms each.
 * @returns {Promise<void>}
 */
export function nextTask() {
  return new Promise((resolve) => {
    waiting.push(resolve);
    channel.port2.postMessage(null);
  });
}
