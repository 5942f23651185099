// The language that the pages speak; site.js chooses it.

import { Language } from "../strings/language.js";

export const words = new Language();
