"use strict";
const copy = async text => {
  try { await navigator.clipboard.writeText(text); return true; } catch { /* denied, or not there: the older way */ }
  const area = document.createElement("textarea");
  area.value = text;
  document.body.append(area);
  area.select();
  const done = document.execCommand("copy");
  area.remove();
  return done;
};
const tableOf = button => button.closest("details").querySelector("table");
const cellsOf = row => [...row.cells];
for (const button of document.querySelectorAll(".copy")) button.onclick = async () => {
  const table = tableOf(button);
  const done = await copy([...table.rows].map(row => cellsOf(row).map(cell => cell.innerText).join("\t")).join("\n"));
  if (!done) getSelection().selectAllChildren(table);
  button.textContent = done ? "copied" : "selected: press Ctrl+C";
};

// 1,234 as 1234. A text that a spreadsheet would take for a formula gets an apostrophe before it.
const plain = cell => {
  const text = cell.innerText;
  if (cell.classList.contains("n") && /^[-+]?[\d,]*\.?\d+(e[-+]?\d+)?%?$/.test(text)) return text.replaceAll(",", "");
  return /^[=+@\t\r-]/.test(text) ? "'" + text : text;
};
const quoted = text => /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
for (const button of document.querySelectorAll(".csv")) button.onclick = () => {
  const lines = [...tableOf(button).rows].map(row => cellsOf(row).map(cell => quoted(plain(cell))).join(","));
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([lines.join("\r\n") + "\r\n"], {type: "text/csv"}));
  const title = button.closest("details").querySelector("h3").innerText;
  link.download = `${title.toLowerCase().replaceAll(/[^a-z0-9]+/g, "-").replaceAll(/^-|-$/g, "")}.csv`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
};

const number = text => parseFloat(text.replaceAll(",", ""));
const sort = (head, at) => {
  const body = head.closest("table").tBodies[0], rows = [...body.rows].filter(row => !row.classList.contains("total"));
  const down = head.getAttribute("aria-sort") === "ascending";
  const isNumber = head.classList.contains("n");
  const value = row => row.cells[at].innerText;
  rows.sort((a, b) => {
    const [x, y] = isNumber ? [number(value(a)), number(value(b))] : [value(a), value(b)];
    if (isNumber && (isNaN(x) || isNaN(y))) return isNaN(x) - isNaN(y); // what is no number stays below
    return (isNumber ? x - y : x.localeCompare(y)) * (down ? -1 : 1);
  });
  const total = body.querySelector("tr.total");
  for (const row of rows) body.insertBefore(row, total);
  for (const other of head.parentElement.cells) other.removeAttribute("aria-sort");
  head.setAttribute("aria-sort", down ? "descending" : "ascending");
};
for (const head of document.querySelectorAll("th")) {
  const button = document.createElement("button");
  button.append(...head.childNodes);
  button.onclick = () => sort(head, head.cellIndex);
  head.append(button);
}

// What each stage did with an id, as `unirefine trace` says it. data: report/search.py describes it.
const steps = (data, name) => {
  const [cluster, at, what] = data.ids[name], kept = [["records", name], ["curate", "kept"]];
  if (cluster < 0) { // at: the stage that removed it
    const before = data.stages.slice(0, data.stages.indexOf(at));
    const earlier = {records: name, split: "train"};
    return [...before.map(stage => [stage, earlier[stage] ?? "kept"]), [at, "removed: " + what]];
  }
  const [id, size, side] = data.clusters[cluster];
  const counted = `${size.toLocaleString("en")} member${size === 1 ? "" : "s"}`;
  kept.push(["cluster", `${id === name ? "is" : "in"} ${id}, ${counted}`], ["split", side], ["decontaminate", "kept"]);
  const place = `${data.shards[at]}, `;
  if (typeof what === "string") return [...kept, ["shard", place + what]];
  return [...kept, ["shard", `${place}sequence ${what.toLocaleString("en")}`]];
};
const index = document.getElementById("ids");
if (index) {
  const data = JSON.parse(index.textContent), answer = document.querySelector(".answer");
  const spellings = name => /^uniref\d+_/i.test(name)
    ? [name, name.replace(/^uniref(\d+)_/i, "UniRef$1_")] : ["UniRef90_" + name, name, "UniRef50_" + name];
  document.querySelector(".search").onsubmit = event => {
    event.preventDefault();
    const name = document.getElementById("id").value.trim();
    const found = spellings(name).find(one => Object.hasOwn(data.ids, one));
    const command = `unirefine trace '${name.replaceAll("'", "'\\''")}' --results '${data.results.replaceAll("'", "'\\''")}'`;
    const lines = found ? steps(data, found).map(([stage, text]) => stage.padEnd(15) + text) : [];
    answer.textContent = found ? [found, ...lines, "", "All of it: " + command].join("\n")
      : `${name} is not on this page. ${data.covers} This command looks further:\n${command}`;
    answer.hidden = !name;
  };
}

// what was open on the screen is as it was after printing
let folded = [];
addEventListener("beforeprint", () => {
  folded = [...document.querySelectorAll("details:not([open])")];
  for (const one of folded) one.open = true;
});
addEventListener("afterprint", () => { for (const one of folded) one.open = false; });
if (matchMedia("(max-width: 72rem)").matches) document.querySelector("nav details").open = false;
for (const link of document.querySelectorAll("nav a")) link.onclick = () => {
  if (matchMedia("(max-width: 72rem)").matches) document.querySelector("nav details").open = false;
};
