// The Vote tab. It knows of a ballot what the server tells before the vote: an id, a prompt and two pictures.
const KEYS = {
  1: "left", 2: "right", 3: "tie", 4: "both bad",
  ArrowLeft: "left", ArrowRight: "right", ArrowUp: "tie", ArrowDown: "both bad",
};
const PATIENCE = 1000; // milliseconds between two questions for a pair that is still being painted
const part = (name) => element.querySelector("." + name);
const steps = [...element.querySelectorAll(".step")];
const answerButtons = [...element.querySelectorAll(".answers button")];
const rest = (milliseconds) => new Promise((done) => setTimeout(done, milliseconds));
const rater = raterName();
let shown = null; // the ballot on the page
let upcoming = null; // a promise of the next one, its pictures decoded
let answers = {};

function raterName() {
  const drawn = [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  try {
    if (!localStorage.getItem("alchemist-rater")) localStorage.setItem("alchemist-rater", drawn);
    return localStorage.getItem("alchemist-rater");
  } catch {
    return drawn; // a browser that keeps nothing: one rater a visit
  }
}

function say(text) {
  part("status").textContent = text;
}

function count(mine) {
  part("mine").textContent = mine === 0 ? "" : `You have voted ${mine === 1 ? "once" : mine + " times"}.`;
}

// Ask the server until it answers; a vote is known by its ballot, so asking again never counts twice.
async function asked(question, given) {
  for (let wait = PATIENCE; ; wait = Math.min(2 * wait, 15000)) {
    try {
      return await server[question](given);
    } catch {
      say("The server does not answer. Trying again …");
      await rest(wait);
    }
  }
}

async function dealt() {
  for (;;) {
    const ballot = await asked("deal", { rater });
    if (ballot.ballot) {
      await Promise.all([ballot.left, ballot.right].map(decoded));
      return ballot;
    }
    if (!shown) say(ballot.says);
    await rest(PATIENCE);
  }
}

async function decoded(source) {
  const image = new Image();
  image.src = source;
  await image.decode();
}

async function open() {
  const focused = element.contains(document.activeElement);
  element.dataset.phase = "wait";
  shown = null;
  shown = await (upcoming || dealt());
  upcoming = null;
  answers = {};
  part("asked").textContent = shown.prompt;
  for (const side of ["left", "right"]) {
    part(side).querySelector("img").src = shown[side];
    part(side).querySelector(".name").textContent = side === "left" ? "Left" : "Right";
  }
  count(shown.mine);
  say("");
  ask();
  element.dataset.phase = "ask";
  if (focused) answerButtons[0].focus({ preventScroll: true });
  upcoming = dealt();
}

function ask() {
  const open = steps.findIndex((step) => !(step.dataset.aspect in answers));
  steps.forEach((step, place) => {
    step.classList.toggle("open", place === open);
    step.classList.toggle("done", step.dataset.aspect in answers);
    step.querySelector(".answer").textContent = answers[step.dataset.aspect] || "";
    if (place === open) step.setAttribute("aria-current", "step");
    else step.removeAttribute("aria-current");
  });
  if (open >= 0) part("question").textContent = steps[open].dataset.question;
  return open;
}

function choose(choice) {
  if (element.dataset.phase !== "ask") return;
  answers[steps[ask()].dataset.aspect] = choice;
  if (ask() < 0) cast();
}

async function cast() {
  element.dataset.phase = "cast";
  const receipt = await asked("vote", { ballot: shown.ballot, answers, rater });
  if (receipt.says) {
    say(receipt.says);
    shown = null;
    await rest(2500);
    return open();
  }
  for (const side of ["left", "right"]) part(side).querySelector(".name").textContent = receipt[side];
  part("question").textContent = `Thank you. Left was ${receipt.left.toLowerCase()}, right was ${receipt.right.toLowerCase()}.`;
  count(receipt.mine);
  say("");
  element.dataset.phase = "told";
  if (element.contains(document.activeElement)) part("next").focus({ preventScroll: true });
  trigger("voted");
}

function pressed(event) {
  const busy = event.target.closest("input, textarea, select, [contenteditable], [role=slider]");
  const changed = event.ctrlKey || event.metaKey || event.altKey || event.shiftKey || event.repeat;
  if (busy || changed || !part("pair").offsetParent) return;
  const phase = element.dataset.phase;
  if (phase === "ask" && event.key in KEYS) choose(KEYS[event.key]);
  else if (phase === "ask" && event.key.toLowerCase() === "s") open();
  else if (phase === "told" && ["n", "N", "ArrowRight"].includes(event.key)) open();
  else return;
  event.preventDefault();
}

answerButtons.forEach((button) => button.addEventListener("click", () => choose(button.dataset.choice)));
part("next").addEventListener("click", open);
part("skip").addEventListener("click", open);
document.addEventListener("keydown", pressed);
new IntersectionObserver((seen, observer) => {
  if (!seen.some((entry) => entry.isIntersecting)) return; // no ballot for those who never come here
  observer.disconnect();
  open();
}).observe(element);
