// Sorting: a column of numbers by number, `never` last and `off` first, everything else by letters; stable.
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
  // A printed page shows what is folded on the screen.
  window.addEventListener("beforeprint", function () {
    document.querySelectorAll("details").forEach(function (one) { one.open = true; });
  });
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
