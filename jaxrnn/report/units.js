
// Colours a text of the page by one unit, and lets the reader choose which.
for (const explorer of document.querySelectorAll(".units")) {
  const part = (name) => explorer.querySelector(`.${name}`);
  const texts = JSON.parse(explorer.querySelector("script").textContent);
  const [textChoice, signalChoice, unitChoice] = ["text", "signal", "unit"].map(part);
  let shown = []; // {token, value, span} of the text as it is coloured
  let at = 0; // the token that the arrow keys are at

  const fill = (choice, names) => {
    const former = choice.selectedIndex;
    choice.replaceChildren(...names.map((name, index) => new Option(name, index)));
    choice.selectedIndex = former >= 0 && former < names.length ? former : 0;
    choice.disabled = names.length < 2;
  };
  const text = () => texts[textChoice.selectedIndex];
  const signal = () => text().signals[signalChoice.selectedIndex];

  const fillSignals = () => {
    fill(signalChoice, text().signals.map((one) => one.name));
    fillUnits();
  };
  const fillUnits = () => {
    fill(unitChoice, signal().units);
    colour();
  };

  const colour = () => {
    const values = numbers(signal(), unitChoice.selectedIndex, text().tokens.length);
    shown = text().tokens.map((token, index) => {
      const span = document.createElement("span");
      span.textContent = token.replaceAll("\n", "↵\n");
      span.style.background = background(values[index], signal().high);
      span.dataset.at = index;
      return { token, value: values[index], span };
    });
    part("coloured").replaceChildren(...shown.map((one) => one.span));
    const { low, high } = signal();
    part("low").textContent = low.toPrecision(3);
    part("high").textContent = high.toPrecision(3);
    const ends = (low < 0 ? [low, 0, high] : [0, high]).map((value) => background(value, high));
    part("scale").style.background = `linear-gradient(to right, ${ends.join(", ")})`;
    for (const [name, step] of [["previous", -1], ["next", 1]]) {
      part(name).disabled = !(unitChoice.selectedIndex + step in unitChoice.options);
    }
    at = Math.min(at, shown.length - 1);
    tell(at);
    if (part("numbers").parentElement.open) tabulate();
  };

  const tell = (index) => {
    shown[at]?.span.classList.remove("here");
    at = index;
    const { token, value, span } = shown[at];
    span.classList.add("here");
    part("readout").textContent = `${JSON.stringify(token)} at ${at}: ${written(value)}`;
  };

  const tabulate = () => {
    const table = document.createElement("table");
    const head = table.createTHead().insertRow();
    for (const name of ["at", "token", "value"]) {
      const cell = document.createElement("th");
      cell.scope = "col";
      cell.textContent = name;
      head.append(cell);
    }
    const body = table.createTBody();
    shown.forEach(({ token, value }, index) => {
      const row = body.insertRow();
      for (const cell of [index, JSON.stringify(token), written(value)]) {
        row.insertCell().textContent = cell;
      }
    });
    part("numbers").replaceChildren(table);
  };

  const go = (step) => {
    unitChoice.selectedIndex += step;
    colour();
  };
  textChoice.addEventListener("change", fillSignals);
  signalChoice.addEventListener("change", fillUnits);
  unitChoice.addEventListener("change", colour);
  part("previous").addEventListener("click", () => go(-1));
  part("next").addEventListener("click", () => go(1));
  part("numbers").parentElement.addEventListener("toggle", (event) => {
    if (event.target.open) tabulate();
  });
  part("coloured").addEventListener("pointerover", (event) => {
    if (event.target.dataset.at) tell(Number(event.target.dataset.at));
  });
  part("coloured").addEventListener("keydown", (event) => {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!step) return;
    event.preventDefault();
    tell(Math.min(Math.max(at + step, 0), shown.length - 1));
    shown[at].span.scrollIntoView({ block: "nearest" });
  });
  fill(textChoice, texts.map((one) => one.name));
  fillSignals();
}

// The numbers of one unit of a signal: a byte each, 255 for none.
function numbers({ low, high, bytes }, unit, length) {
  const levels = atob(bytes).slice(unit * length, (unit + 1) * length);
  return Array.from(levels, (level) => {
    const byte = level.charCodeAt(0);
    return byte === 255 ? null : low + (byte / 254) * (high - low);
  });
}

function background(value, high) {
  const strength = (value ?? 0) / high;
  const hue = strength > 0 ? "--positive" : "--negative";
  return `rgba(var(${hue}), ${(0.6 * Math.abs(strength)).toFixed(3)})`;
}

function written(value) {
  return value === null ? "none" : value.toPrecision(3);
}
