"""The looks and the two small scripts of the page. No network: neither names anything outside the file."""

from __future__ import annotations

CSS = """
:root { color-scheme: light dark; --ground: #fbfaf8; --card: #ffffff; --ink: #22252a; --soft: #646b75; --line:
  #e3e0da;
  --accent: #0a5f96; --quote: #f1efe9; --good: #1a6b3c; --bad: #b3261e; --open: #8a5a00; --idle: #646b75; }
:root[data-theme=dark] { --ground: #15171a; --card: #1d2024; --ink: #e4e6e9; --soft: #9aa2ad; --line: #33383f;
  --accent: #7cc0ee; --quote: #24282d; --good: #6fcf97; --bad: #ff8a80; --open: #e5b567; --idle: #9aa2ad; }
@media (prefers-color-scheme: dark) { :root:not([data-theme=light]) { --ground: #15171a; --card: #1d2024;
  --ink: #e4e6e9; --soft: #9aa2ad; --line: #33383f; --accent: #7cc0ee; --quote: #24282d; --good: #6fcf97;
  --bad: #ff8a80; --open: #e5b567; --idle: #9aa2ad; } }
:root[data-theme=light] { color-scheme: light; } :root[data-theme=dark] { color-scheme: dark; }
* { box-sizing: border-box; }
html { scroll-behavior: smooth; scroll-padding-top: 1rem; -webkit-text-size-adjust: 100%; }
body { margin: 0; background: var(--ground); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", sans-serif; }
.page { max-width: 82rem; margin: 0 auto; padding: 2rem 1.25rem 4rem; }
header.top { display: flex; gap: 1rem; align-items: flex-start; justify-content: space-between; }
h1, h2, h3 { line-height: 1.25; text-wrap: balance; }
h1 { font-size: 1.9rem; margin: 0 0 .3rem; letter-spacing: -.01em; }
h2 { font-size: 1.3rem; margin: 3rem 0 .8rem; } h3 { font-size: 1.05rem; margin: 0 0 .6rem; } h3 .soft {
  font-weight: 400; font-size: .88rem; }
p { margin: .4rem 0; } a { color: var(--accent); }
.soft { color: var(--soft); } .small { font-size: .88rem; }
button { font: inherit; color: inherit; background: none; border: 1px solid var(--line); border-radius: .5rem;
  padding: .3rem .7rem; cursor: pointer; }
button:focus-visible, a:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; }
nav { display: flex; flex-wrap: wrap; gap: .3rem .9rem; margin: 1.2rem 0 0; padding: .8rem 0; font-size:
  .92rem;
  border-block: 1px solid var(--line); }
nav a { text-decoration: none; } nav a:hover { text-decoration: underline; }
.counts { display: flex; flex-wrap: wrap; gap: .6rem; margin: 1rem 0 0; padding: 0; list-style: none; }
.counts li { background: var(--card); border: 1px solid var(--line); border-radius: .7rem; padding: .5rem
  .9rem; }
.counts b { display: block; font-size: 1.35rem; line-height: 1.2; font-variant-numeric: tabular-nums; }
.card { background: var(--card); border: 1px solid var(--line); border-radius: .8rem; padding: 1.1rem 1.2rem;
  margin: 0 0 1.1rem; }
blockquote { margin: 0 0 1rem; padding: .6rem .9rem; background: var(--quote); border-left: 3px solid
  var(--accent);
  border-radius: 0 .5rem .5rem 0; }
blockquote b { display: block; font-size: .78rem; color: var(--soft); font-weight: 600; }
figure { margin: 0 0 1rem; overflow-x: auto; } img { max-width: 100%; height: auto; display: block; }
:root[data-theme=dark] img { filter: invert(.885) hue-rotate(180deg); }
@media (prefers-color-scheme: dark) { :root:not([data-theme=light]) img { filter: invert(.885)
  hue-rotate(180deg); } }
.scroll { overflow-x: auto; margin: 0 -.2rem; padding: 0 .2rem; }
table { border-collapse: collapse; font-size: .88rem; font-variant-numeric: tabular-nums; min-width: 40%; }
th, td { padding: .34rem .7rem; text-align: left; border-bottom: 1px solid var(--line); vertical-align: top; }
td.n, th.n { text-align: right; } td:not(.wide) { white-space: nowrap; } td.wide { min-width: 11rem; }
thead th { border-bottom: 2px solid var(--line); font-weight: 600; white-space: nowrap; padding: 0; }
th button { border: 0; border-radius: 0; font-weight: 600; padding: .34rem .7rem; width: 100%; text-align:
  inherit; }
th button::after { content: "\\2195"; opacity: .3; margin-left: .35em; font-size: .85em; }
th[aria-sort=ascending] button::after { content: "\\2191"; opacity: 1; }
th[aria-sort=descending] button::after { content: "\\2193"; opacity: 1; }
tbody tr:hover { background: var(--quote); }
.badge { display: inline-block; border: 1px solid currentColor; border-radius: 1rem; padding: 0 .6rem;
  font-size: .82rem;
  font-weight: 600; white-space: nowrap; }
.supported { color: var(--good); } .contradicted { color: var(--bad); } .undecided { color: var(--open); }
#claims td, #claims th button { padding-inline: .4rem; white-space: normal; } #claims td.wide { min-width: 8rem; }
#claims td.n, #claims .badge { white-space: nowrap; }
.idle { color: var(--idle); } tr.unlike td { color: var(--soft); }
ul.notes { margin: .8rem 0 0; padding-left: 1.1rem; font-size: .9rem; } .flag { color: var(--open); }
code { font: .86em ui-monospace, "SFMono-Regular", Menlo, Consolas, monospace; background: var(--quote);
  border-radius: .3rem; padding: .1em .35em; overflow-wrap: anywhere; }
details { margin: .8rem 0 0; } summary { cursor: pointer; color: var(--soft); font-size: .9rem; }
@media (max-width: 40rem) { .page { padding: 1.2rem .8rem 3rem; } h1 { font-size: 1.45rem; } h2 { font-size:
  1.15rem; }
  .card { padding: .9rem .8rem; border-radius: .6rem; } th, td, th button { padding-inline: .5rem; } th {
    padding: 0; }
  figure img { max-width: none; width: auto; max-height: 21rem; } }
@media print { nav, #theme { display: none; } .card { break-inside: avoid; } }
"""

# Sorting: a column of numbers by number, `never` last and `off` first, everything else by letters; stable.
SCRIPT = """
(function () {
  "use strict";
  var root = document.documentElement, toggle = document.getElementById("theme");
  function dark() {
    var chosen = root.getAttribute("data-theme");
    return chosen ? chosen === "dark" : window.matchMedia("(prefers-color-scheme: dark)").matches;
  }
  function name() { toggle.textContent = dark() ? "Light" : "Dark"; }
  toggle.addEventListener("click", function () { root.setAttribute("data-theme", dark() ? "light" : "dark");
    name(); });
  name();
  function key(row, column) {
    var text = row.cells[column].textContent.trim();
    if (text === "never") { return Infinity; }
    if (text === "off" || text === "") { return -Infinity; }
    return /^[-+]?[0-9.]/.test(text) && !isNaN(parseFloat(text)) ? parseFloat(text) : text.toLowerCase();
  }
  function compare(a, b) {
    if (typeof a === typeof b) { return a < b ? -1 : a > b ? 1 : 0; }
    return typeof a === "number" ? -1 : 1;
  }
  function sort(head) {
    var table = head.closest("table"), body = table.tBodies[0], column = head.cellIndex;
    var up = head.getAttribute("aria-sort") !== "ascending";
    Array.prototype.forEach.call(table.tHead.rows[0].cells, function (cell) {
      cell.removeAttribute("aria-sort"); });
    head.setAttribute("aria-sort", up ? "ascending" : "descending");
    Array.prototype.slice.call(body.rows)
      .sort(function (a, b) { return (up ? 1 : -1) * compare(key(a, column), key(b, column)); })
      .forEach(function (row) { body.appendChild(row); });
  }
  document.querySelectorAll("th button").forEach(function (button) {
    button.addEventListener("click", function () { sort(button.parentNode); });
  });
}());
"""
