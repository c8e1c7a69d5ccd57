/** From which of the open workflows a prompt was queued: node ids alone are the same in many. */

import { api } from "../../../scripts/api.js";
import { app } from "../../../scripts/app.js";

const sources = new Map(); // of prompts: {workflow, graph}, the tab and its graph's id
const { queuePrompt } = api;

api.queuePrompt = function (...given) {
  const source = { workflow: openWorkflow(), graph: given[1]?.workflow?.id };
  const answer = queuePrompt.apply(this, given);
  answer.then(({ prompt_id }) => sources.set(prompt_id, source)).catch(() => {}); // refused: theirs to tell
  return answer;
};

for (const end of ["execution_success", "execution_error", "execution_interrupted"])
  api.addEventListener(end, ({ detail }) => sources.delete(detail.prompt_id));

/**
 * Whether the open workflow is the one that a prompt was queued from.
 *
 * After a reload of the page its graph's id has to do, once the host has told which that is; older
 * frontends have no tabs or no ids, so that any graph is taken for it.
 */
export function isQueuedHere(prompt) {
  const source = sources.get(prompt);
  if (!source) askFor(prompt);
  else if (source.workflow) return source.workflow === openWorkflow();
  else return source.graph === (app.rootGraph ?? app.graph).id;
  return false;
}

/** Not every frontend has workflows in tabs. */
function openWorkflow() {
  return app.extensionManager?.workflow?.activeWorkflow;
}

/** Hear from the host which graph a prompt is of that was queued before the page was loaded. */
async function askFor(prompt) {
  sources.set(prompt, { graph: null }); // none, until the host has told
  const told = api.fetchApi("/queue").then((answer) => answer.json());
  const { queue_running: running = [] } = await told.catch(() => ({}));
  const job = running.find(([, id]) => id === prompt);
  if (job) sources.set(prompt, { graph: job[3]?.extra_pnginfo?.workflow?.id });
  else sources.delete(prompt);
}
