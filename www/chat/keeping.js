// The conversation of a <llava-chat> beyond the page: saved after each answer where the person wishes that, and there again after a reload.

import { deleteConversations, deleteDiscarded, deleteEverything, getPictures, getSession, listConversations, markDiscarded, mayExist, newId,
  pictureId, putConversation, putSession } from "./conversation-store.js";
import { openPicture } from "./talk/pictures.js";

/** @typedef {import("./element.js").Chat} Chat */
/** @typedef {import("./conversation-store.js").StoredConversation} StoredConversation */
/** @typedef {import("./conversation-store.js").StoredTurn} StoredTurn */
/** @typedef {import("./talk/pictures.js").Picture} Picture */
/** A conversation that is this element's alone. @typedef {{ id: string, release: () => void }} Claim */
/** A saved conversation, ready to be shown. @typedef {{ turns: (StoredTurn & { opened: Picture[] })[], needsVision: boolean }} Kept */

/**
 * Larger sessions are not saved: each answer would write as much to the disk. A conversation of 1500 tokens with a model of some hundred
 * million parameters is within it; with LLaVA-1.5-7B no picture is, and where that runs, a GPU reads the conversation again in a second.
 */
const MAX_SESSION_BYTES = 64 << 20;

/** Told to the site's other tabs when everything is deleted. */
const FORGOTTEN = "forgotten";
/** The conversations that elements of this page hold, where there are no locks. @type {Set<string>} */
const held = new Set();
/** In this tab's own memory: which conversation each of its elements had. */
const TAB_KEY = "llava-web conversations";

export class Keeping {
  #chat;
  /** @type {Claim | null} */
  #current = null;
  /** Ends when all that was to be written is. @type {Promise<unknown>} */
  #writing = Promise.resolve();
  /** @type {Promise<StoredConversation | null> | null} */
  #finding = null;
  /** @type {BroadcastChannel | null} */
  #channel = null;
  /** Ends what is listened to while the element is in the document. */
  #listening = new AbortController();

  /** @param {Chat} chat */
  constructor(chat) {
    this.#chat = chat;
  }

  get #isOn() {
    return this.#chat.settings.keep === true;
  }

  /** The element is in the document. */
  async connect() {
    this.#listen();
    if (!this.#isOn) return this.#tidy();
    await this.#claimAgain();
  }

  async #claimAgain() {
    const before = this.#current;
    if (!before) return;
    // Put back: the conversation is still here. Where another element went on with it meanwhile, this one has a copy.
    const claim = await claimOf(before.id);
    if (this.#current === before) this.#current = claim;
    else claim?.release();
  }

  #listen() {
    const { signal } = this.#listening = new AbortController();
    // So that the page that comes next, which may be this one loaded anew, need not wait until this one is cleared away.
    addEventListener("pagehide", () => this.#current?.release(), { signal });
    addEventListener("pageshow", ({ persisted }) => persisted && this.#claimAgain(), { signal });
    if (typeof BroadcastChannel === "undefined") return;
    this.#channel ??= new BroadcastChannel("llava-web");
    this.#channel.onmessage = ({ data }) => {
      if (data === FORGOTTEN) this.#chat.settingsChangedElsewhere();
    };
  }

  /** The element is not in the document: another one may go on with the conversation. */
  disconnect() {
    this.#listening.abort();
    this.#channel?.close();
    this.#channel = null;
    this.#current?.release();
  }

  /** The model that the saved conversation was with. */
  async model() {
    return (await this.#find())?.model ?? null;
  }

  /**
   * The saved conversation with its pictures decoded, so that it can be shown at once.
   * @param {boolean} hasVision  whether the model sees pictures
   * @returns {Promise<Kept | null>}
   */
  async open(hasVision) {
    const stored = await this.#find();
    if (!stored) return null;
    const needsVision = !hasVision && stored.pictures.length > 0;
    if (needsVision) {
      this.#current?.release();
      this.#current = null;
      return { turns: [], needsVision };
    }
    try {
      const turns = [];
      for (const turn of stored.turns) {
        const files = await getPictures(turn.pictures.map(({ id }) => id));
        /** @type {Picture[]} */
        const opened = [];
        for (const [i, file] of files.entries()) opened.push(await openPicture(file, turn.pictures[i]?.name ?? ""));
        turns.push({ ...turn, opened });
      }
      return { turns, needsVision };
    } catch (error) {
      console.error(error);
      this.#chat.view.alert.show(this.#chat.words.say("saved.notOpened"), { notice: true });
      // What is asked now must not be written over it.
      this.#current?.release();
      this.#current = null;
      return null;
    }
  }

  /**
   * Shows it, to go on with.
   * @param {Kept} kept
   * @param {import("../llava-web.js").Engine} engine
   */
  show({ turns }, engine) {
    const { view, answering, words } = this.#chat;
    for (const { question, opened, answer, finish, usage, tokens, failure, cost = 0, leftOut } of turns) {
      const turn = answering.addTurn(question, opened);
      if (failure) turn.begin();
      if (finish) turn.show({ text: answer, finish, usage, tokens: tokens ?? [] });
      if (failure) turn.fail(failure);
      turn.cost = cost;
      if (leftOut) turn.leaveOut();
    }
    view.showStatus();
    view.render();
    view.conversation.scrollAlong();
    view.announce(words.say("saved.isBack"));
    const id = this.#current?.id;
    // It only saves time: that of another model, for one, is refused.
    if (id) getSession(id).then((session) => session && engine.restoreSession(session)).catch(() => {});
  }

  /** Stores the conversation, where the person has asked for that. */
  save() {
    const { view, state } = this.#chat;
    const { turns } = view.conversation;
    const { engine } = state;
    if (!this.#isOn || turns.length === 0 || !engine) return;
    this.#current ??= claimNew();
    const { id } = this.#current;
    this.#remember(id);
    const { model, mmproj } = state.last?.plan ?? {};
    const isAddress = typeof model === "string" && (mmproj === undefined || mmproj === null || typeof mmproj === "string");
    const storedModel = { name: engine.info.name, sources: isAddress ? { model, mmproj: mmproj ?? undefined } : null };
    const now = turns.map((turn) => ({
      question: turn.question, shown: turn.pictures, answer: turn.text, finish: turn.finish, usage: turn.usage, tokens: turn.tokens, cost: turn.cost,
      ...(turn.failure ? { failure: turn.failure } : {}), ...(turn.isLeftOut ? { leftOut: true } : {}),
    }));
    this.#write("saved.failed", async () => {
      /** @type {Map<string, Blob>} */
      const files = new Map();
      /** @type {StoredTurn[]} */
      const stored = [];
      for (const { shown, ...turn } of now) {
        const pictures = [];
        for (const { file, name } of shown) {
          const picture = await pictureId(file);
          files.set(picture, file);
          pictures.push({ id: picture, name });
        }
        stored.push({ ...turn, pictures });
      }
      if (!this.#isOn) return;
      await putConversation({ id, turns: stored, pictures: [...files.keys()], model: storedModel, at: Date.now() }, files);
      // It only saves time, so it may fail.
      await this.#saveSession(id, engine).catch(() => {});
    });
  }

  /**
   * Stores what the engine has computed of the conversation, where it is not too much.
   * @param {string} id
   * @param {import("../llava-web.js").Engine} engine
   */
  async #saveSession(id, engine) {
    const { state, view } = this.#chat;
    const usage = view.conversation.turns.at(-1)?.usage;
    if (!usage || engine !== state.engine) return;
    const { contextSize, bytes: { kvCache } } = engine.info;
    const isSmall = usage.total_tokens * kvCache / contextSize <= MAX_SESSION_BYTES;
    const session = isSmall ? await engine.saveSession() : null;
    // Meanwhile it may have been forgotten.
    if (this.#isOn && this.#current?.id === id) await putSession(id, session);
  }

  /**
   * From here on it is another conversation.
   * @param {{ discard?: boolean }} [options]  `discard`: the one before is to be deleted, unless it is put back
   * @returns {{ putBack: () => void, forget: () => void }}
   */
  begin({ discard = false } = {}) {
    const before = this.#current;
    this.#current = null;
    this.#remember(null);
    if (before && discard && this.#isOn) this.#write("saved.notDeleted", () => markDiscarded(before.id));
    return {
      putBack: () => {
        const since = this.#current;
        this.#current = before;
        if (since) this.#delete(since);
        this.save();
      },
      forget: () => {
        if (before) this.#delete(before);
      },
    };
  }

  /** @param {Claim} claim */
  #delete({ id, release }) {
    if (this.#isOn) this.#write("saved.notDeleted", () => deleteConversations([id]));
    this.#writing = this.#writing.then(release);
  }

  /** The person wishes that conversations are saved from now on, or that none is saved any more. @param {boolean} isOn */
  async changed(isOn) {
    if (isOn) return this.save();
    this.#letGo();
    const isDeleted = await this.#write("saved.notDeleted", deleteEverything);
    if (isDeleted) this.#chat.view.announce(this.#chat.words.say("saved.allDeleted"));
    this.#channel?.postMessage(FORGOTTEN);
  }

  /** In another tab everything was deleted: nothing of this one may be written after that. */
  forgottenElsewhere() {
    const id = this.#current?.id;
    this.#letGo();
    // What was on its way when the other tab deleted everything.
    if (id) this.#write("saved.notDeleted", () => deleteConversations([id]));
  }

  /** Deletes what may be left of a time when conversations were saved, for instance at another path of this site. */
  #tidy() {
    this.#write(null, async () => {
      if (await mayExist()) await deleteEverything();
    });
  }

  #letGo() {
    this.#current?.release();
    this.#current = null;
    this.#remember(null);
  }

  /**
   * One after another, in the order in which they were wished.
   * @param {import("../strings/language.js").Key | null} fault  what to say where it fails
   * @param {() => Promise<unknown>} task
   * @returns {Promise<boolean>}
   */
  #write(fault, task) {
    const done = this.#writing.then(task).then(() => true, (error) => {
      console.warn(error);
      if (fault) this.#chat.view.alert.show(this.#chat.words.say(fault), { notice: true });
      return false;
    });
    this.#writing = done;
    return done;
  }

  /**
   * The conversation to go on with: the one that this element had before the page was loaded anew, else the newest that nobody has open.
   * From then on it is this element's.
   * @returns {Promise<StoredConversation | null>}
   */
  #find() {
    // One search at a time: a second one would find taken what the first is about to take.
    this.#finding ??= this.#search().finally(() => (this.#finding = null));
    return this.#finding;
  }

  async #search() {
    if (!this.#isOn) return null;
    try {
      await this.#writing;
      await deleteDiscarded();
      const all = await listConversations();
      const current = this.#current && all.find(({ id }) => id === this.#current?.id);
      if (current) return current;
      const own = this.#remembered[this.#place];
      for (const conversation of all.sort((a, b) => Number(b.id === own) - Number(a.id === own))) {
        const claim = await claimOf(conversation.id, { wait: conversation.id === own });
        if (!claim) continue;
        this.#current = claim;
        this.#remember(claim.id);
        return conversation;
      }
    } catch (error) {
      console.warn(error);
      this.#chat.view.alert.show(this.#chat.words.say("saved.notOpened"), { notice: true });
    }
    return null;
  }

  /** Which of the page's elements this is. */
  get #place() {
    const { host } = this.#chat;
    return host.id || String([...document.querySelectorAll(host.localName)].indexOf(host));
  }

  /** @returns {Record<string, string>} */
  get #remembered() {
    try {
      return JSON.parse(sessionStorage.getItem(TAB_KEY) ?? "{}");
    } catch {
      return {};
    }
  }

  /** @param {string | null} id */
  #remember(id) {
    try {
      const { [this.#place]: _, ...others } = this.#remembered;
      const all = id ? { ...others, [this.#place]: id } : others;
      if (Object.keys(all).length > 0) sessionStorage.setItem(TAB_KEY, JSON.stringify(all));
      else sessionStorage.removeItem(TAB_KEY);
    } catch {
      // Then the newest is taken.
    }
  }
}

/** @returns {Claim} */
function claimNew() {
  const id = newId();
  // Nobody else knows it yet: it is this element's before anybody could ask for it.
  const claim = claimOf(id);
  return { id, release: () => claim.then((mine) => mine?.release()) };
}

/**
 * A conversation for one element alone, among all tabs; null where somebody has it.
 * @param {string} id
 * @param {{ wait?: boolean }} [options]  `wait`: for a moment, until the page that was here before is gone
 * @returns {Promise<Claim | null>}
 */
async function claimOf(id, { wait = false } = {}) {
  if (held.has(id)) return null;
  held.add(id);
  const letGo = () => held.delete(id);
  if (!navigator.locks) return { id, release: letGo };
  const free = await new Promise((/** @type {(free: (() => void) | null) => void} */ resolve) => {
    const options = wait ? { signal: AbortSignal.timeout(5000) } : { ifAvailable: true };
    navigator.locks.request(`llava-web conversation ${id}`, options, (lock) => {
      if (!lock) return resolve(null);
      return new Promise((/** @type {(value?: undefined) => void} */ done) => resolve(() => done()));
    }).catch(() => resolve(null));
  });
  if (!free) {
    letGo();
    return null;
  }
  return { id, release: () => {
    letGo();
    free();
  } };
}
