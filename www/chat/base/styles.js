// The element's look, as a constructed style sheet: a page's security policy need not allow inline styles for it.
//
// Grey without any hue around the picture, as in a room where pictures are looked at; one colour, for what can be done next.
// A page changes it through the --llava-… properties and ::part().

/** @type {CSSStyleSheet | null} */
let sheet = null;

/** Made with the first element: on a server, where this module may be imported too, there are no style sheets. */
export function styles() {
  if (!sheet) {
    sheet = new CSSStyleSheet();
    sheet.replaceSync(CSS);
  }
  return sheet;
}

const CSS = /* css */ `
:host {
  --background: var(--llava-background, light-dark(#f4f4f4, #141414));
  --surface: var(--llava-surface, light-dark(#ffffff, #1d1d1d));
  --text: var(--llava-text, light-dark(#171717, #ececec));
  --muted: var(--llava-muted, light-dark(#5d5d5d, #a3a3a3));
  --line: var(--llava-line, light-dark(#dddddd, #343434));
  --field-line: light-dark(#8c8c8c, #6e6e6e);
  --accent: var(--llava-accent, light-dark(#0a6a5a, #5fcbb1));
  --on-accent: var(--llava-on-accent, light-dark(#ffffff, #04211b));
  --danger: var(--llava-danger, light-dark(#a3261d, #ff9c92));
  --danger-surface: light-dark(#fdf0ee, #2c1a18);
  --radius: var(--llava-radius, 0.75rem);
  --measure: 42rem;
  --target: 2.75rem;

  display: block;
  block-size: min(46rem, 100dvh);
  container: chat / inline-size;
  background: var(--background);
  color: var(--text);
  font: 1rem / 1.5 var(--llava-font, system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", "Liberation Sans", sans-serif);
  color-scheme: light dark;
  -webkit-text-size-adjust: 100%;
}

/* Browsers without light-dark() get the light colours. */
@supports not (color: light-dark(red, red)) {
  :host {
    --background: var(--llava-background, #f4f4f4); --surface: var(--llava-surface, #ffffff); --text: var(--llava-text, #171717);
    --muted: var(--llava-muted, #5d5d5d); --line: var(--llava-line, #dddddd); --field-line: #8c8c8c;
    --accent: var(--llava-accent, #0a6a5a); --on-accent: var(--llava-on-accent, #ffffff);
    --danger: var(--llava-danger, #a3261d); --danger-surface: #fdf0ee;
    color-scheme: light;
  }
}

:host([hidden]), [hidden] { display: none !important; }
*, *::before, *::after { box-sizing: border-box; }
h2, h3, p, figure { margin: 0; }
button, input, textarea { font: inherit; color: inherit; letter-spacing: inherit; }

.visually-hidden {
  position: absolute; inline-size: 1px; block-size: 1px; margin: -1px; overflow: hidden; clip-path: inset(50%); white-space: nowrap;
}

:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; }

.icon {
  inline-size: 1.25rem; block-size: 1.25rem; flex: none; fill: none; stroke: currentColor; stroke-width: 1.75;
  stroke-linecap: round; stroke-linejoin: round;
}

/* Buttons: what comes next is filled, what else can be done has a line, what may be done is only words. */
.button {
  display: inline-flex; align-items: center; justify-content: center; gap: 0.5rem;
  min-block-size: var(--target); min-inline-size: var(--target); padding-inline: 1rem;
  border: 1px solid transparent; border-radius: calc(var(--radius) - 0.125rem);
  background: none; font-weight: 550; white-space: nowrap; cursor: pointer;
  transition: background-color 120ms, border-color 120ms, opacity 120ms;
}
.button.primary { background: var(--accent); color: var(--on-accent); }
.button.primary:hover { background: color-mix(in oklab, var(--accent), var(--text) 14%); }
.button.primary:disabled { background: color-mix(in oklab, var(--text) 9%, transparent); color: var(--muted); cursor: default; }
.button.plain { border-color: var(--line); background: var(--surface); }
.button.plain:hover { border-color: var(--field-line); }
.button.quiet { color: var(--muted); font-weight: 450; padding-inline: 0.625rem; }
.button.quiet:hover { color: var(--text); background: color-mix(in oklab, var(--text) 7%, transparent); }
.button.danger { border-color: color-mix(in oklab, var(--danger) 45%, transparent); color: var(--danger); }
.button.danger:hover { background: color-mix(in oklab, var(--danger) 9%, transparent); }
.button.round { padding: 0; border-radius: 50%; }

/* The whole: a bar, and under it either the model panel or the chat. */
.shell { position: relative; display: grid; block-size: 100%; grid-template: auto minmax(0, 1fr) / minmax(0, 1fr); }
.shell > section { grid-row: 2; }
.shell.unread { visibility: hidden; }
.shell.dropping::after {
  content: ""; position: absolute; inset: 0.5rem; border: 2px dashed var(--accent); border-radius: var(--radius);
  background: color-mix(in oklab, var(--accent) 8%, transparent); pointer-events: none;
}
/* The page's own words, then the model and what can be done: in one line, or in two where it is narrow. */
.bar-top { display: flex; flex-wrap: wrap; align-items: center; column-gap: 1rem; padding-inline: 1.25rem 0.625rem; min-block-size: 3.25rem; border-block-end: 1px solid var(--line); }
.bar-tools { display: flex; align-items: center; column-gap: 0.25rem; flex: 999 1 34rem; min-inline-size: 0; min-block-size: 3rem; }
::slotted([slot="brand"]) { flex: 1 0 auto; max-inline-size: 100%; }
.model-name { flex: 1; min-inline-size: 0; display: flex; align-items: baseline; justify-content: center; gap: 0.625rem; }
.model-name .name { flex: none; max-inline-size: 100%; font-weight: 550; }
.model-name .size { overflow: hidden; text-overflow: ellipsis; }

/* Choosing and loading a model */
.model { overflow-y: auto; display: grid; padding: 1.5rem 1rem; }
.model-columns { margin: auto; inline-size: 100%; max-inline-size: 38rem; display: grid; grid-template-columns: minmax(0, 1fr); gap: 1.75rem; }
.card { padding: clamp(1.25rem, 5cqi, 2rem); background: var(--surface); border: 1px solid var(--line); border-radius: calc(var(--radius) * 1.5); }
.card > form, .card > .loading { display: grid; grid-template-columns: minmax(0, 1fr); gap: 1.25rem; }
.card h2 { font-size: 1.375rem; line-height: 1.25; font-weight: 620; letter-spacing: -0.011em; outline: none; }
.lead { color: var(--muted); margin-block-start: -0.875rem; text-wrap: pretty; }
.slot { display: grid; grid-template-columns: minmax(0, 1fr); gap: 0.375rem; border-radius: var(--radius); }
.slot label { font-weight: 580; }
.slot-row { display: flex; gap: 0.5rem; align-items: stretch; }
.hint { color: var(--muted); font-size: 0.875rem; }
.field {
  flex: 1; min-inline-size: 0; min-block-size: var(--target); padding: 0.5rem 0.75rem;
  background: var(--background); border: 1px solid var(--field-line); border-radius: calc(var(--radius) - 0.125rem);
}
.field::placeholder { color: var(--muted); opacity: 1; }
.field.chosen { display: flex; align-items: center; gap: 0.75rem; border-color: var(--accent); background: color-mix(in oklab, var(--accent) 7%, var(--surface)); }
.name { flex: 1; min-inline-size: 0; overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
.size { color: var(--muted); font-size: 0.875rem; white-space: nowrap; font-variant-numeric: tabular-nums; }
.stored { display: grid; grid-template-columns: minmax(0, 1fr); gap: 0.5rem; margin-block-start: 1.5rem; padding-block-start: 1.25rem; border-block-start: 1px solid var(--line); }
.stored h3 { font-size: 1rem; font-weight: 580; }
.stored-list { list-style: none; margin: 0; padding: 0; display: grid; grid-template-columns: minmax(0, 1fr); gap: 0.5rem; }
.stored-row { display: flex; align-items: center; gap: 0.25rem; min-inline-size: 0; flex: 1; }
.stored-text { flex: 1; min-inline-size: 0; display: grid; line-height: 1.35; overflow-wrap: anywhere; }
p.stored-text { display: block; margin-inline-end: 0.5rem; }
.stored-row > .plain, .stored-row > .danger { min-inline-size: 5.25rem; }
.stored-text .size { overflow: hidden; text-overflow: ellipsis; }
.card-actions { display: flex; gap: 0.5rem; flex-wrap: wrap; }
.amount { color: var(--muted); font-size: 0.9375rem; font-variant-numeric: tabular-nums; overflow-wrap: anywhere; min-block-size: 1.5em; }

.bar { appearance: none; display: block; inline-size: 100%; block-size: 0.375rem; border: 0; border-radius: 1rem; overflow: hidden; background: var(--line); color: var(--accent); }
.bar::-webkit-progress-bar { background: var(--line); }
.bar::-webkit-progress-value { background: var(--accent); border-radius: 1rem; transition: inline-size 150ms linear; }
.bar::-moz-progress-bar { background: var(--accent); border-radius: 1rem; }
.bar:indeterminate { background: linear-gradient(90deg, var(--line) 35%, var(--accent) 50%, var(--line) 65%) 0 0 / 300% 100%; animation: seek 1.8s linear infinite; }
.bar:indeterminate::-webkit-progress-bar { background: none; }
.bar:indeterminate::-moz-progress-bar { background: none; }
@keyframes seek { from { background-position: 100% 0; } to { background-position: 0 0; } }

/* The chat: what was said, what is asked next, the quiet line. */
.chat { display: grid; grid-template-rows: minmax(0, 1fr) auto auto; min-block-size: 0; }
.log { overflow-y: auto; overscroll-behavior: contain; padding: 1.5rem 1rem; scroll-padding-block-end: 2rem; }
.log:focus-visible { outline-offset: -2px; }
.empty { display: grid; min-block-size: 100%; }
.empty-content { margin: auto; inline-size: 100%; display: grid; grid-template-columns: minmax(0, 1fr); justify-items: center; gap: 0.75rem; }
.empty .picture { margin: 0; }
.previews { display: grid; gap: 0.75rem; justify-items: center; }
.previews.several, figure.several { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(9rem, 45%), 1fr)); gap: 0.75rem; inline-size: 100%; max-inline-size: var(--measure); align-items: start; }
.several .picture { inline-size: 100%; max-block-size: 16rem; object-fit: contain; background: color-mix(in oklab, var(--text) 5%, transparent); }
.examples { list-style: none; margin: 0; padding: 0; display: flex; flex-wrap: wrap; gap: 0.5rem; justify-content: center; max-inline-size: var(--measure); }
.button.example { font-weight: 450; white-space: normal; }
.invite {
  margin: auto; display: grid; justify-items: center; gap: 0.375rem; inline-size: min(100%, 26rem); padding: 3rem 1.5rem;
  background: none; border: 1.5px dashed var(--field-line); border-radius: calc(var(--radius) * 1.5); color: var(--muted); cursor: pointer; text-wrap: balance;
}
.invite strong { color: var(--text); font-size: 1.125rem; font-weight: 600; }
.invite .icon { inline-size: 2rem; block-size: 2rem; stroke-width: 1.35; color: var(--accent); margin-block-end: 0.5rem; }
.invite:has(+ .known-start:not([hidden])) { grid-template-columns: auto minmax(0, 1fr); justify-items: start; gap: 0 0.875rem; inline-size: 100%; max-inline-size: var(--measure); padding: 0.875rem 1rem; text-align: start; }
.invite:has(+ .known-start:not([hidden])) .icon { grid-row: span 2; align-self: center; margin: 0; }
.invite:hover { border-color: var(--accent); background: color-mix(in oklab, var(--accent) 5%, transparent); }

/* What the page's own model can be asked, for who has no picture at hand. */
.known-start { display: grid; grid-template-columns: minmax(0, 1fr); justify-items: center; gap: 0.75rem; inline-size: 100%; max-inline-size: var(--measure); }
.samples { list-style: none; margin: 0; padding: 0; display: grid; grid-template-columns: repeat(3, minmax(0, 10rem)); gap: 0.75rem; justify-content: center; }
.samples:empty { display: none; }
.samples li { display: grid; }
.sample {
  display: grid; grid-template-rows: auto 1fr; gap: 0.5rem; align-items: start; padding: 0.375rem 0.375rem 0.625rem; background: var(--surface);
  border: 1px solid var(--line); border-radius: var(--radius); font-size: 0.875rem; line-height: 1.35; text-wrap: balance; cursor: pointer;
}
.sample img { display: block; inline-size: 100%; aspect-ratio: 1; border-radius: calc(var(--radius) - 0.25rem); }
.sample:hover { border-color: var(--accent); }
.about { color: var(--muted); text-align: center; text-wrap: balance; }
.offer { display: flex; flex-wrap: wrap; align-items: center; gap: 0.5rem 1rem; inline-size: 100%; padding: 0.875rem 1rem; background: var(--surface); border: 1px solid var(--line); border-radius: var(--radius); text-align: start; }
.offer h2 { font-size: 1rem; font-weight: 620; }
.offer-text { flex: 1 1 20rem; display: grid; gap: 0.125rem; text-wrap: pretty; }
.offer-actions { display: flex; flex-wrap: wrap; align-items: center; gap: 0.25rem 0.5rem; }
.other-starts { display: flex; flex-wrap: wrap; justify-content: center; }
.other-starts .button { white-space: normal; }

::slotted([slot="note"]) { margin: 0; font-size: 0.875rem; color: var(--muted); overflow-wrap: anywhere; }
.exchange { inline-size: 100%; max-inline-size: var(--measure); margin-inline: auto; }
.exchange + .exchange { margin-block-start: 2.5rem; padding-block-start: 2.5rem; border-block-start: 1px solid var(--line); }
.picture { display: block; max-inline-size: 100%; max-block-size: min(24rem, 50dvh); border-radius: var(--radius); margin-block-end: 1.25rem; }
/* Turns out of sight are neither laid out nor painted: long conversations stay quick. The last ones always are, so that scrolling to the end
   ends there. What is clipped begins beside the buttons of the foot. */
.turn { content-visibility: auto; contain-intrinsic-block-size: auto 12rem; margin-inline: -0.625rem; padding-inline: 0.625rem; padding-block-end: 0.25rem; }
.exchange:last-child .turn:nth-last-child(-n + 3) { content-visibility: visible; }
.turn + .turn { margin-block-start: 1.75rem; }
.turn.left-out > :not(.left-out-note) { opacity: 0.6; }
.left-out-note { margin-block-end: 0.5rem; }
.left-out + .left-out > .left-out-note { display: none; }
.question { font-size: 1.125rem; line-height: 1.4; font-weight: 620; letter-spacing: -0.006em; white-space: pre-wrap; overflow-wrap: anywhere; }
.answer { margin-block-start: 0.625rem; font-size: 1.0625rem; line-height: 1.65; white-space: pre-wrap; overflow-wrap: anywhere; }
.answer:empty { display: none; }
.answer.markdown { white-space: normal; }
.answer a { color: var(--accent); }
.block + .block { margin-block-start: 0.75em; }
.block > h3 { margin: 0; font-size: 1.0625em; line-height: 1.4; font-weight: 640; }
.block :is(ul, ol) { margin: 0; padding-inline-start: 1.5em; }
.block li + li { margin-block-start: 0.25em; }
.block li > p { margin: 0; }
.block blockquote { margin: 0; padding-inline-start: 1em; border-inline-start: 3px solid var(--line); color: var(--muted); }
.block code { font: 0.875em / 1.5 ui-monospace, "SF Mono", Menlo, Consolas, "Liberation Mono", monospace; background: color-mix(in oklab, var(--text) 7%, transparent); border-radius: 0.25rem; padding: 0.1em 0.3em; }
.block pre { margin: 0; padding: 0.75rem 1rem; overflow-x: auto; background: color-mix(in oklab, var(--text) 6%, transparent); border-radius: calc(var(--radius) - 0.25rem); }
.block pre code { background: none; padding: 0; }
.block table { display: block; overflow-x: auto; border-collapse: collapse; font-size: 0.9375em; }
.block :is(th, td) { padding: 0.375rem 0.75rem; border: 1px solid var(--line); text-align: start; }
.block hr { border: 0; border-block-start: 1px solid var(--line); }
.asked-about .word { border-radius: 0.2em; cursor: pointer; text-decoration: underline dotted color-mix(in oklab, var(--text) 45%, transparent); text-underline-offset: 0.25em; }
.asked-about .word:not([aria-pressed="true"]):hover { background: color-mix(in oklab, var(--accent) 16%, transparent); }
.word[aria-pressed="true"] { background: var(--accent); color: var(--on-accent); text-decoration: none; }
.word[aria-busy="true"] { opacity: 0.6; }
.turn-foot [aria-pressed="true"] { color: var(--accent); background: color-mix(in oklab, var(--accent) 12%, transparent); }
figure.with-heat { position: relative; }
.heat { position: absolute; overflow: hidden; border-radius: var(--radius); pointer-events: none; }
.heat canvas { position: absolute; }
.heat-legend {
  display: flex; align-items: center; flex-wrap: wrap; column-gap: 1rem; inline-size: 100%; max-inline-size: 34rem; grid-column: 1 / -1;
  padding-inline-start: 0.875rem; margin-block: -0.5rem 1.25rem; font-size: 0.875rem; color: var(--muted);
  background: var(--surface); border: 1px solid var(--line); border-radius: var(--radius);
}
.heat-legend p { flex: 1 1 13rem; padding-block: 0.375rem; overflow-wrap: anywhere; }
.heat-legend bdi { color: var(--text); font-weight: 550; }
.heat-key { display: flex; align-items: center; gap: 0.5rem; padding-block: 0.375rem; }
.heat-scale { inline-size: 5rem; block-size: 0.625rem; border-radius: 1rem; background: #8c8c8c; }
.heat-legend .button { margin-inline-start: auto; }
.waiting { margin-block-start: 0.875rem; display: grid; gap: 0.625rem; max-inline-size: 22rem; }
.stage { color: var(--muted); font-size: 0.9375rem; font-variant-numeric: tabular-nums; }
.turn-foot { display: flex; align-items: center; flex-wrap: wrap; margin: 0.375rem -0.625rem 0; font-size: 0.875rem; color: var(--muted); }
.turn-foot .icon { inline-size: 1.0625rem; block-size: 1.0625rem; }
.note { padding-inline: 0.625rem; font-variant-numeric: tabular-nums; }

/* What went wrong, or is worth knowing */
.alert {
  display: flex; align-items: flex-start; gap: 0.75rem; flex-wrap: wrap; padding: 0.5rem 0.5rem 0.5rem 1rem; padding-inline: 1rem 0.5rem;
  background: var(--danger-surface); border: 1px solid color-mix(in oklab, var(--danger) 40%, transparent); border-radius: var(--radius);
}
.alert:focus { outline: none; }
.alert.notice { background: var(--surface); border-color: var(--line); }
.alert p { flex: 1 1 16rem; padding-block: 0.5rem; overflow-wrap: anywhere; }
.alert .button.plain { max-inline-size: 100%; padding-block: 0.375rem; white-space: normal; background: none; border-color: color-mix(in oklab, var(--danger) 45%, transparent); }
.alert.notice .button.plain { border-color: var(--line); }
/* With an answer: the words above, what can be done under them. */
.turn .alert[part~="remark"] { position: relative; gap: 0.25rem 0.5rem; }
.alert[part~="remark"] p { flex-basis: 100%; padding-inline-end: 2.75rem; }
.alert[part~="remark"] .round { position: absolute; inset-block-start: 0.25rem; inset-inline-end: 0.25rem; }
.undo .alert p { flex-basis: 9rem; }
.card .alert { margin-block-end: 1.25rem; }

.foot { padding: 0 1rem; }
.foot > * { inline-size: 100%; max-inline-size: var(--measure); margin-inline: auto; }
.foot .alert { margin-block-end: 0.75rem; }
.turn .alert { margin-block-start: 0.875rem; }
.composer { display: grid; gap: 0.25rem; padding: 0.5rem; background: var(--surface); border: 1px solid var(--field-line); border-radius: calc(var(--radius) * 1.25); }
.composer:focus-within { border-color: var(--accent); box-shadow: 0 0 0 3px color-mix(in oklab, var(--accent) 16%, transparent); }
.question-field { inline-size: 100%; max-block-size: 9.5rem; padding: 0.5rem 0.625rem; border: 0; outline: none; resize: none; background: none; line-height: 1.5; overflow-y: auto; }
.question-field::placeholder { color: var(--muted); opacity: 1; }
.composer-actions { display: flex; }
.composer-actions { flex-wrap: wrap; justify-content: start; gap: 0.25rem; align-items: center; }
.editing { display: flex; align-items: center; justify-content: space-between; gap: 0.5rem; padding-inline-start: 0.625rem; color: var(--muted); font-size: 0.875rem; }
.composer-actions .primary, .composer-actions .primary[hidden] ~ [part~="stop"] { margin-inline-start: auto; }
.thumbs { list-style: none; margin: 0; padding: 0; display: flex; gap: 0.5rem; flex-wrap: wrap; }
.thumb { flex: 1 1 13rem; min-inline-size: 0; max-inline-size: 100%; display: flex; align-items: center; gap: 0.75rem; padding: 0.375rem; padding-inline-end: 0; background: var(--background); border-radius: calc(var(--radius) - 0.125rem); }
.thumb img { inline-size: 3.5rem; block-size: 3.5rem; object-fit: cover; border-radius: calc(var(--radius) - 0.25rem); }
.thumb-text { flex: 1; min-inline-size: 0; display: grid; }
.status { display: flex; flex-wrap: wrap; justify-content: center; column-gap: 1.25rem; padding: 0.5rem 1rem 0.625rem; min-block-size: 2.5rem; font-size: 0.8125rem; color: var(--muted); font-variant-numeric: tabular-nums; }
.context { display: inline-flex; align-items: center; gap: 0.5rem; }
.meter { inline-size: 3.5rem; block-size: 0.375rem; border-radius: 1rem; overflow: hidden; background: var(--line); }
.meter-filled { display: block; block-size: 100%; background: var(--muted); }
.almost-full { color: var(--danger); }
.almost-full .meter-filled { background: var(--danger); }

/* Dialogs */
.dialog {
  inline-size: min(34rem, calc(100dvi - 2rem)); max-block-size: calc(100dvb - 2rem); padding: 0; border: 1px solid var(--line); border-radius: calc(var(--radius) * 1.5);
  background: var(--surface); color: var(--text); overflow: auto; overscroll-behavior: contain;
}
.dialog::backdrop { background: rgb(0 0 0 / 45%); }
.dialog-head { position: sticky; inset-block-start: 0; z-index: 1; display: flex; align-items: center; justify-content: space-between; padding: 0.75rem 0.75rem 0.75rem 1.5rem; padding-inline: 1.5rem 0.75rem; background: var(--surface); border-block-end: 1px solid var(--line); }
.dialog-head h2 { font-size: 1.125rem; font-weight: 620; }
.dialog-body { display: grid; grid-template-columns: minmax(0, 1fr); gap: 0.75rem; padding: 1.25rem 1.5rem 1.5rem; }
.dialog-body label { font-weight: 580; }
.settings h3 { font-size: 1rem; font-weight: 620; margin-block-start: 0.75rem; }
.setting { display: grid; gap: 0.25rem; align-content: start; min-inline-size: 0; }
.setting .field { inline-size: 100%; }
.setting-grid { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(13rem, 100%), 1fr)); gap: 1rem; }
.dialog-body .check { display: flex; align-items: center; gap: 0.75rem; min-block-size: var(--target); font-weight: 450; cursor: pointer; }
.check input { inline-size: 1.5rem; block-size: 1.5rem; accent-color: var(--accent); flex: none; }
.problem { color: var(--danger); }
.problem:empty { display: none; }
.camera { inline-size: 100%; max-block-size: 60dvb; background: #000; border-radius: var(--radius); }
textarea.field { resize: vertical; line-height: 1.5; }
.field.code { font-family: ui-monospace, monospace; font-size: 0.875rem; }
.field[aria-invalid="true"] { border-color: var(--danger); }

/* Many pictures */
.chat > .log, .chat > .alt-texts, .chat > .live { grid-row: 1; }
.alt-texts { overflow-y: auto; padding: 1.5rem 1rem; min-block-size: 0; }
.alt-head, .alt-list { inline-size: 100%; max-inline-size: var(--measure); margin-inline: auto; }
.alt-head { display: grid; grid-template-columns: minmax(0, 1fr); gap: 0.75rem; }
.alt-head h2 { font-size: 1.375rem; line-height: 1.25; font-weight: 620; letter-spacing: -0.011em; outline: none; }
.alt-head label { font-weight: 580; margin-block-end: -0.375rem; }
.alt-list { list-style: none; margin-block: 1rem 0; padding: 0; display: grid; gap: 0.25rem; }
.alt-row { display: flex; align-items: center; gap: 0.875rem; padding-block: 0.5rem; border-block-start: 1px solid var(--line); }
.alt-row > div { min-inline-size: 0; display: grid; flex: 1; }
.alt-row > .alt-picture { flex: none; align-self: start; overflow: hidden; inline-size: 3.5rem; min-block-size: 3.5rem; background: var(--line); border-radius: calc(var(--radius) - 0.25rem); }
.alt-body { display: grid; gap: 0.25rem; }
textarea.alt-text { field-sizing: content; inline-size: 100%; }
.alt-row img { inline-size: 3.5rem; block-size: 3.5rem; object-fit: cover; border-radius: calc(var(--radius) - 0.25rem); background: var(--line); flex: none; }
.alt-row .name { font-size: 0.875rem; color: var(--muted); }
.alt-text { overflow-wrap: anywhere; }
.alt-row:not([data-state="done"]) .alt-text { color: var(--muted); }
.alt-row[data-state="failed"] .alt-text { color: var(--danger); }
/* What is watched */
.live { overflow-y: auto; display: grid; grid-template: auto minmax(0, 1fr) / minmax(0, 1fr); gap: 1rem; padding: 1.5rem 1rem; min-block-size: 0; }
.live > * { inline-size: 100%; max-inline-size: 70rem; margin-inline: auto; }
.live-head { display: grid; grid-template-columns: minmax(0, 1fr); gap: 0.75rem; }
.live-title { display: flex; align-items: center; justify-content: space-between; gap: 0.5rem; margin-inline-end: -0.625rem; }
.live h2 { font-size: 1.375rem; line-height: 1.25; font-weight: 620; letter-spacing: -0.011em; outline: none; }
.live-stage { display: grid; grid-template-columns: minmax(0, 1fr); align-content: start; gap: 1rem; min-block-size: 0; }
.live-video { display: block; inline-size: 100%; max-block-size: 40dvh; object-fit: contain; background: #000; border-radius: var(--radius); }
.live-said { display: grid; grid-template-columns: minmax(0, 1fr); align-content: start; gap: 0.625rem; }
.live-question { font-size: 0.9375rem; font-weight: 550; color: var(--muted); overflow-wrap: anywhere; }
.live-answer { min-block-size: 3em; font-size: 1.125rem; white-space: pre-wrap; overflow-wrap: anywhere; }
.live-answer.muted { color: var(--muted); }
.known { display: grid; grid-template-columns: minmax(0, 1fr); gap: 0.75rem; padding-block-end: 1.25rem; border-block-end: 1px solid var(--line); }
.known h3, .own-files h3 { font-size: 1rem; font-weight: 580; }
.own-files { margin-block-end: -0.5rem; }
.known-row { align-items: start; gap: 0.75rem; }
.known-row + .known-row { padding-block-start: 0.75rem; border-block-start: 1px solid var(--line); }
.known-row .name { white-space: normal; font-weight: 550; }
.tag { margin-inline-start: 0.5rem; padding: 0.0625rem 0.5rem; border-radius: 1rem; background: color-mix(in oklab, var(--accent) 12%, transparent); color: var(--accent); font-size: 0.8125rem; font-weight: 500; white-space: nowrap; }
.good-at { font-size: 0.9375rem; margin-block: 0.125rem; }
.more-models { display: grid; grid-template-columns: minmax(0, 1fr); }
.more-models > ul { padding-block-start: 0.5rem; }
.more { justify-content: start; list-style: none; }
.more::-webkit-details-marker { display: none; }
.more::before { content: ""; inline-size: 0.5rem; block-size: 0.5rem; margin-inline: 0.125rem 0.25rem; border: solid currentColor; border-width: 0 1.75px 1.75px 0; rotate: -45deg; transition: rotate 120ms; }
[open] > .more::before { rotate: 45deg; translate: 0 -0.125rem; }
.stored-text .size.wrap { white-space: normal; }

/* With more buttons there is less room; how large the context is, is said with how much of it is used. */
@container chat (inline-size < 90rem) {
  .talking .model-name .size { display: none; }
}

@container chat (inline-size < 34rem) {
  .slot-row:has(.plain:not([hidden])) { flex-wrap: wrap; }
  .slot-row .field:not(.chosen) { flex-basis: 100%; }
  .slot-row .plain { flex: 1; }
  .stored-row.asked { flex-wrap: wrap; gap: 0.5rem; padding-block-end: 0.5rem; }
  .stored-row.asked .stored-text { flex-basis: 100%; }
  .stored-row.asked .button { flex: 1; }
  .bar-top { padding-inline: 1rem 0.5rem; }
  .model-name { justify-content: start; }
  /* Whole, however long it is. */
  .model-name .name { white-space: normal; overflow-wrap: anywhere; line-height: 1.25; }
  .model-name .size { display: none; }
  .bar-top .button span { position: absolute; inline-size: 1px; block-size: 1px; overflow: hidden; clip-path: inset(50%); }
  .log, .live { padding-block: 1rem; }
  .live, .live-stage { gap: 0.75rem; }
  .live-video { max-block-size: 30dvh; }
  /* Beside the others, in one line with what sends the question. */
  .composer-actions [part~="picture"] span { position: absolute; inline-size: 1px; block-size: 1px; overflow: hidden; clip-path: inset(50%); }
  .composer-actions [part~="picture"] { padding-inline: 0.625rem; }
  .status { column-gap: 0.875rem; font-size: 0.75rem; }
  /* Several thumbnails in a row; their names are with the buttons that remove them. */
  .thumbs:has(.thumb + .thumb) { gap: 0.375rem; }
  .thumbs:has(.thumb + .thumb) .thumb { flex: 0 0 auto; gap: 0; }
  .thumbs:has(.thumb + .thumb) .thumb-text { position: absolute; inline-size: 1px; block-size: 1px; overflow: hidden; clip-path: inset(50%); }
}

/* Room for both: the picture stays in view while it is talked about. */
@container chat (inline-size >= 60rem) {
  .model-columns { max-inline-size: 70rem; gap: 4.5rem; align-items: start; }
  slot.filled { display: block; position: sticky; inset-block-start: 0; padding-block-start: 2rem; }
  .model-columns:has(slot.filled) { grid-template-columns: minmax(0, 5fr) minmax(0, 6fr); }
  .model-columns:not(:has(slot.filled)) { max-inline-size: 38rem; }
  .exchange.with-picture { max-inline-size: 70rem; display: grid; grid-template-columns: minmax(0, 5fr) minmax(0, 6fr); gap: 3rem; align-items: start; }
  .exchange.with-picture figure { position: sticky; inset-block-start: 0; display: grid; justify-items: end; }
  .exchange.with-picture figure.with-heat { position: sticky; }
  .heat-legend { margin-block: 0.75rem 0; }
  .live-stage { grid-template-columns: minmax(0, 6fr) minmax(0, 5fr); gap: 2.5rem; }
  .live-video { max-block-size: 60dvh; }
  /* Of the page's height, not of what the composer leaves: a picture must not shrink while somebody types. */
  .picture { max-block-size: min(30rem, 58dvh); margin: 0; }
}

@media (prefers-reduced-motion: reduce) {
  *, *::before, *::after { transition: none !important; }
  .bar:indeterminate { animation: none; background: repeating-linear-gradient(90deg, var(--accent) 0 0.5rem, var(--line) 0.5rem 1rem); }
}
@media (forced-colors: active) {
  .button, .card, .composer, .field { border-color: ButtonBorder; }
  .meter { outline: 1px solid CanvasText; }
  .meter-filled { background: CanvasText; }
  .icon { stroke: ButtonText; }
}
`;
