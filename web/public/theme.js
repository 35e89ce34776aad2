// Runs before the first paint, so that a chosen theme does not flash the other one.
(function () {
  var theme = null;
  try {
    theme = localStorage.getItem("tunesmith.theme");
  } catch (error) {
    // Storage may be switched off; the system's theme is used then.
  }
  if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
})();
