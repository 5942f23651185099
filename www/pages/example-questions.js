// The data set that comes with the page: questions about its three pictures, in LLaVA-Bench's form, as files of a folder.

const FOLDER = "examples/questions";
const PICTURES = ["pets.png", "fruit.png", "travel.png"];

/** @returns {Promise<File[]>}  with their places in the folder, as a folder chooser gives them */
export function exampleQuestions() {
  return Promise.all([
    ...["questions.jsonl", "answers.jsonl", "context.jsonl"].map((name) => fileAt(`${FOLDER}/${name}`, name)),
    ...PICTURES.map((name) => fileAt(`examples/${name}`, `images/${name}`)),
  ]);
}

/**
 * @param {string} address
 * @param {string} place
 */
async function fileAt(address, place) {
  const answer = await fetch(address);
  if (!answer.ok) throw new Error(`${address}: ${answer.status}`);
  const file = new File([await answer.blob()], place.split("/").pop() ?? place);
  Object.defineProperty(file, "webkitRelativePath", { value: `questions/${place}` });
  return file;
}
